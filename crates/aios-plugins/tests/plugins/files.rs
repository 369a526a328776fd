//! Ways out of the folder that a module was handed.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use aios_plugins::CallError;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;

use crate::support::{Plugin, READ, READ_WRITE};

const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const TRUNCATE: u32 = 8;

/// Error numbers of WASI.
const OK: &str = "E000";
const EXIST: &str = "E020";
const ILSEQ: &str = "E025";
const INVAL: &str = "E028";
const LOOP: &str = "E032";
const NAMETOOLONG: &str = "E037";
const NOENT: &str = "E044";
const NOTSUP: &str = "E058";
const ROFS: &str = "E069";
const NOTCAPABLE: &str = "E076";

/// Ways that lead out, or would.
const OUT: [&str; 12] = [
    "/etc/passwd",
    "/",
    "//etc/passwd",
    "..",
    "../outside/secret",
    "../../../../../../etc/passwd",
    "deep/../../outside/secret",
    "deep/../../inside/open",
    "./../outside/secret",
    "deep/..//../outside/secret",
    "../inside/open",
    "../",
];

#[test]
fn no_path_leads_out() {
    for path in OUT {
        for (how, rights) in [(0, READ), (DIRECTORY, READ), (CREATE, READ_WRITE), (TRUNCATE, READ_WRITE)] {
            assert_eq!(Plugin::opening(path, how, rights).writable().says(), NOTCAPABLE, "{path} {how}");
        }
    }
    for within in ["open", "./open", "deep/../open", "deep/.././/open"] {
        assert_eq!(Plugin::opening(within, 0, READ).says(), OK, "{within}");
    }
    assert_eq!(Plugin::opening("none", 0, READ).says(), NOENT);
    assert_eq!(Plugin::opening("", 0, READ).says(), NOENT);
    assert_eq!(Plugin::opening("open\0", 0, READ).says(), INVAL);
    assert_eq!(Plugin::opening(&"a".repeat(300), 0, READ).says(), NAMETOOLONG);
    assert_eq!(Plugin::opening(&"a/".repeat(3000), 0, READ).says(), NAMETOOLONG);
    let no_text = Plugin::new(
        "(data (i32.const 1024) \"\\ff\\fe\")
         (func (export \"_start\") (call $say (call $reach (i32.const 1024) (i32.const 2) (i32.const 0) (i64.const 2))))",
    );
    assert_eq!(no_text.says(), ILSEQ);
}

#[test]
fn no_link_is_followed() {
    for path in ["link", "deep/link", "dir/secret", "dir", "self/open", "proc", "inner"] {
        for (how, rights) in [(0, READ), (DIRECTORY, READ), (TRUNCATE, READ_WRITE)] {
            let plugin = Plugin::opening(path, how, rights).writable();
            let (inside, outside) = (plugin.inside(), plugin.outside());
            symlink(outside.join("secret"), inside.join("link")).unwrap();
            symlink("../../outside/secret", inside.join("deep/link")).unwrap();
            symlink(&outside, inside.join("dir")).unwrap();
            symlink(".", inside.join("self")).unwrap();
            symlink("/proc/self/root/etc/passwd", inside.join("proc")).unwrap();
            symlink("open", inside.join("inner")).unwrap();
            let said = plugin.says();
            // A link in the place of a folder is no folder.
            assert!(said == LOOP || (how == DIRECTORY && said == "E054"), "{path}: {said}");
        }
    }
}

#[test]
fn a_link_that_comes_and_goes_meanwhile_is_never_followed() {
    let module = "
        (data (i32.const 1024) \"swap/secret\")
        (func (export \"_start\")
          (local $i i32) (local $found i32)
          (loop $again
            (if (i32.eqz (call $reach (i32.const 1024) (i32.const 11) (i32.const 0) (i64.const 2)))
              (then (local.set $found (i32.const 1))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 20000))))
          (call $say (local.get $found)))";
    let plugin = Plugin::new(module);
    let (inside, outside) = (plugin.inside(), plugin.outside());
    fs::create_dir(inside.join("swap")).unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, inside.join("swap"), CWD, inside.join("link"), flags).unwrap();
            }
        });
        let said = plugin.says();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(said, OK, "the file behind the link was opened");
    });
}

