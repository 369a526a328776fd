//! Plugins from installation to removal.

use std::{fs, path::Path};

use aios_keys::{note, seed::Seed};
use serde_json::{Value, json};

use super::{
    call::Call, call_high::CallHigh, install::Install, list::List, remove::Remove, show::Show, verify::Verify,
};
use crate::{
    access::Access,
    error::Code,
    host::Host,
    testing::{call, inverse},
    tool::{Entry, Inverse},
};

const MANIFEST: &str = r#"
name = "diary"
version = "1.0.0"
description = "Keeps a note."
data = true

[[folders]]
name = "box"
access = "write"
within = ["/srv"]

[[folders]]
name = "logs"
access = "read"
within = ["/var/log"]

[[tools]]
name = "keep"
description = "Keeps it in the plugin's own folder."
risk = "medium"
input = { type = "object", properties = { n = { type = "integer" } }, additionalProperties = false }
output = { type = "string" }

[[tools]]
name = "look"
description = "Tries to, and may not."
risk = "low"
input = { type = "object" }
output = { type = "string" }

[[tools]]
name = "burn"
description = "As keep, with a human's consent."
risk = "high"
input = { type = "object" }
output = { type = "string" }
"#;

/// Makes a file in the first folder that it was handed, which takes `/data`, and says `"kept"`, or `"lost"` where it can't.
const MODULE: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "note")
  (data (i32.const 8) "\"kept\"\"lost\"")
  (func (export "_start")
    (i32.store (i32.const 32) (i32.const 8))
    (i32.store (i32.const 36) (i32.const 6))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1) (i64.const 66) (i64.const 0)
          (i32.const 0) (i32.const 48))
      (then (i32.store (i32.const 32) (i32.const 14))))
    (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))
"#;

/// A device that trusts `maker`.
struct Device {
    folder: tempfile::TempDir,
    host: Host,
}

