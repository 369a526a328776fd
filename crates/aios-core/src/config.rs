//! `aios.toml`: one schema for the whole system, in layers.
//!
//! Later layers win key by key: built-in defaults, then `/etc/aios/aios.toml` (the image's), then
//! `/var/lib/aios/config/aios.toml` (the device's, imported from the `AIOS-CONF` volume at first boot). Unknown keys are
//! refused. An error names file, line and key.

mod fleet;
mod install;
mod layers;
mod memory;
mod models;
mod plugins;
mod tools;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use fleet::{Broker, BrokerError, Fleet, is_device_id};
pub use install::{AfterInstall, Install, InstallDisk};
pub use layers::{ConfigError, Layer, from_layers, load, read, system_layers};
pub use memory::Memory;
pub use models::Models;
pub use plugins::Plugins;
pub use tools::Tools;

use crate::{
    paths,
    quantity::{ByteSize, HumanDuration},
};

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The machine.
    pub system: System,
    /// The console (serial port, screen).
    pub console: Console,
    /// PID 1.
    pub init: Init,
    /// What the services log.
    pub log: Log,
    /// The local model runtime.
    pub runtime: Runtime,
    /// Where models come from, and which are trusted.
    pub models: Models,
    /// The tools.
    pub tools: Tools,
    /// What the device remembers.
    pub memory: Memory,
    /// Which plugins are trusted.
    pub plugins: Plugins,
    /// The fleet that this device is part of.
    pub fleet: Fleet,
    /// What a live medium installs by itself.
    pub install: Install,
}

/// `[system]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct System {
    /// Host name: letters, digits and `-`, at most 63.
    pub hostname: String,
}

/// `[console]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Console {
    /// A root shell on the console, without a password. Off unless whoever holds the console may do everything.
    pub emergency_shell: bool,
}

/// `[init]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Init {
    /// The hardware watchdog resets the machine when PID 1 has been stuck for so long. `0s` leaves it alone.
    pub watchdog: HumanDuration,
    /// Memory for the captured output of each unit.
    pub log_ring: ByteSize,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// What the services write to their logs.
    pub level: LogLevel,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What needs somebody's attention.
    Error,
    /// What may need it.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// How it happened.
    Debug,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Runtime {
    /// Id of the model that the id `default` names; loaded at start. Empty: none.
    pub default_model: String,
    /// Id of the model that makes embeddings; loaded by the first request for some. Empty: none.
    pub embedding_model: String,
    /// Where models are looked for, each as `<id>/model.gguf`, the embedding model as `<id>/model.safetensors`. The first directory that has an id wins.
    pub model_dirs: Vec<PathBuf>,
    /// Threads for arithmetic. 0: one per processor.
    pub threads: usize,
    /// Requests worked on at once. Each takes memory for a context.
    pub slots: usize,
    /// Requests that may wait for a slot; one more is answered with 429.
    pub queue: usize,
    /// Longest context in tokens, where the model was trained for more.
    pub context: usize,
    /// Memory of each model for the beginnings of prompts, which later prompts with the same beginning need not compute.
    pub prefix_cache: ByteSize,
    /// Room on disk, for all models together, for the beginnings that requests ask to keep. `0B`: none are kept.
    pub prefix_cache_disk: ByteSize,
    /// A beginning on disk that no request used for so long is deleted. `0s`: never.
    pub prefix_cache_retention: HumanDuration,
    /// Memory for all models together, with their contexts. `0B`: four fifths of what the machine or the unit has.
    pub memory_budget: ByteSize,
    /// A model that no request used for so long leaves memory, and comes back with the next request. `0s`: never.
    pub idle_unload: HumanDuration,
    /// The OpenAI-compatible API.
    pub http: Http,
    /// The gRPC API.
    pub grpc: Grpc,
}

/// `[runtime.http]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// Address and port. Anything but loopback needs `token-file`.
    pub listen: SocketAddr,
    /// File with the bearer token that every request must carry. A relative path is below the unit's credentials.
    pub token_file: Option<PathBuf>,
    /// Largest request body; a larger one is answered with 413.
    pub max_body: ByteSize,
    /// Connections at once; further ones wait.
    pub max_connections: usize,
}

/// `[runtime.grpc]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grpc {
    /// Unix socket.
    pub socket: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        System { hostname: "aios".into() }
    }
}