#[test]
fn what_leads_to_somebody_else_is_not_opened() {
    let pipe = Plugin::opening("pipe", 0, READ);
    rustix::fs::mknodat(CWD, pipe.inside().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(pipe.says(), NOTCAPABLE);
    let socket = Plugin::opening("socket", 0, READ_WRITE).writable();
    let _listener = UnixListener::bind(socket.inside().join("socket")).unwrap();
    assert_ne!(socket.says(), OK);
}

#[test]
fn a_folder_to_read_is_not_changed() {
    for (path, how, rights) in [
        ("new", CREATE, READ),
        ("new", CREATE, READ_WRITE),
        ("open", TRUNCATE, READ),
        ("open", 0, READ_WRITE),
        ("open", 0, 1 << 22),
        ("open", 0, 1 << 8),
    ] {
        let plugin = Plugin::opening(path, how, rights);
        assert_eq!(plugin.says(), ROFS, "{path} {how} {rights}");
        assert_eq!(fs::read(plugin.inside().join("open")).unwrap(), b"open");
        assert!(!plugin.inside().join("new").exists());
        let low = Plugin::opening(path, how, rights).writable().with("/tools/0/risk", json!("low"));
        assert_eq!(low.says(), ROFS, "a tool of low risk changes nothing");
    }
    for change in CHANGES {
        let plugin = changing(change);
        assert_eq!(plugin.says(), ROFS, "{}", change.0);
        assert_eq!(fs::read(plugin.inside().join("open")).unwrap(), b"open");
    }
}

/// Functions that change names: the import, and a call of it with two paths, the first at 1024, the second at 2048.
type Change = (&'static str, &'static str, &'static str);

const CHANGES: [Change; 4] = [
    ("path_create_directory", "i32 i32 i32", "(i32.const 3) (i32.const 2048) (i32.const $2)"),
    ("path_unlink_file", "i32 i32 i32", "(i32.const 3) (i32.const 1024) (i32.const $1)"),
    ("path_remove_directory", "i32 i32 i32", "(i32.const 3) (i32.const 1024) (i32.const $1)"),
    (
        "path_rename",
        "i32 i32 i32 i32 i32 i32",
        "(i32.const 3) (i32.const 1024) (i32.const $1) (i32.const 3) (i32.const 2048) (i32.const $2)",
    ),
];

fn changing(change: Change) -> Plugin {
    changing_paths(change, "open", "new")
}

fn changing_paths((name, types, arguments): Change, first: &str, second: &str) -> Plugin {
    let arguments = arguments.replace("$1", &first.len().to_string()).replace("$2", &second.len().to_string());
    let import = format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func $change (param {types}) (result i32)))");
    let text = format!(
        "(data (i32.const 1024) \"{first}\") (data (i32.const 2048) \"{second}\")
         (func (export \"_start\") (call $say (call $change {arguments})))"
    );
    Plugin::importing(&import, &text)
}

#[test]
fn no_name_outside_is_made_removed_or_moved() {
    for path in OUT {
        for change in CHANGES {
            let (first, second) = if change.0 == "path_create_directory" { ("open", path) } else { (path, "new") };
            let said = changing_paths(change, first, second).writable().says();
            assert!([NOTCAPABLE, NOENT].contains(&&said[..]), "{} {path}: {said}", change.0);
        }
        let out = changing_paths(CHANGES[3], "open", path).writable();
        assert!([NOTCAPABLE, NOENT].contains(&&out.says()[..]), "rename to {path}");
        assert!(out.inside().join("open").exists());
    }
    let within = changing_paths(CHANGES[3], "open", "deep/moved").writable();
    assert_eq!(within.says(), OK);
    assert_eq!(fs::read(within.inside().join("deep/moved")).unwrap(), b"open");
    let over = changing_paths(CHANGES[0], "", "deep").writable();
    assert_eq!(over.says(), EXIST);
}

#[test]
fn through_a_linked_folder_nothing_is_changed() {
    for change in CHANGES {
        let (first, second) = ("dir/secret", "dir/new");
        let plugin = changing_paths(change, first, second).writable();
        symlink(plugin.outside(), plugin.inside().join("dir")).unwrap();
        let said = plugin.says();
        // A link in the place of a folder is no folder.
        assert!([LOOP, "E054"].contains(&&said[..]), "{}: {said}", change.0);
        assert!(!plugin.outside().join("new").exists());
    }
}

#[test]
fn no_link_is_made_or_read() {
    let five = "i32 i32 i32 i32 i32";
    for (name, types, arguments) in [
        (
            "path_link",
            "i32 i32 i32 i32 i32 i32 i32",
            "(i32.const 3) (i32.const 0) (i32.const 1024) (i32.const $1) (i32.const 3) (i32.const 2048) (i32.const $2)",
        ),
        ("path_symlink", five, "(i32.const 1024) (i32.const $1) (i32.const 3) (i32.const 2048) (i32.const $2)"),
        (
            "path_readlink",
            "i32 i32 i32 i32 i32 i32",
            "(i32.const 3) (i32.const 2048) (i32.const $2) (i32.const 4096) (i32.const 64) (i32.const 4200)",
        ),
    ] {
        let plugin = changing_paths((name, types, arguments), "/etc/passwd", "new").writable();
        assert_eq!(plugin.says(), NOTSUP, "{name}");
        assert!(plugin.inside().join("new").symlink_metadata().is_err());
    }
}

#[test]
fn more_than_allowed_is_not_written() {
    let fill = "
        (data (i32.const 1024) \"big\")
        (func (export \"_start\")
          (drop (call $reach (i32.const 1024) (i32.const 3) (i32.const 1) (i64.const 66)))
          (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (i32.const 8192))
          (loop $again
            (drop (call $fd_write (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 24))) (br $again)))";
    let plugin = Plugin::new(fill).writable();
    assert!(matches!(plugin.ends(), CallError::Write(65_536)));
    assert!(fs::metadata(plugin.inside().join("big")).unwrap().len() <= 65_536);

    let many = "
        (data (i32.const 1024) \"a\")
        (func (export \"_start\")
          (loop $again
            (i32.store8 (i32.const 1024) (i32.add (i32.const 1) (i32.load8_u (i32.const 1024))))
            (drop (call $reach (i32.const 1024) (i32.const 1) (i32.const 1) (i64.const 2))) (br $again)))";
    let plugin = Plugin::new(many).writable();
    assert!(matches!(plugin.ends(), CallError::Write(_)));
    assert!(fs::read_dir(plugin.inside()).unwrap().count() <= 2 + 16);
}

#[test]
fn a_file_does_not_grow_to_where_the_kernel_would_end_the_process() {
    let imports = "
        (import \"wasi_snapshot_preview1\" \"fd_pwrite\" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
        (import \"wasi_snapshot_preview1\" \"fd_filestat_set_size\" (func $size (param i32 i64) (result i32)))";
    let text = "
        (data (i32.const 1024) \"far\")
        (func (export \"_start\")
          (drop (call $reach (i32.const 1024) (i32.const 3) (i32.const 1) (i64.const 66)))
          (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (i32.const 8))
          (if (i32.ne (call $pwrite (i32.const 4) (i32.const 16) (i32.const 1) (i64.const -4) (i32.const 24))
                      (i32.const 22)) (then unreachable))
          (call $say (call $size (i32.const 4) (i64.const 1000000000000))))";
    assert_eq!(Plugin::importing(imports, text).writable().says(), "E022");
}

#[test]
fn only_so_many_files_are_open_at_once() {
    let module = "
        (data (i32.const 1024) \"open\")
        (func (export \"_start\")
          (local $last i32)
          (loop $again
            (local.set $last (call $reach (i32.const 1024) (i32.const 4) (i32.const 0) (i64.const 2)))
            (br_if $again (i32.eqz (local.get $last))))
          (call $say (local.get $last)))";
    assert_eq!(Plugin::new(module).says(), "E033");
}
