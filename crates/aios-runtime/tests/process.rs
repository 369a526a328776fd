//! The real binary: configuration errors, readiness, the end.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    os::unix::net::{UnixListener, UnixStream},
    process::Output,
};

use binary::{Started, prepare, runtime};

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

#[test]
fn it_reports_ready_serves_and_ends_at_sigterm() {
    let dir = prepare("", "");
    let started = Started::new(dir.path());
    assert!(started.heard.contains("STATUS=loading the default model"), "{}", started.heard);
    // Ready means that both listeners answer.
    assert!(UnixStream::connect(dir.path().join("grpc.sock")).is_ok());

    let (status, log) = started.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!dir.path().join("grpc.sock").exists());
    assert!(!log.contains('\u{1b}'), "the log has no colour codes: {log:?}");
    for line in ["model loaded", "arithmetic=", "runtime ready", "runtime stopping", "runtime stopped"] {
        assert!(log.contains(line), "{line:?} is not in {log}");
    }
}

#[test]
fn a_socket_path_that_cannot_be_taken_is_refused_and_a_dead_one_is_taken_over() {
    let dir = prepare("", "");
    let socket = dir.path().join("grpc.sock");
    std::fs::write(&socket, "precious").unwrap();
    refused(&runtime(dir.path()).output().unwrap(), 1, &["grpc.sock", "runtime.grpc.socket", "no socket"]);
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
    std::fs::remove_file(&socket).unwrap();

    let living = UnixListener::bind(&socket).unwrap();
    refused(&runtime(dir.path()).output().unwrap(), 1, &["runtime.grpc.socket", "another process listens there"]);
    drop(living);
    assert!(socket.exists(), "a process that dies leaves its socket behind");
    let started = Started::new(dir.path());
    assert!(UnixStream::connect(&socket).is_ok());
    assert_eq!(started.end().0.code(), Some(0));
}
