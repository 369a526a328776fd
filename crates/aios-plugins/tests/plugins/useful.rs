//! What a plugin is for.

use std::fs;

use serde_json::json;

use crate::support::Plugin;

/// Answers with the name of the tool and its arguments: `["echo",{...}]`.
const ECHO: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "[\"\",\"],")
  (func $write (param $at i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $at))
    (i32.store (i32.const 20) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
  (func $length (param $at i32) (result i32)
    (local $n i32)
    (loop $again
      (if (i32.load8_u (i32.add (local.get $at) (local.get $n)))
        (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $again))))
    (local.get $n))
  (func (export "_start")
    (drop (call $sizes (i32.const 32) (i32.const 36)))
    (if (i32.ne (i32.load (i32.const 32)) (i32.const 2)) (then unreachable))
    (drop (call $args (i32.const 64) (i32.const 128)))
    (call $write (i32.const 0) (i32.const 1))
    (call $write (i32.const 1) (i32.const 1))
    (call $write (i32.load (i32.const 68)) (call $length (i32.load (i32.const 68))))
    (call $write (i32.const 1) (i32.const 1))
    (call $write (i32.const 3) (i32.const 1))
    (loop $more
      (i32.store (i32.const 40) (i32.const 1024))
      (i32.store (i32.const 44) (i32.const 7))
      (drop (call $fd_read (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 48)))
      (call $write (i32.const 1024) (i32.load (i32.const 48)))
      (br_if $more (i32.load (i32.const 48))))
    (call $write (i32.const 5) (i32.const 1))))
"#;

#[test]
fn a_tool_hears_its_name_and_arguments_and_its_output_is_the_result() {
    let plugin = Plugin::of(wat::parse_str(ECHO).unwrap())
        .with("/tools/0/name", json!("echo"))
        .with("/tools/0/output", json!({ "type": "array" }));
    let arguments = json!({ "text": "Pump 2 läuft", "n": [1, 2.5, null] });
    assert_eq!(plugin.call(arguments.clone()).unwrap(), json!(["echo", arguments]));
    assert_eq!(plugin.call(json!({})).unwrap(), json!(["echo", {}]));
}

#[test]
fn what_a_tool_writes_into_its_folder_stays() {
    let module = "
        (data (i32.const 1024) \"deep/note\") (data (i32.const 1100) \"running\")
        (func (export \"_start\")
          (call $say (call $reach (i32.const 1024) (i32.const 9) (i32.const 1) (i64.const 66)))
          (i32.store (i32.const 16) (i32.const 1100)) (i32.store (i32.const 20) (i32.const 7))
          (drop (call $fd_write (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 24))))";
    let plugin = Plugin::new(module).writable();
    assert_eq!(plugin.says(), "E000");
    assert_eq!(fs::read(plugin.inside().join("deep/note")).unwrap(), b"running");
}
