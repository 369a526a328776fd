//! Unit files: what a unit is, read from TOML and checked. The format is described in `docs/formats/unit.md`.

mod capability;
mod catalog;
mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aios_core::quantity::ByteSize;
use rustix::thread::CapabilitySet;

pub use self::capability::Capability;
pub use self::catalog::{Catalog, Entry};
pub use self::file::{Loaded, UnitFileError, load, parse};
use crate::supervisor::{ReadyWhen, Restart};

/// A unit whose file is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub description: String,
    /// Absolute path of the program, then its arguments; never empty.
    pub command: Vec<String>,
    pub user: String,
    pub after: Vec<String>,
    pub requires: Vec<String>,
    pub ready: ReadyWhen,
    pub start_timeout: Duration,
    pub stop_timeout: Duration,
    pub restart: Restart,
    pub environment: BTreeMap<String, String>,
    /// Name below the runtime directory of aiOS.
    pub runtime_directory: Option<String>,
    /// Name below the data directory.
    pub state_directory: Option<String>,
    /// Names of the secrets that are handed over, where this device has them.
    pub credentials: Vec<String>,
    /// The bounding set; `None` leaves root all that PID 1 has.
    pub capabilities: Option<CapabilitySet>,
    pub limits: Limits,
    /// What its processes can reach; `None`: whatever their user may.
    pub confine: Option<Confine>,
    /// A terminal to run on instead of the log; only the emergency shell has one.
    pub terminal: Option<PathBuf>,
}

/// Bounds on what a unit may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_max: Option<ByteSize>,
    pub memory_high: Option<ByteSize>,
    pub cpu_weight: Option<u64>,
    pub tasks_max: Option<u64>,
    pub open_files: Option<u64>,
}

/// What the processes of a unit can reach, besides its own directories, its program and `/dev/null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confine {
    /// Files and folders, with all below, that can be read.
    pub read: Vec<PathBuf>,
    /// The same that can be changed too.
    pub write: Vec<PathBuf>,
    /// The same that can be executed and read.
    pub execute: Vec<PathBuf>,
    /// Ports that it can listen on over TCP; `None`: any.
    pub bind_tcp: Option<Vec<u16>>,
    /// Ports of others that it can connect to over TCP; `None`: any.
    pub connect_tcp: Option<Vec<u16>>,
}

impl Unit {
    /// A shell on the console, for when the operator allowed one and the boot went wrong.
    pub fn emergency_shell(console: PathBuf) -> Self {
        Unit {
            name: "emergency-shell".into(),
            description: "Emergency shell on the console".into(),
            command: vec!["/bin/sh".into(), "-l".into()],
            user: "root".into(),
            after: Vec::new(),
            requires: Vec::new(),
            ready: ReadyWhen::Started,
            start_timeout: file::START_TIMEOUT,
            stop_timeout: Duration::from_secs(1),
            restart: Restart::Always,
            environment: BTreeMap::from([("TERM".into(), "linux".into())]),
            runtime_directory: None,
            state_directory: None,
            credentials: Vec::new(),
            capabilities: None,
            limits: Limits::default(),
            confine: None,
            terminal: Some(console),
        }
    }
}