impl Default for Init {
    fn default() -> Self {
        Init { watchdog: HumanDuration(Duration::from_secs(30)), log_ring: ByteSize(256 << 10) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime {
            default_model: "smollm2-135m-instruct".into(),
            embedding_model: "all-minilm-l6-v2".into(),
            model_dirs: vec![paths::DEVICE_MODELS.into(), paths::FACTORY_MODELS.into()],
            threads: 0,
            slots: 4,
            queue: 16,
            context: 8192,
            prefix_cache: ByteSize(64 << 20),
            prefix_cache_disk: ByteSize(256 << 20),
            prefix_cache_retention: HumanDuration(Duration::from_secs(24 * 3600)),
            memory_budget: ByteSize(0),
            idle_unload: HumanDuration(Duration::ZERO),
            http: Http::default(),
            grpc: Grpc::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token_file: None,
            max_body: ByteSize(1 << 20),
            max_connections: 256,
        }
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Grpc { socket: paths::RUNTIME_SOCKET.into() }
    }
}

impl LogLevel {
    /// The name as `tracing` filters know it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// A rule that ties values together and that the types can't express.
struct Violation {
    key: &'static [&'static str],
    reason: String,
}

impl Config {
    /// The first rule that the values break.
    fn violation(&self) -> Option<Violation> {
        let broken = |key, reason: String| Some(Violation { key, reason });
        let Runtime { slots, queue, context, threads, default_model, embedding_model, http, grpc, .. } = &self.runtime;
        if !is_hostname(&self.system.hostname) {
            return broken(&["system", "hostname"], "use 1 to 63 letters, digits and '-', not at either end".into());
        }
        if !self.init.watchdog.0.is_zero() && !(2..=3600).contains(&self.init.watchdog.0.as_secs()) {
            return broken(&["init", "watchdog"], "use \"2s\" to \"1h\", or \"0s\" for none".into());
        }
        if !(4 << 10..=64 << 20).contains(&self.init.log_ring.0) {
            return broken(&["init", "log-ring"], "use \"4KiB\" to \"64MiB\"".into());
        }
        if !default_model.is_empty() && !is_model_id(default_model) {
            return broken(&["runtime", "default-model"], "use letters, digits, '.', '_' and '-'".into());
        }
        if !embedding_model.is_empty() && !is_model_id(embedding_model) {
            return broken(&["runtime", "embedding-model"], "use letters, digits, '.', '_' and '-'".into());
        }
        if *threads > 1024 {
            return broken(&["runtime", "threads"], "use 0 (one per processor) to 1024".into());
        }
        if !(1..=64).contains(slots) {
            return broken(&["runtime", "slots"], "use 1 to 64".into());
        }
        if *queue > 10_000 {
            return broken(&["runtime", "queue"], "use 0 to 10000".into());
        }
        if !(16..=1 << 20).contains(context) {
            return broken(&["runtime", "context"], "use 16 to 1048576 tokens".into());
        }
        if !(1 << 10..=1 << 30).contains(&http.max_body.0) {
            return broken(&["runtime", "http", "max-body"], "use \"1KiB\" to \"1GiB\"".into());
        }
        if !(1..=65_536).contains(&http.max_connections) {
            return broken(&["runtime", "http", "max-connections"], "use 1 to 65536".into());
        }
        if !http.listen.ip().is_loopback() && http.token_file.is_none() {
            let reason = format!(
                "{} can be reached from outside: set runtime.http.token-file as well, or listen on 127.0.0.1",
                http.listen
            );
            return broken(&["runtime", "http", "listen"], reason);
        }
        if !grpc.socket.is_absolute() {
            return broken(&["runtime", "grpc", "socket"], "use an absolute path".into());
        }
        let memory = self.memory.violation();
        memory
            .or_else(|| self.models.violation())
            .or_else(|| self.fleet.violation())
            .or_else(|| self.install.violation())
    }

    /// What the fleet calls this device.
    pub fn device_id(&self) -> &str {
        if self.fleet.device_id.is_empty() { &self.system.hostname } else { &self.fleet.device_id }
    }
}

/// Whether `name` is one label of a host name (RFC 1123).
fn is_hostname(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether `id` is a model id. An id names a directory, so it can't be a path.
pub fn is_model_id(id: &str) -> bool {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    plain && (1..=128).contains(&id.len()) && !id.starts_with('.')
}
