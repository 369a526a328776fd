//! The real binary on a tiny model, in a directory of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::tiny_model;

/// Longest wait for the process to load its model, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a model and a configuration; `extra` goes into `[runtime]`, `http` into `[runtime.http]`.
pub fn prepare(extra: &str, http: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display();
    std::fs::create_dir_all(dir.path().join("models/tiny")).unwrap();
    tiny_model::write(&dir.path().join("models/tiny/model.gguf"));
    let default = if extra.contains("default-model") { "" } else { "default-model = \"tiny\"" };
    let listen = if http.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"" };
    let config = format!(
        "[runtime]\n{default}\nmodel-dirs = [\"{root}/models\"]\n{extra}\n[runtime.http]\n{listen}\n{http}\n\
         [runtime.grpc]\nsocket = \"{root}/grpc.sock\"\n[models]\nkeys = \"{root}/keys\"\nrequire-signature = false\n"
    );
    std::fs::write(dir.path().join("aios.toml"), config).unwrap();
    dir
}

/// The command that serves with the configuration in `dir`.
pub fn runtime(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aios-runtime"));
    command.arg("--config").arg(dir.join("aios.toml"));
    command
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// An address for `listen` that nobody uses. Other tests use 127.0.0.1, so none of them takes it meanwhile.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
}

/// A process that has reported ready. It is killed with the test.
pub struct Started {
    pub child: Child,
    /// What it told its supervisor.
    pub heard: String,
}

impl Started {
    /// Starts the runtime with the configuration in `dir` and waits until it is ready.
    pub fn new(dir: &Path) -> Started {
        Started::of(dir, runtime(dir))
    }

    /// Starts the runtime by `command` and waits until it is ready.
    pub fn of(dir: &Path, mut command: Command) -> Started {
        let path = dir.join("notify.sock");
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
        let mut started = Started { child, heard: String::new() };
        let mut buffer = [0; 4096];
        while !started.heard.contains("READY=1") {
            let length = notify.recv(&mut buffer).expect("a notification before the timeout");
            started.heard += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        started
    }

    /// Asks it to end; its exit status and all that it logged.
    pub fn end(mut self) -> (ExitStatus, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut log = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
