//! The official `mcp` Python client, unchanged, against the real service: over standard input and output, and over HTTP.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The client's major version that is spoken to.
const CLIENT: &str = "mcp>=2,<3";

/// The program under test.
const AIOS: &str = env!("CARGO_BIN_EXE_aios");

/// A service, and what it keeps.
struct Device {
    folder: tempfile::TempDir,
    port: u16,
    daemon: Child,
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A Python with the client, kept between runs.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp-client");
    let python = venv.join("bin/python");
    let usable = || {
        let check = "import mcp, sys; from importlib.metadata import version; sys.exit(version('mcp')[:2] != '2.')";
        Command::new(&python).args(["-c", check]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !usable() {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status();
        assert!(made.is_ok_and(|status| status.success()), "python3 -m venv failed: install python3-venv");
        let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", CLIENT]).status().unwrap();
        assert!(installed.success(), "pip could not install {CLIENT}");
    }
    python
}

/// A port that was free a moment ago: the server's own choice is not to be had through its configuration.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Device {
    /// A service where the user of the test is the operator, and the agent `mcp` has no rights but those of its tokens.
    fn start() -> Device {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let operator = rustix::process::geteuid().as_raw();
        let policy = format!(
            "[agents.operator]\nuids = [{operator}]\ncapabilities = [\"*:*:**\"]\nvouches = [\"operator\", \"user\"]\n\
             max-risk-without-approval = \"high\"\n[agents.mcp]\nvouches = [\"user\"]\n\
             [approvals]\napprovers = [\"operator\"]\ntimeout = \"1h\"\n"
        );
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let (socket, port) = (folder.path().join("tools.sock"), free_port());
        let config = format!("[tools]\nsocket = {socket:?}\nmcp-listen = \"127.0.0.1:{port}\"\n");
        fs::write(folder.path().join("aios.toml"), config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let path = |name: &str| folder.path().join(name).into_os_string();
        let daemon = Command::new(AIOS)
            .args(["tools", "--without-groups"])
            .args(["--config".into(), path("aios.toml"), "--policy".into(), path("policy.toml")])
            .args(["--state".into(), path("state"), "--keys".into(), path("keys")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut device = Device { folder, port, daemon };
        let started = Instant::now();
        while device.aios(&["tool", "list"]).is_none() {
            let died = device.daemon.try_wait().unwrap();
            assert!(died.is_none() && started.elapsed() < Duration::from_secs(60), "{}", device.log());
            thread::sleep(Duration::from_millis(20));
        }
        device
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What a command prints, where it goes well.
    fn aios(&self, args: &[&str]) -> Option<Value> {
        let mut command = Command::new(AIOS);
        command.arg("--json").args(args).arg("--tools-socket").arg(self.path("tools.sock"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// A token for reading and writing below the data folder.
    fn token(&self, agent: &str) -> String {
        let (read, write) = (format!("fs:read:{}/**", self.path("data")), format!("fs:write:{}/**", self.path("data")));
        let issued = self.aios(&["token", "mint", "--agent", agent, "--cap", &read, "--cap", &write, "--for", "1h"]);
        issued.unwrap_or_else(|| panic!("no token: {}", self.log()))["token"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_official_client_lists_and_calls_tools_under_its_own_rights() {
    let python = python();
    let (device, elsewhere) = (Device::start(), Device::start());
    let token_file = device.path("token");
    fs::write(&token_file, format!("{}\n", device.token("operator"))).unwrap();
    let setup = json!({
        "aios": AIOS,
        "socket": device.path("tools.sock"),
        "url": format!("http://127.0.0.1:{}/mcp", device.port),
        "data": device.path("data"),
        "token_file": token_file,
        "token": device.token("mcp"),
        "second_token": device.token("mcp"),
        "foreign_token": elsewhere.token("mcp"),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp_client.py");
    let mut client = Command::new(python);
    client.arg(script).arg(setup.to_string());
    for proxy in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        client.env_remove(proxy);
    }
    let output = client.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("ok\n"), "{said}{complained}{}", device.log());

    // All of it went through the pipeline: the ledger knows the agent of the token, and what it was refused.
    let (ledger, keys) = (device.path("state/ledger.redb"), device.path("keys"));
    let shown = |args: &[&str]| {
        let mut command = Command::new(AIOS);
        let output =
            command.args(["--json", "ledger"]).args(args).args(["--ledger", &ledger, "--keys", &keys]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let refusals = shown(&["show", "--agent", "mcp", "--kind", "refusal", "-n", "100"]);
    for stage in ["capability", "schema", "approval"] {
        assert!(refusals.replace(": ", ":").contains(&format!("\"stage\":\"{stage}\"")), "{stage}: {refusals}");
    }
    assert!(shown(&["show", "--agent", "mcp", "--kind", "decision"]).contains("fs.write"));
    assert!(shown(&["show", "--kind", "token"]).contains("mcp"));
    shown(&["verify"]);
}
