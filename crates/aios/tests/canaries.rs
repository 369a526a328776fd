//! Secrets are planted wherever the tools' service comes by some, and looked for wherever it writes or says something:
//! answers, questions to a human, its log at every level, ledger, journal, exports.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, File},
    io::Read as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit};
use serde_json::{Value, json};

/// A secret, and where it was planted.
struct Canary {
    place: &'static str,
    text: String,
}

impl Canary {
    fn new(place: &'static str) -> Canary {
        let mut bytes = [0; 16];
        File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        Canary { place, text: hex(&bytes) }
    }

    /// The secret of a file of keys.
    fn of_key(path: &Path) -> Canary {
        Canary { place: "key", text: fs::read_to_string(path).unwrap().trim().to_owned() }
    }

    /// Fails where the secret stands in `bytes`, as it is or encoded.
    fn must_not_be_in(&self, bytes: &[u8], what: &str) {
        for form in self.forms() {
            let found = bytes.windows(form.len()).any(|window| window.eq_ignore_ascii_case(&form));
            assert!(!found, "the secret of {} is in {what}, as {:?}", self.place, String::from_utf8_lossy(&form));
        }
    }

    fn forms(&self) -> Vec<Vec<u8>> {
        let text = self.text.as_bytes();
        let mut forms = vec![text.to_vec(), hex(text).into_bytes(), text.iter().rev().copied().collect()];
        forms.extend((0..3).map(|start| base64(text, start)));
        if self.place == "key" {
            let raw: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&self.text[2 * n..2 * n + 2], 16).unwrap()).collect();
            forms.extend((0..3).map(|start| base64(&raw, start)));
            forms.push(raw);
        }
        forms
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What base64 makes of `bytes` where `start` bytes of anything stand before them: the part that depends on them alone.
fn base64(bytes: &[u8], start: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let skipped = (3 - start) % 3;
    let of_three = |three: &[u8]| {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| LETTERS[bits >> shift & 63])
    };
    bytes[skipped..].chunks_exact(3).flat_map(of_three).collect()
}

/// The service, with a secret in its environment, at its most talkative.
struct Device {
    folder: tempfile::TempDir,
    daemon: Child,
    environment: Canary,
}

impl Device {
    fn start() -> Device {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("data/denied")).unwrap();
        let (operator, denied) = (rustix::process::geteuid().as_raw(), path("data/denied"));
        let policy = format!(
            "deny = [\"fs:*:{0}\", \"fs:*:{0}/**\", \"fs:*:/proc/**\"]\n[agents.operator]\nuids = [{operator}]\n\
             capabilities = [\"*:*:**\"]\nvouches = [\"operator\", \"user\"]\nmax-risk-without-approval = \"high\"\n\
             [tools.\"web.post\"]\napproval = \"always\"\n[approvals]\napprovers = [\"operator\"]\n",
            denied.display()
        );
        fs::write(path("policy.toml"), policy).unwrap();
        fs::write(path("aios.toml"), format!("[tools]\nsocket = {:?}\n", path("tools.sock"))).unwrap();
        let log = File::create(path("log")).unwrap();
        let environment = Canary::new("the environment");
        let daemon = Command::new(env!("CARGO_BIN_EXE_aios"))
            .args(["tools", "--without-groups"])
            .args(["--config".into(), path("aios.toml"), "--policy".into(), path("policy.toml")])
            .args(["--state".into(), path("state"), "--keys".into(), path("keys")])
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("AIOS_CANARY", &environment.text)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut device = Device { folder, daemon, environment };
        let started = Instant::now();
        while !device.aios(&["tool", "list"]).status.success() {
            let died = device.daemon.try_wait().unwrap();
            assert!(died.is_none() && started.elapsed() < Duration::from_secs(60), "the service is not ready");
            thread::sleep(Duration::from_millis(20));
        }
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.arg("--json").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if args[0] != "ledger" {
            command.arg("--tools-socket").arg(self.path("tools.sock"));
        }
        command
    }

    fn aios(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a call said, that ended with `code`.
    fn call(&self, tool: &str, arguments: &Value, code: i32) -> Vec<u8> {
        said(self.aios(&["tool", "run", tool, &arguments.to_string(), "--no-wait"]), code)
    }

    /// Everything that the service and its command line leave or show, but for the answers to calls.
    fn traces(&self) -> Vec<(String, Vec<u8>)> {
        let (ledger, keys) = (self.path("state/ledger.redb"), self.path("keys"));
        let [ledger, keys] = [&ledger, &keys].map(|path| path.to_str().unwrap());
        let shown = ["show", "export"].map(|what| {
            let mut args = vec!["ledger", what, "--ledger", ledger];
            if what == "export" {
                args.extend(["--keys", keys]);
            }
            let output = self.aios(&args);
            assert!(output.status.success() && !output.stdout.is_empty(), "{what}: {output:?}");
            (format!("ledger {what}"), output.stdout)
        });
        let mut traces = Vec::from(shown);
        traces.push(("rollback".to_owned(), self.aios(&["rollback"]).stdout));
        let mut folders = vec![self.path("state")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    traces.push((path.display().to_string(), fs::read(path).unwrap()));
                }
            }
        }
        traces.push(("the log".to_owned(), fs::read(self.path("log")).unwrap()));
        traces
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What a command printed, that ended with `code`.
fn said(output: Output, code: i32) -> Vec<u8> {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    [output.stdout, output.stderr].concat()
}

