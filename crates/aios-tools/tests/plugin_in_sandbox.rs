//! A plugin's call as a device makes it: the tool's own job, in the sandbox that its access describes. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aios_keys::{note, seed::Seed};
use aios_plugins::package::Package;
use aios_sandbox::{Enforcement, Exit, ExtraMount, Identity, Limits, Options, Profile, Sandbox};
use aios_tools::{
    catalogue,
    job::{Answer, Job},
};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};

const MANIFEST: &str = r#"
name = "probe"
version = "1"
description = "Looks around."
data = true

[limits]
fuel = 50_000_000

[[folders]]
name = "work"
access = "write"
within = ["/"]

[[tools]]
name = "try"
description = "Tries it."
risk = "medium"
input = { type = "object" }
output = { type = "integer" }
"#;

/// Opens a path below the folder that it was handed beside `/data` (number 4), and says the error number.
fn opening(path: &str, create: bool) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 1024) "{path}")
          (func (export "_start")
            (local $n i32)
            (local.set $n (call $open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const {}) (i32.const {})
              (i64.const {}) (i64.const 0) (i32.const 0) (i32.const 48)))
            (i32.store8 (i32.const 0) (i32.const 32))
            (if (i32.ge_u (local.get $n) (i32.const 10))
              (then (i32.store8 (i32.const 0) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))))
            (i32.store8 (i32.const 1) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
            (i32.store (i32.const 36) (i32.const 2))
            (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))"#,
        path.len(),
        u8::from(create),
        if create { 66 } else { 2 },
    )
}

/// A device's folders, somewhere else.
struct Device {
    _folder: tempfile::TempDir,
    path: PathBuf,
    sandbox: Sandbox,
}

impl Device {
    /// One with the plugin whose module is `module`.
    fn with(module: &str) -> Device {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().canonicalize().unwrap();
        let package = path.join("probe/package");
        for made in [&package, &path.join("probe/data"), &path.join("keys"), &path.join("work")] {
            fs::create_dir_all(made).unwrap();
        }
        let signer = note::Signer::new("maker", &Seed::from_bytes([1; 32])).unwrap();
        fs::write(path.join("keys/maker.pub"), signer.verifier().to_string()).unwrap();
        fs::write(package.join("plugin.toml"), MANIFEST).unwrap();
        fs::write(package.join("plugin.wasm"), wat::parse_str(module).unwrap()).unwrap();
        let signed = Package::read(fs::File::open(&package).unwrap()).unwrap().signed(&signer).unwrap();
        fs::write(package.join("plugin.sig"), signed.note().unwrap()).unwrap();
        let options = Options { enforcement: Enforcement::WhereOffered, ..Options::default() };
        let sandbox = Sandbox::start(options).expect("tests need root, Landlock and namespaces");
        Device { _folder: folder, path, sandbox }
    }

    fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Calls the plugin's tool; what the device keeps below `/var/lib/aios` is shown there.
    fn call(&self) -> Answer {
        let arguments = json!({ "plugin": "probe", "tool": "try", "write": { "work": self.work() } });
        let tool = catalogue::find("plugin.call").unwrap();
        let access = tool.access(&arguments).unwrap();
        let shown = |source: &str, target: &str, writable| ExtraMount {
            source: self.path.join(source),
            target: Path::new("/var/lib/aios").join(target),
            writable,
        };
        let profile = Profile {
            write: access.write,
            identity: Identity::Daemon,
            mount_extra: vec![
                shown("probe/package", "plugins/probe/package", false),
                shown("probe/data", "plugins/probe/data", true),
                shown("keys", "keys/plugins", false),
            ],
            limits: Limits { cpu_time: tool.spec.timeout, ..Limits::default() },
            ..Profile::default()
        };
        assert_eq!(access.own, [Path::new("/var/lib/aios/plugins/probe/data")]);
        let job = Job::Run {
            tool: tool.spec.name.to_owned(),
            arguments,
            watch: Vec::new(),
            facts: aios_tools::facts::Facts::default(),
        };
        let outcome = self.sandbox.run(&profile, &serde_json::to_vec(&job).unwrap(), Duration::from_secs(120)).unwrap();
        assert_eq!(outcome.exit, Exit::Returned, "{}", outcome.stderr);
        serde_json::from_slice(&outcome.output).unwrap()
    }

    fn result(&self) -> Value {
        match self.call() {
            Answer::Ran { result, .. } => result["result"].clone(),
            other => panic!("{other:?}"),
        }
    }

    fn code(&self) -> String {
        match self.call() {
            Answer::Failed { error, .. } => serde_json::to_value(error.code).unwrap().as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

fn a_plugin_works_in_the_folder_that_it_was_handed() {
    let device = Device::with(&opening("note", true));
    assert_eq!(device.result(), json!(0));
    assert!(device.work().join("note").is_file());
}

fn a_plugin_does_not_leave_it() {
    for (path, errno) in [("../probe/package/plugin.toml", 76), ("/etc/passwd", 76), ("link", 32)] {
        let device = Device::with(&opening(path, false));
        std::os::unix::fs::symlink("/etc/passwd", device.work().join("link")).unwrap();
        assert_eq!(device.result(), json!(errno), "{path}");
    }
}

fn what_a_plugin_uses_up_is_told_by_kind() {
    let body = |code: &str| format!("(module (memory (export \"memory\") 1) (func $f (export \"_start\") {code}))");
    for (code, kind) in [
        ("(loop $again (br $again))", "too-large"),
        ("(loop $again (drop (memory.grow (i32.const 1))) (br $again))", "too-large"),
        ("(call $f)", "too-large"),
        ("unreachable", "failed"),
        ("", "failed"),
    ] {
        assert_eq!(Device::with(&body(code)).code(), kind, "{code}");
    }
    let sockets = "(module (import \"wasi_snapshot_preview1\" \"sock_accept\" (func (param i32 i32 i32) (result i32)))
                   (memory (export \"memory\") 1) (func (export \"_start\")))";
    assert_eq!(Device::with(sockets).code(), "failed-precondition");
}

fn main() {
    aios_sandbox::serve_if_asked(aios_tools::job::handle);
    let tests: [(&str, fn()); 3] = [
        ("a_plugin_works_in_the_folder_that_it_was_handed", a_plugin_works_in_the_folder_that_it_was_handed),
        ("a_plugin_does_not_leave_it", a_plugin_does_not_leave_it),
        ("what_a_plugin_uses_up_is_told_by_kind", what_a_plugin_uses_up_is_told_by_kind),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
