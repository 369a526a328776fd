//! Making a plugin of a few lines, and calling it.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aios_plugins::{Call, CallError, Mount, call, name::Name, package::Package};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

/// Imports, a memory whose first 1024 bytes are for these functions, `$say`, which makes the result `"E<number>"`, and
/// `$reach`, which opens a path.
pub const PRELUDE: &str = r#"
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open"
  (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(memory (export "memory") 2)
(data (i32.const 0) "\"E000\"")
(func $say (param $number i32)
  (i32.store8 (i32.const 2) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 100))))
  (i32.store8 (i32.const 3)
    (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $number) (i32.const 10)) (i32.const 10))))
  (i32.store8 (i32.const 4) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
  (i32.store (i32.const 16) (i32.const 0))
  (i32.store (i32.const 20) (i32.const 6))
  (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
(func $reach (param $path i32) (param $length i32) (param $how i32) (param $rights i64) (result i32)
  (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $length) (local.get $how)
    (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 32)))
"#;

/// Rights to read, and to read and write.
pub const READ: u64 = 1 << 1;
pub const READ_WRITE: u64 = 1 << 1 | 1 << 6;

/// A plugin and the folders around it.
pub struct Plugin {
    dir: tempfile::TempDir,
    manifest: Value,
    module: Vec<u8>,
    writable: bool,
}

impl Plugin {
    /// One whose module is this text, after the prelude.
    pub fn new(text: &str) -> Plugin {
        Plugin::importing("", text)
    }

    /// The same, with further imports.
    pub fn importing(import: &str, text: &str) -> Plugin {
        Plugin::of(wat::parse_str(format!("(module {import} {PRELUDE} {text})")).unwrap())
    }

    /// One whose `_start` is this text, after the prelude.
    pub fn start(text: &str) -> Plugin {
        Plugin::new(&format!("(func (export \"_start\") {text})"))
    }

    /// One that reports what opening `path` in its folder gives.
    pub fn opening(path: &str, how: u32, rights: u64) -> Plugin {
        let escaped: String = path.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        Plugin::new(&format!(
            "(data (i32.const 1024) \"{escaped}\")
             (func (export \"_start\") (call $say
               (call $reach (i32.const 1024) (i32.const {}) (i32.const {how}) (i64.const {rights}))))",
            path.len()
        ))
    }

    /// One with this module.
    pub fn of(module: Vec<u8>) -> Plugin {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["package", "inside/deep", "outside"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        fs::write(dir.path().join("inside/open"), "open").unwrap();
        let manifest = json!({
            "name": "hostile",
            "version": "1",
            "description": "Tries to get out.",
            "limits": { "fuel": 200_000_000, "memory": "4MiB", "timeout": "20s", "output": "4KiB", "write": "64KiB" },
            "tools": [{
                "name": "try",
                "description": "Tries it.",
                "risk": "medium",
                "input": { "type": "object" },
                "output": { "type": "string" },
            }],
        });
        Plugin { dir, manifest, module, writable: false }
    }

    /// Its folder can be changed.
    pub fn writable(mut self) -> Plugin {
        self.writable = true;
        self
    }

    /// Its manifest has `value` at `pointer`.
    pub fn with(mut self, pointer: &str, value: Value) -> Plugin {
        *self.manifest.pointer_mut(pointer).unwrap() = value;
        self
    }

    /// What it can see.
    pub fn inside(&self) -> PathBuf {
        self.dir.path().join("inside")
    }

    /// What it must not see.
    pub fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub fn package(&self) -> Package {
        let folder = self.dir.path().join("package");
        fs::write(folder.join("plugin.toml"), toml::to_string(&self.manifest).unwrap()).unwrap();
        fs::write(folder.join("plugin.wasm"), &self.module).unwrap();
        Package::read(open(&folder)).unwrap()
    }

    /// Calls its only tool.
    pub fn call(&self, arguments: Value) -> Result<Value, CallError> {
        let tool = self.manifest["tools"][0]["name"].as_str().unwrap();
        let mounts = vec![Mount { name: name("box"), folder: open(&self.inside()), writable: self.writable }];
        let package = self.package();
        let result = call(Call { package: &package, tool: &name(tool), arguments: &arguments, mounts });
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"secret");
        let outside: Vec<_> = fs::read_dir(self.outside()).unwrap().collect();
        assert_eq!(outside.len(), 1, "{outside:?}");
        result
    }

    /// What it says: an error number as `E<number>`.
    pub fn says(&self) -> String {
        self.call(json!({})).unwrap().as_str().unwrap().to_owned()
    }

    /// How it is ended.
    pub fn ends(&self) -> CallError {
        self.call(json!({})).unwrap_err()
    }
}

pub fn name(text: &str) -> Name {
    Name::try_from(text.to_owned()).unwrap()
}

pub fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}