/// An address of this machine where nobody listens.
fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("https://{address}/")
}

#[test]
fn a_secret_that_is_looked_for_is_found_in_each_form() {
    let canary = Canary::new("this test");
    for form in canary.forms() {
        let text = [b"before ".to_vec(), form, b" after".to_vec()].concat();
        assert!(std::panic::catch_unwind(|| canary.must_not_be_in(&text, "this text")).is_err());
    }
    canary.must_not_be_in(b"before and after", "this text");
}

#[test]
fn secrets_in_arguments_are_in_no_record() {
    let device = Device::start();
    let places = ["token", "type", "member", "scheme", "address", "number", "approval", "header"];
    let canaries = places.map(Canary::new);
    let [token, kind, member, scheme, address, number, approval, header] = canaries.each_ref().map(|one| &one.text);
    let url = nobody();
    let post = |arguments: Value, code| device.call("web.post", &arguments, code);
    post(json!({"url": url, "body": {}, "local": true, "token": token}), 77);
    post(json!({"url": url, "body": {}, "token": {"bearer": kind}}), 77);
    post(json!({"url": url, "body": {}, "limit": kind}), 77);
    post(json!({"url": url, "body": {}, member: 1}), 77);
    post(json!({"url": url, "body": number}), 77);
    post(json!({"url": url.replace("https", "http"), "body": {}, "local": true, "token": scheme}), 77);
    device.call("web.fetch", &json!({"url": format!("https://user:{address}@example.org/")}), 77);
    device.call("web.fetch", &json!({"url": format!("https://example.org:{address}/")}), 77);
    // One that waits is shown to a human, runs, and fails where nobody listens.
    let arguments = json!({"url": url, "body": {}, "local": true, "token": approval}).to_string();
    let run = device.command(&["tool", "run", "web.post", &arguments]).spawn().unwrap();
    let started = Instant::now();
    let shown = loop {
        let shown = device.aios(&["tool", "approvals"]).stdout;
        let waiting: Value = serde_json::from_slice(&shown).unwrap();
        if let Some(call) = waiting[0]["call_id"].as_str() {
            device.aios(&["tool", "approve", call, "--yes"]);
            break shown;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no call waits");
        thread::sleep(Duration::from_millis(20));
    };
    said(run.wait_with_output().unwrap(), 1);
    let bad = device.path("token");
    fs::write(&bad, header).unwrap();
    let args = ["tool", "run", "self.version", "--token-file", bad.to_str().unwrap()];
    let refused = device.aios(&args);
    assert!(!refused.status.success(), "{refused:?}");
    for canary in &canaries {
        canary.must_not_be_in(&shown, "the question to a human");
        for (what, bytes) in device.traces() {
            canary.must_not_be_in(&bytes, &what);
        }
    }
}

#[test]
fn secrets_of_the_device_are_in_no_answer_and_no_record() {
    let device = Device::start();
    let denied = Canary::new("a file that is denied");
    let file = device.path("data/denied/secret");
    fs::write(&file, format!("password = {}\n", denied.text)).unwrap();
    let mut answers = Vec::new();
    let mut call =
        |tool: &str, arguments: Value, code| answers.push((tool.to_owned(), device.call(tool, &arguments, code)));
    for tool in ["fs.read", "fs.tail", "fs.hash", "fs.stat"] {
        call(tool, json!({"path": file}), 77);
    }
    call("fs.search", json!({"path": device.path("data/denied"), "pattern": "password"}), 77);
    call("fs.copy", json!({"from": file, "to": device.path("data/copy")}), 77);
    call("fs.edit", json!({"path": file, "old": "password", "new": "x"}), 77);
    call("fs.read", json!({"path": "/proc/self/environ"}), 77);
    call("process.show", json!({"pid": device.daemon.id()}), 0);
    call("process.list", json!({}), 0);
    call("self.version", json!({}), 0);
    let keys: Vec<Canary> = fs::read_dir(device.path("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .map(|path| Canary::of_key(&path))
        .collect();
    assert!(keys.len() >= 2, "tools.key and the ledger's");
    answers.extend(device.traces());
    for canary in keys.iter().chain([&denied, &device.environment]) {
        for (what, bytes) in &answers {
            canary.must_not_be_in(bytes, what);
        }
    }
}

#[test]
fn a_crash_leaves_no_copy_of_the_memory() {
    // What the service inherits here would let it leave one.
    let allowed = Rlimit { current: Some(1 << 30), maximum: Some(1 << 30) };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, allowed) {
        eprintln!("without root, the service may inherit that it leaves none: {error}");
    }
    let mut device = Device::start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", device.daemon.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let pid = rustix::process::Pid::from_raw(device.daemon.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let ended = device.daemon.wait().unwrap();
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended), "{ended}");
    device.environment.must_not_be_in(&fs::read(device.path("log")).unwrap(), "what it said when it crashed");
}
