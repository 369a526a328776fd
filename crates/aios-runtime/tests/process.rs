//! The real binary: configuration errors, readiness, the end.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// A directory with a model and a configuration; `extra` goes into `[runtime]`, `http` into `[runtime.http]`.
fn prepare(extra: &str, http: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display();
    std::fs::create_dir_all(dir.path().join("models/tiny")).unwrap();
    tiny_model::write(&dir.path().join("models/tiny/model.gguf"));
    let default = if extra.contains("default-model") { "" } else { "default-model = \"tiny\"" };
    let listen = if http.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"" };
    let config = format!(
        "[runtime]\n{default}\nmodel-dirs = [\"{root}/models\"]\n{extra}\n[runtime.http]\n{listen}\n{http}\n\
         [runtime.grpc]\nsocket = \"{root}/grpc.sock\"\n"
    );
    std::fs::write(dir.path().join("aios.toml"), config).unwrap();
    dir
}

fn runtime(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aios-runtime"));
    command.arg("--config").arg(dir.join("aios.toml"));
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").env_remove("CREDENTIALS_DIRECTORY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}

#[test]
fn a_bad_configuration_exits_64_and_names_file_and_key() {
    let dir = prepare("slots = 0", "");
    refused(&runtime(dir.path()).output().unwrap(), 64, &["aios.toml:", "runtime.slots"]);
    let dir = prepare("", "listen = \"0.0.0.0:0\"");
    refused(&runtime(dir.path()).output().unwrap(), 64, &["aios.toml:", "runtime.http.listen", "token-file"]);
    let dir = prepare("", "listen = \"0.0.0.0:0\"\ntoken-file = \"/nonexistent/token\"");
    let output = runtime(dir.path()).output().unwrap();
    refused(&output, 64, &["aios.toml", "runtime.http.token-file", "/nonexistent/token"]);
    let dir = prepare("", "token-file = \"api-token\"");
    refused(&runtime(dir.path()).output().unwrap(), 64, &["CREDENTIALS_DIRECTORY"]);
    std::fs::write(dir.path().join("api-token"), "\n").unwrap();
    let output = runtime(dir.path()).env("CREDENTIALS_DIRECTORY", dir.path()).output().unwrap();
    refused(&output, 64, &["api-token", "empty"]);
}

#[test]
fn a_start_that_fails_exits_1_and_says_why() {
    let dir = prepare("default-model = \"absent\"", "");
    refused(&runtime(dir.path()).output().unwrap(), 1, &["absent", "model.gguf", "models"]);

    let dir = prepare("", "");
    std::fs::write(dir.path().join("models/tiny/model.gguf"), "GGUF").unwrap();
    refused(&runtime(dir.path()).output().unwrap(), 1, &["tiny/model.gguf"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = prepare("", &format!("listen = \"{address}\""));
    refused(&runtime(dir.path()).output().unwrap(), 1, &[&address, "runtime.http.listen"]);
}

/// A process that is killed with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_reports_ready_serves_and_ends_at_sigterm() {
    let dir = prepare("", "");
    let notify = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut child = Started(runtime(dir.path()).env("NOTIFY_SOCKET", dir.path().join("notify.sock")).spawn().unwrap());
    let mut buffer = [0; 4096];
    let mut heard = String::new();
    while !heard.contains("READY=1") {
        let length = notify.recv(&mut buffer).expect("a notification before the timeout");
        heard += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    assert!(heard.contains("STATUS=loading the default model"), "{heard}");
    // Ready means that both listeners answer.
    assert!(std::os::unix::net::UnixStream::connect(dir.path().join("grpc.sock")).is_ok());

    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = child.0.wait().unwrap();
    let mut log = String::new();
    std::io::Read::read_to_string(child.0.stdout.as_mut().unwrap(), &mut log).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!dir.path().join("grpc.sock").exists());
    assert!(!log.contains('\u{1b}'), "the log has no colour codes: {log:?}");
    for line in ["model loaded", "runtime ready", "runtime stopping", "runtime stopped"] {
        assert!(log.contains(line), "{line:?} is not in {log}");
    }
}
