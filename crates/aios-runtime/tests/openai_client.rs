//! The official `openai` Python client, unchanged, against the real binary and the real model.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/factory_model.rs"]
mod factory_model;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The client's major version that is spoken to.
const CLIENT: &str = "openai>=2,<3";
const TOKEN: &str = "token-of-the-client-test";

/// A process that is killed with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Python with the client, kept between runs.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-client");
    let python = venv.join("bin/python");
    let usable = || {
        let check = "import openai, sys; sys.exit(openai.__version__.split('.')[0] != '2')";
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

fn start(dir: &Path, port: u16) -> Started {
    let root = dir.display();
    fs::create_dir_all(dir.join("models/smollm2-135m-instruct")).unwrap();
    for (file, link) in [
        (factory_model::path(), "models/smollm2-135m-instruct/model.gguf"),
        (factory_model::embeddings(), "models/all-minilm-l6-v2"),
    ] {
        std::os::unix::fs::symlink(file.canonicalize().unwrap(), dir.join(link)).unwrap();
    }
    fs::write(dir.join("token"), TOKEN).unwrap();
    fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o400)).unwrap();
    let config = format!(
        "[runtime]\nmodel-dirs = [\"{root}/models\"]\nslots = 1\nqueue = 0\n\
         [runtime.http]\nlisten = \"127.0.0.1:{port}\"\ntoken-file = \"{root}/token\"\n\
         [runtime.grpc]\nsocket = \"{root}/grpc.sock\"\n\
         [models]\nkeys = \"{root}/keys\"\nrequire-signature = false\n"
    );
    fs::write(dir.join("aios.toml"), config).unwrap();
    let notify = UnixDatagram::bind(dir.join("notify.sock")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aios-runtime"));
    command.arg("--config").arg(dir.join("aios.toml")).env("NOTIFY_SOCKET", dir.join("notify.sock"));
    let started = Started(command.stdin(Stdio::null()).spawn().unwrap());
    let mut buffer = [0; 4096];
    loop {
        let length = notify.recv(&mut buffer).expect("READY=1 before the timeout");
        if buffer[..length].windows(7).any(|window| window == b"READY=1") {
            return started;
        }
    }
}

#[test]
fn the_official_client_works_unchanged() {
    let python = python();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _runtime = start(dir.path(), port);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai_client.py");
    let output = Command::new(python)
        .arg(script)
        .args([&format!("http://127.0.0.1:{port}/v1"), TOKEN])
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("ALL_PROXY")
        .env_remove("all_proxy")
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("ok\n"), "{said}{complained}");
}
