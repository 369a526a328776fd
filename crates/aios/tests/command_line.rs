//! The real binary, as an operator types it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output},
    thread::{self, JoinHandle},
};

use aios_core::control::{LogLine, Request, Response};

fn aios(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aios")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// PID 1's side of one connection: notes the request, gives these answers.
fn control_socket(path: &Path, answers: Vec<Response>) -> JoinHandle<Request> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        for answer in answers {
            writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
        }
        serde_json::from_str(&line).unwrap()
    })
}

#[test]
fn config_check_names_file_line_and_key_and_exits_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aios.toml");
    fs::write(&file, "[runtime]\nqueue = 4\nslotz = 2\n").unwrap();
    let output = aios(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    let message = text(&output.stderr);
    assert!(message.contains("aios.toml:3: runtime.slotz: unknown field `slotz`"), "{message}");
}

#[test]
fn config_check_takes_a_valid_file_and_refuses_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aios.toml");
    fs::write(&file, "system.hostname = \"box\"\n").unwrap();
    assert!(aios(&["config", "check", file.to_str().unwrap()]).status.success());
    assert!(!aios(&["config", "check", "/nowhere/aios.toml"]).status.success());
    let shown = aios(&["config", "show", file.to_str().unwrap()]);
    assert!(text(&shown.stdout).contains("hostname = \"box\""));
}

#[test]
fn restart_asks_pid_1_and_reports_its_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("init.sock");
    let server = control_socket(&socket, vec![Response::Error { message: "unit x: no such unit".into() }]);
    let output = aios(&["--socket", socket.to_str().unwrap(), "restart", "x"]);
    assert_eq!(server.join().unwrap(), Request::Restart { unit: "x".into() });
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "aios: unit x: no such unit\n");
}

#[test]
fn log_prints_each_line_with_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("init.sock");
    let line = |at_s, text: &str| Response::Log(LogLine { at_s, text: text.into() });
    let server = control_socket(&socket, vec![line(1.5, "hello"), line(12.25, "world")]);
    let output = aios(&["--socket", socket.to_str().unwrap(), "log", "runtime", "-n", "2"]);
    assert_eq!(server.join().unwrap(), Request::Log { unit: "runtime".into(), follow: false, lines: Some(2) });
    assert_eq!(text(&output.stdout), "[     1.500] hello\n[    12.250] world\n");
}

#[test]
fn a_machine_without_aios_gets_a_clear_error() {
    let output = aios(&["--socket", "/nowhere/init.sock", "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("can't reach PID 1 at /nowhere/init.sock"));
}

/// A directory that looks like a mounted live medium.
fn live_medium() -> tempfile::TempDir {
    let medium = tempfile::tempdir().unwrap();
    let plan = "format = 1\nboot-code = { file = \"boot\", at = 0, length = 440 }\n[[partition]]\nname = \"root-a\"\n\
                kind = \"4f68bce3-e8cd-4db1-96e7-fbcaf984b709\"\nstart = 1048576\nsize = 1048576\nlength = 0\n\
                sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nextents = []\n";
    fs::create_dir(medium.path().join("aios")).unwrap();
    fs::write(medium.path().join("aios/install.toml"), plan).unwrap();
    medium
}

#[test]
fn install_refuses_what_is_no_disk_and_leaves_it_as_it_is() {
    let medium = live_medium();
    let file = medium.path().join("precious");
    fs::write(&file, "data").unwrap();
    let output = aios(&["install", "--force", file.to_str().unwrap(), "--medium", medium.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("precious is not a block device; `aios install --list` shows the disks"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn install_lists_the_disks_of_this_machine_for_people_and_for_scripts() {
    let medium = live_medium();
    let list = ["install", "--list", "--medium", medium.path().to_str().unwrap()];
    assert!(text(&aios(&list).stdout).starts_with("DISK "));
    let json: serde_json::Value = serde_json::from_slice(&aios(&[&list[..], &["--json"]].concat()).stdout).unwrap();
    assert!(json.as_array().unwrap().iter().all(|disk| disk["path"].as_str().unwrap().starts_with("/dev/")), "{json}");
}

#[test]
fn an_installed_system_installs_nothing_by_itself() {
    let output = aios(&["install", "--unattended", "--medium", "/nowhere"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "not a live system: nothing to install\n");
    let by_hand = aios(&["install", "/dev/null", "--medium", "/nowhere"]);
    assert!(text(&by_hand.stderr).contains("this is not the live system"), "{}", text(&by_hand.stderr));
    assert_eq!(aios(&["install"]).status.code(), Some(2));
}
