//! The tools' service and its command line, as processes: the real sandbox, ledger and journal.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A user who is no agent until a policy says so.
const OTHER: u32 = 65_534;

/// The service, and what it keeps.
struct Device {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Device {
    /// A service under the policy `policy`, where the user of the test is the operator.
    fn start(policy: &str) -> Device {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let operator = rustix::process::geteuid().as_raw();
        let policy = format!(
            "[agents.operator]\nuids = [{operator}]\ncapabilities = [\"*:*:**\"]\nvouches = [\"operator\", \"user\"]\n\
             max-risk-without-approval = \"high\"\n{policy}"
        );
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let mut device = Device { folder, daemon: None };
        device.run("");
        device
    }

    /// Starts the service with further lines in `[tools]`.
    fn run(&mut self, config: &str) {
        let socket = self.path("tools.sock");
        fs::write(self.path("aios.toml"), format!("[tools]\nsocket = {socket:?}\n{config}")).unwrap();
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let folder = |name: &str| self.path(name).into_os_string();
        let daemon = Command::new(env!("CARGO_BIN_EXE_aios"))
            .args(["tools", "--without-groups"])
            .args(["--config".into(), folder("aios.toml"), "--policy".into(), folder("policy.toml")])
            .args(["--state".into(), folder("state"), "--keys".into(), folder("keys")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        let started = Instant::now();
        while !self.aios(&["tool", "list"]).status.success() {
            let died = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(died.is_none() && started.elapsed() < Duration::from_secs(60), "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the service without a warning, as a power cut does.
    fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self, name: &str) -> String {
        self.path("data").join(name).to_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.arg("--json").args(args).stdin(Stdio::null());
        if args[0] != "ledger" {
            command.arg("--tools-socket").arg(self.path("tools.sock"));
        }
        command
    }

    fn aios(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command printed; it must have gone well.
    fn json(&self, args: &[&str]) -> Value {
        answer(&self.aios(args), 0)
    }

    /// The call that waits for approval, once there is one.
    fn waiting(&self) -> Value {
        let started = Instant::now();
        loop {
            let listed = self.json(&["tool", "approvals"]);
            if let Some(call) = listed.as_array().unwrap().first() {
                return call.clone();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no call waits: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn verify(&self) -> Output {
        let (ledger, keys) = (self.path("state/ledger.redb"), self.path("keys"));
        let args = ["ledger", "verify", "--ledger", ledger.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
        self.aios(&args)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
    }
}

/// What a command printed, that ended with `code`.
fn answer(output: &Output, code: i32) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// Bytes, mode, owner and label of a file.
fn seen(path: &Path) -> (Vec<u8>, u32, u32, Vec<u8>) {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).unwrap();
    let mut label = [0; 64];
    let length = rustix::fs::getxattr(path, "user.label", &mut label[..]).unwrap();
    (fs::read(path).unwrap(), metadata.mode(), metadata.uid(), label[..length].to_vec())
}

#[test]
fn a_call_is_undone_after_the_service_was_killed() {
    let mut device = Device::start("");
    let file = device.data("file");
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(file.as_str(), "user.label", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
    let before = seen(Path::new(&file));
    let folder = device.data("");
    let deleted =
        device.json(&["tool", "run", "fs.delete", &format!("path={}", folder.trim_end_matches('/')), "recursive=true"]);
    assert_eq!(deleted["reversible"], true);
    assert!(!Path::new(&file).exists());
    device.kill();
    device.run("");
    let call = deleted["call_id"].as_str().unwrap();
    assert_eq!(device.json(&["rollback"])[0]["state"], "done");
    device.json(&["rollback", call]);
    assert_eq!(seen(Path::new(&file)), before);
    assert_eq!(device.json(&["rollback"])[0]["state"], "rolled-back");
    assert_eq!(device.aios(&["rollback", call]).status.code(), Some(1));
    assert!(device.verify().status.success());
}

#[test]
fn what_was_changed_after_a_call_is_only_overwritten_by_force() {
    let device = Device::start("");
    let file = device.data("file");
    let path = format!("path={file}");
    let written = device.json(&["tool", "run", "fs.write", &path, "content=one"]);
    fs::write(&file, "somebody else's").unwrap();
    let call = written["call_id"].as_str().unwrap();
    let refused = device.aios(&["rollback", call]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was changed after the call"), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "somebody else's");
    device.json(&["rollback", call, "--force"]);
    assert!(!Path::new(&file).exists());
}

#[test]
fn refusals_and_failures_say_what_happened_and_are_in_the_ledger() {
    let device = Device::start("deny = []\n");
    let missing = answer(&device.aios(&["tool", "run", "fs.read", "path=/no/such/file"]), 1);
    assert_eq!(missing["failure"]["code"], "not-found");
    let bad = answer(&device.aios(&["tool", "run", "fs.read", "path=relative"]), 77);
    assert_eq!(bad["refusal"]["stage"], "schema");
    let critical = answer(&device.aios(&["tool", "run", "self.poweroff", "--no-wait"]), 77);
    assert_eq!(critical["refusal"]["stage"], "approval");
    let ledger = device.path("state/ledger.redb");
    let shown = device.aios(&["ledger", "show", "--ledger", ledger.to_str().unwrap()]);
    let text = String::from_utf8(shown.stdout).unwrap().replace(": ", ":");
    for kind in ["decision", "result", "refusal"] {
        assert!(text.contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {text}");
    }
    assert!(device.verify().status.success());
}

#[test]
fn a_call_that_needs_approval_runs_after_a_yes_and_not_after_a_no() {
    let device =
        Device::start("[tools.\"fs.write\"]\napproval = \"always\"\n[approvals]\napprovers = [\"operator\"]\n");
    let path = format!("path={}", device.data("file"));
    for (verdict, code) in [("deny", 77), ("approve", 0)] {
        let mut run = device.command(&["tool", "run", "fs.write", &path, "content=x"]);
        let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let waiting = device.waiting();
        assert_eq!(waiting["arguments"]["content"], "x");
        assert!(!Path::new(&device.data("file")).exists());
        let call = waiting["call_id"].as_str().unwrap();
        let args = if verdict == "deny" { vec!["tool", "deny", call] } else { vec!["tool", "approve", call, "--yes"] };
        assert!(device.aios(&args).status.success());
        answer(&run.wait_with_output().unwrap(), code);
        assert_eq!(Path::new(&device.data("file")).exists(), code == 0);
    }
}

#[test]
fn a_grant_counts_from_the_next_call_on_and_no_longer_than_it_is_there() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("this test becomes another user, which takes root");
        return;
    }
    let mut device = Device::start(&format!(
        "[agents.guest]\nuids = [{OTHER}]\ncapabilities = []\n[approvals]\napprovers = [\"operator\"]\n"
    ));
    // The guest's program lies where anybody may execute it.
    let program = device.path("aios");
    fs::copy(env!("CARGO_BIN_EXE_aios"), &program).unwrap();
    let guest = |device: &Device, args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--json").args(args).arg("--tools-socket").arg(device.path("tools.sock"));
        command.uid(OTHER).gid(OTHER).stdin(Stdio::null()).output().unwrap()
    };
    let read = ["tool", "run", "self.version"];
    let stage = |output: &Output| answer(output, 77)["refusal"]["stage"].clone();
    assert_eq!(stage(&guest(&device, &read)), "capability");
    let own = guest(&device, &["tool", "grant", "guest", "self:read:**"]);
    assert!(!own.status.success(), "an agent granted itself a capability");
    let needs = device.json(&["tool", "show", "self.version"])["needs"][0].as_str().unwrap().to_owned();
    let granted = device.json(&["tool", "grant", "guest", &needs, "--for", "1h"]);
    answer(&guest(&device, &read), 0);
    device.kill();
    device.run("");
    answer(&guest(&device, &read), 0);
    assert!(device.aios(&["tool", "revoke", granted["id"].as_str().unwrap()]).status.success());
    assert_eq!(stage(&guest(&device, &read)), "capability");
    let approving = guest(&device, &["tool", "approvals"]);
    assert_eq!(answer(&approving, 0), serde_json::json!([]));
}

#[test]
fn each_key_of_the_configuration_does_what_it_says() {
    let mut device =
        Device::start("[tools.\"fs.write\"]\napproval = \"always\"\n[approvals]\napprovers = [\"operator\"]\n");
    device.kill();
    device.run("max-calls = 1\n");
    let path = format!("path={}", device.data("file"));
    let mut run = device.command(&["tool", "run", "fs.write", &path, "content=x"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let call = device.waiting()["call_id"].as_str().unwrap().to_owned();
    let full = device.aios(&["tool", "run", "self.version"]);
    assert!(String::from_utf8_lossy(&full.stderr).contains("tools.max-calls"), "{full:?}");
    assert!(device.aios(&["tool", "approve", &call, "--yes"]).status.success());
    answer(&run.wait_with_output().unwrap(), 0);
    assert_eq!(device.json(&["rollback"]).as_array().unwrap().len(), 1);
    for key in ["rollback-size = \"0B\"\n", "rollback-retention = \"0s\"\n"] {
        device.kill();
        device.run("");
        fs::write(device.data("file"), "kept").unwrap();
        let deleted = device.json(&["tool", "run", "fs.delete", &path]);
        assert_eq!(deleted["reversible"], true);
        device.kill();
        device.run(key);
        let started = Instant::now();
        let kept = |device: &Device| device.json(&["rollback"]).to_string();
        while kept(&device).contains(deleted["call_id"].as_str().unwrap()) {
            assert!(started.elapsed() < Duration::from_secs(60), "{key} had no effect: {}", device.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_token_hands_on_what_it_says_and_nothing_else_until_it_is_taken_back() {
    let mut device = Device::start("");
    let (file, other) = (device.data("file"), device.data("other"));
    fs::write(&file, "mine").unwrap();
    fs::write(&other, "not yours").unwrap();
    let folder = device.path("");
    let token = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (wide, narrow) = (token("wide"), token("narrow"));
    let cap = format!("fs:read:{}", device.data("**"));
    let mint = ["token", "mint", "--agent", "operator", "--cap", &cap, "--tool", "fs.read", "--for", "1h", "-o", &wide];
    device.json(&mint);
    let local = |device: &Device, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.arg("--json").args(args).current_dir(device.folder.path()).output().unwrap()
    };
    let with = |device: &Device, token: &str, tool: &str, path: &str| {
        device.aios(&["tool", "run", tool, &format!("path={path}"), "--token-file", token])
    };
    let stage = |output: &Output| answer(output, 77)["refusal"]["stage"].clone();
    answer(&with(&device, &wide, "fs.read", &other), 0);
    assert_eq!(stage(&with(&device, &wide, "fs.read", "/etc/hostname")), "capability");
    assert_eq!(stage(&with(&device, &wide, "fs.hash", &file)), "capability", "another tool");

    let only = format!("fs:read:{file}");
    answer(&local(&device, &["token", "narrow", &wide, "--cap", &only, "--for", "30m", "-o", &narrow]), 0);
    answer(&with(&device, &narrow, "fs.read", &file), 0);
    assert_eq!(stage(&with(&device, &narrow, "fs.read", &other)), "capability");
    let wider = local(&device, &["token", "narrow", &narrow, "--cap", &cap]);
    assert!(String::from_utf8_lossy(&wider.stderr).contains("does not allow"), "{wider:?}");
    let shown = answer(&local(&device, &["token", "show", &narrow]), 0);
    assert_eq!(
        (&shown["issuer"], &shown["blocks"][1]["capabilities"][0]),
        (&Value::from("operator"), &Value::from(only))
    );

    // A narrowing is taken back by itself, and the token with all that was made of it.
    device.aios(&["token", "revoke", shown["id"].as_str().unwrap()]);
    assert_eq!(stage(&with(&device, &narrow, "fs.read", &file)), "identity");
    answer(&with(&device, &wide, "fs.read", &file), 0);
    let id = shown["blocks"][0]["id"].as_str().unwrap();
    assert!(device.aios(&["token", "revoke", id]).status.success());
    for _ in 0..2 {
        assert_eq!(stage(&with(&device, &wide, "fs.read", &file)), "identity");
        device.kill();
        device.run("");
    }
    let short = token("short");
    device.json(&["token", "mint", "--agent", "operator", "--cap", &cap, "--for", "1s", "-o", &short]);
    // Meanwhile it may be too many calls; that a token is over is said first.
    let started = Instant::now();
    let is_over = |output: &Output| !output.status.success() && stage(output) == "identity";
    while !is_over(&with(&device, &short, "fs.read", &file)) {
        assert!(started.elapsed() < Duration::from_secs(60), "a token of a second did not expire");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = device.path("state/ledger.redb");
    let tokens = device.aios(&["ledger", "show", "--kind", "token", "--ledger", log.to_str().unwrap()]);
    let tokens = String::from_utf8(tokens.stdout).unwrap();
    assert!(tokens.contains(id) && !tokens.contains("aios1."), "{tokens}");
}
