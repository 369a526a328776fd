//! Where PID 1 finds and puts things.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use aios_core::paths;

use crate::Mode;

/// In a container, a directory that all of PID 1's own paths are taken under, so that tests need no root file system.
pub const ROOT_VARIABLE: &str = "AIOS_ROOT";

/// Paths of a running system.
#[derive(Debug, Clone)]
pub struct Layout {
    pub unit_directories: Vec<PathBuf>,
    pub control_socket: PathBuf,
    pub notify_socket: PathBuf,
    /// Parent of the units' runtime directories.
    pub runtime: PathBuf,
    /// Parent of the directories that credentials are handed over in.
    pub credentials: PathBuf,
    /// Parent of the units' state directories.
    pub data: PathBuf,
    /// The secrets of this device.
    pub secrets: PathBuf,
    pub passwd: PathBuf,
    pub group: PathBuf,
}

impl Layout {
    /// The real paths; in a container those under [`ROOT_VARIABLE`], where it is set.
    pub fn of(mode: Mode) -> Self {
        match (mode, std::env::var_os(ROOT_VARIABLE)) {
            (Mode::Container, Some(root)) => Layout::under(Path::new(&root)),
            _ => Layout::under(Path::new("/")),
        }
    }

    /// The layout below `root`, an absolute path.
    pub fn under(root: &Path) -> Self {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        let control_socket = at(paths::INIT_SOCKET);
        let runtime = control_socket.parent().unwrap_or(root).to_path_buf();
        Layout {
            unit_directories: paths::UNIT_DIRS.iter().map(|path| at(path)).collect(),
            control_socket,
            notify_socket: runtime.join("notify.sock"),
            credentials: runtime.join("credentials"),
            runtime,
            data: at(paths::DATA),
            secrets: at(paths::SECRETS),
            passwd: at("/etc/passwd"),
            group: at("/etc/group"),
        }
    }
}

/// Makes way for a socket at `path`: its folder is there afterwards, and what lay in its place is not.
pub fn make_way(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