impl Device {
    fn new() -> Device {
        let folder = tempfile::tempdir().expect("tempdir");
        for path in ["var/lib/aios/keys/plugins", "var/log/pump", "srv/work", "srv/diary"] {
            fs::create_dir_all(folder.path().join(path)).expect("mkdir");
        }
        let key = signer("maker").verifier().to_string();
        fs::write(folder.path().join("var/lib/aios/keys/plugins/maker.pub"), key).expect("key");
        let device = Device { host: Host::below(folder.path()), folder };
        device.offer(MANIFEST, Some("maker"));
        device
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    /// Puts a plugin to `/srv/diary`, signed by `signer`; returns its digest.
    fn offer(&self, manifest: &str, signed_by: Option<&str>) -> String {
        let at = self.path("srv/diary");
        let _ = fs::remove_file(at.join("plugin.sig"));
        fs::write(at.join("plugin.toml"), manifest).expect("write");
        fs::write(at.join("plugin.wasm"), wat::parse_str(MODULE).expect("module")).expect("write");
        let package = aios_plugins::package::Package::read(open(&at)).expect("package");
        if let Some(name) = signed_by {
            let package = package.clone().signed(&signer(name)).expect("signed");
            fs::write(at.join("plugin.sig"), package.note().expect("note")).expect("write");
        }
        package.digest()
    }

    fn install(&self, digest: &str) -> Result<Value, crate::error::ToolError> {
        call::<Install>(&self.host, json!({ "from": "/srv/diary", "name": "diary", "digest": digest }))
    }

    fn installed() -> Device {
        let device = Device::new();
        let digest = device.offer(MANIFEST, Some("maker"));
        device.install(&digest).expect("installed");
        device
    }

    fn call(&self, arguments: Value) -> Result<Value, crate::error::ToolError> {
        call::<Call>(&self.host, arguments)
    }
}

fn signer(name: &str) -> note::Signer {
    note::Signer::new(name, &Seed::from_bytes([name.len() as u8; 32])).expect("signer")
}

fn open(path: &Path) -> std::os::fd::OwnedFd {
    fs::File::open(path).expect("open").into()
}

#[test]
fn a_plugin_is_looked_at_installed_called_and_removed() {
    let device = Device::new();
    let host = &device.host;
    assert_eq!(call::<List>(host, json!({})).expect("list"), json!({"plugins": [], "truncated": false}));
    let seen = call::<Verify>(host, json!({"from": "/srv/diary"})).expect("verify");
    assert_eq!((&seen["right"], &seen["signed_by"]), (&json!(true), &json!("maker")));
    assert_eq!(seen["plugin"]["folders"][0]["within"], json!(["/srv"]));
    let digest = seen["plugin"]["digest"].as_str().expect("digest");
    let installed = device.install(digest).expect("install");
    assert_eq!(installed, json!({"version": "1.0.0", "tools": ["keep", "look", "burn"], "signed_by": "maker"}));
    assert_eq!(device.call(json!({"plugin": "diary", "tool": "keep"})).expect("call"), json!({"result": "kept"}));
    assert!(device.path("var/lib/aios/plugins/diary/data/note").is_file());
    let shown = call::<Show>(host, json!({"plugin": "diary"})).expect("show");
    assert_eq!(shown["plugin"], seen["plugin"]);
    assert_eq!(call::<List>(host, json!({})).expect("list")["plugins"][0]["version"], "1.0.0");

    let newer = device.offer(&MANIFEST.replace("1.0.0", "1.1.0"), Some("maker"));
    let replaced = device.install(&newer).expect("replace");
    assert_eq!((&replaced["version"], &replaced["before"]), (&json!("1.1.0"), &json!("1.0.0")));
    assert!(device.path("var/lib/aios/plugins/diary/data/note").is_file(), "its data stays");
    assert_eq!(fs::read_dir(device.path("var/lib/aios/plugins/diary")).expect("folder").count(), 2);

    assert_eq!(call::<Remove>(host, json!({"plugin": "diary"})).expect("remove"), json!({"removed": 7}));
    let gone = device.call(json!({"plugin": "diary", "tool": "keep"})).expect_err("gone");
    assert_eq!(gone.code, Code::NotFound);
    assert_eq!(call::<Remove>(host, json!({"plugin": "diary"})).expect_err("gone").code, Code::NotFound);
}

#[test]
fn what_is_not_trusted_or_not_what_was_looked_at_is_not_installed() {
    let device = Device::new();
    for signed_by in [None, Some("stranger")] {
        let digest = device.offer(MANIFEST, signed_by);
        assert_eq!(device.install(&digest).expect_err("untrusted").code, Code::PermissionDenied, "{signed_by:?}");
        let seen = call::<Verify>(&device.host, json!({"from": "/srv/diary"})).expect("verify");
        assert_eq!(seen["right"], false);
    }
    let looked_at = device.offer(MANIFEST, Some("maker"));
    device.offer(&MANIFEST.replace("/srv", "/etc"), Some("maker"));
    assert_eq!(device.install(&looked_at).expect_err("swapped").code, Code::FailedPrecondition);
    let other = device.offer(&MANIFEST.replace("\"diary\"", "\"other\""), Some("maker"));
    assert_eq!(device.install(&other).expect_err("name").code, Code::InvalidArgument);
    assert!(!device.path("var/lib/aios/plugins").exists());

    fs::create_dir_all(device.path("var/lib/aios/config")).expect("mkdir");
    let config = "[plugins]\nrequire-signature = false\n";
    fs::write(device.path("var/lib/aios/config/aios.toml"), config).expect("write");
    let unsigned = device.offer(MANIFEST, None);
    assert!(device.install(&unsigned).expect("configured")["signed_by"].is_null());
}

#[test]
fn a_plugin_that_was_changed_or_whose_maker_lost_trust_is_not_called() {
    let device = Device::installed();
    let keep = || device.call(json!({"plugin": "diary", "tool": "keep"}));
    assert!(keep().is_ok());
    let key = device.path("var/lib/aios/keys/plugins/maker.pub");
    let kept = fs::read(&key).expect("key");
    fs::remove_file(&key).expect("remove");
    assert_eq!(keep().expect_err("no key").code, Code::PermissionDenied);
    fs::write(&key, kept).expect("key");
    let manifest = device.path("var/lib/aios/plugins/diary/package/plugin.toml");
    fs::write(manifest, MANIFEST.replace("[\"/srv\"]", "[\"/\"]")).expect("write");
    let changed = keep().expect_err("changed");
    assert_eq!(changed.code, Code::PermissionDenied);
    assert!(changed.message.contains("is not what maker signed"), "{changed}");
    let listed = call::<List>(&device.host, json!({})).expect("list");
    assert!(listed["plugins"][0]["problem"].is_string());
}

#[test]
fn a_call_hands_over_what_the_manifest_takes_and_nothing_else() {
    let device = Device::installed();
    let code = |arguments: Value| device.call(arguments).expect_err("refused").code;
    let with = |key: &str, folders: Value| json!({"plugin": "diary", "tool": "keep", key: folders});
    for wrong in [
        with("write", json!({"box": "/etc"})),
        with("write", json!({"box": "/"})),
        with("write", json!({"box": "/srvx"})),
        with("read", json!({"box": "/srv/work"})),
        with("write", json!({"logs": "/var/log/pump"})),
        with("read", json!({"other": "/srv/work"})),
        with("read", json!({"data": "/srv/work"})),
        with("arguments", json!({"n": "1"})),
        with("arguments", json!({"m": 1})),
    ] {
        assert_eq!(code(wrong.clone()), Code::InvalidArgument, "{wrong}");
    }
    assert_eq!(code(with("read", json!({"logs": "/var/log/none"}))), Code::NotFound);
    let both = json!({
        "plugin": "diary", "tool": "keep", "read": {"logs": "/var/log/pump"}, "write": {"box": "/srv/work"}
    });
    assert_eq!(device.call(both).expect("call"), json!({"result": "kept"}));
}

#[test]
fn risk_decides_by_which_tool_and_whether_anything_is_changed() {
    let device = Device::installed();
    let look = json!({"plugin": "diary", "tool": "look"});
    assert_eq!(device.call(look.clone()).expect("call"), json!({"result": "lost"}));
    let burn = json!({"plugin": "diary", "tool": "burn"});
    let refused = device.call(burn.clone()).expect_err("high");
    assert!(refused.code == Code::FailedPrecondition && refused.message.contains("plugin.call_high"), "{refused}");
    assert_eq!(call::<CallHigh>(&device.host, burn).expect("call"), json!({"result": "kept"}));
    assert!(call::<CallHigh>(&device.host, look.clone()).is_err());
    assert_eq!(device.call(json!({"plugin": "diary", "tool": "fly"})).expect_err("none").code, Code::NotFound);

    assert_eq!(inverse::<Call>(&device.host, &look), Ok(Inverse::Nothing));
    let keep = json!({"plugin": "diary", "tool": "keep", "write": {"box": "/srv/work"}});
    let Ok(Inverse::Paths { paths }) = inverse::<Call>(&device.host, &keep) else { panic!("it changes folders") };
    let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
    assert_eq!(paths, ["/srv/work", "/var/lib/aios/plugins/diary/data"]);
}

#[test]
fn the_caller_needs_the_capabilities_of_every_folder_that_it_hands_over() {
    let access = Entry::of::<Call>()
        .access(&json!({
            "plugin": "diary", "tool": "keep", "read": {"logs": "/var/log/pump"}, "write": {"box": "/srv/work"}
        }))
        .expect("access");
    let wanted = access.wanted().expect("capabilities");
    for needed in [
        "plugin:call:diary/keep",
        "fs:read:/var/log/pump",
        "fs:read:/var/log/pump/**",
        "fs:read:/srv/work",
        "fs:read:/srv/work/**",
        "fs:write:/srv/work",
        "fs:write:/srv/work/**",
    ] {
        assert!(wanted.iter().any(|capability| capability.to_string() == needed), "{needed}");
    }
    assert_eq!(wanted.len(), 7);
    // One level below is not all that is below.
    let shallow: aios_policy::Capability = "fs:read:/var/log/pump/*".parse().expect("a capability");
    assert!(!wanted.iter().any(|capability| shallow.covers(capability)));
    let Access { read, write, own, network, privileges, sockets, devices, programs, .. } = access;
    assert_eq!((read, write), (vec!["/var/log/pump".into()], vec!["/srv/work".into()]));
    assert_eq!(own, [Path::new("/var/lib/aios/plugins/diary/data")]);
    assert_eq!(network, crate::access::Network::None);
    assert!(privileges.is_empty() && sockets.is_empty() && devices.is_empty() && programs.is_empty());
}

#[test]
fn an_archive_serves_as_a_folder_does() {
    let device = Device::new();
    let digest = device.offer(MANIFEST, Some("maker"));
    let mut archive = tar::Builder::new(fs::File::create(device.path("srv/diary.tar")).expect("create"));
    archive.append_dir_all("diary", device.path("srv/diary")).expect("append");
    archive.finish().expect("archive");
    let installed = call::<Install>(&device.host, json!({"from": "/srv/diary.tar", "name": "diary", "digest": digest}));
    assert_eq!(installed.expect("install")["signed_by"], "maker");
}
