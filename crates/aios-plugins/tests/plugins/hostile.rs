//! Modules that use more than they may, or hand back what they may not.

use std::time::Duration;

use aios_plugins::{CallError, module::ModuleError};
use serde_json::json;

use crate::support::Plugin;

/// `_start` that writes `text` to stream `fd` and goes on with `then`.
fn writing(fd: u32, text: &str, then: &str) -> Plugin {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    Plugin::new(&format!(
        "(data (i32.const 1024) \"{escaped}\")
         (func (export \"_start\")
           (i32.store (i32.const 16) (i32.const 1024))
           (i32.store (i32.const 20) (i32.const {}))
           (drop (call $fd_write (i32.const {fd}) (i32.const 16) (i32.const 1) (i32.const 24)))
           {then})",
        text.len()
    ))
}

#[test]
fn a_loop_without_end_uses_up_its_fuel() {
    let plugin = Plugin::start("(loop $again (br $again))");
    assert!(matches!(plugin.ends(), CallError::Fuel(200_000_000)), "{}", plugin.ends());
}

#[test]
fn a_loop_with_more_fuel_than_time_runs_out_of_time() {
    let plugin = Plugin::start("(loop $again (br $again))")
        .with("/limits/fuel", json!(100_000_000_000u64))
        .with("/limits/timeout", json!("50ms"));
    assert!(matches!(plugin.ends(), CallError::Time(_)), "{}", plugin.ends());
}

#[test]
fn functions_of_the_host_cost_fuel_too() {
    // Each round is a handful of instructions, and a lot of work for the host.
    let random = Plugin::importing(
        "(import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))",
        "(func (export \"_start\")
           (loop $again (drop (call $random (i32.const 1024) (i32.const 65536))) (br $again)))",
    );
    assert!(matches!(Plugin::with(random, "/limits/fuel", json!(10_000_000)).ends(), CallError::Fuel(_)));
}

#[test]
fn memory_grows_to_its_limit_and_not_beyond() {
    let grow = "(loop $again (drop (memory.grow (i32.const 1))) (br $again))";
    assert!(matches!(Plugin::start(grow).ends(), CallError::Memory(4_194_304)), "{}", Plugin::start(grow).ends());
    let at_once = Plugin::start("(drop (memory.grow (i32.const 65000)))");
    assert!(matches!(at_once.ends(), CallError::Memory(_)));
    let within = Plugin::start("(drop (memory.grow (i32.const 60))) (call $say (memory.size))");
    assert_eq!(within.says(), "E062");
    let table = Plugin::new(
        "(table $t 1 funcref)
         (func (export \"_start\") (loop $again (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $again)))",
    );
    assert!(matches!(table.ends(), CallError::Memory(_)));
}

#[test]
fn recursion_without_end_is_ended() {
    let plugin =
        Plugin::new("(func $f (param i64) (call $f (local.get 0))) (func (export \"_start\") (call $f (i64.const 1)))");
    assert!(matches!(plugin.ends(), CallError::Depth), "{}", plugin.ends());
}

#[test]
fn a_flood_of_output_ends_the_call_and_one_of_complaints_is_cut() {
    let flood = |fd: u32| {
        Plugin::start(&format!(
            "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 4000))
             (loop $again (drop (call $fd_write (i32.const {fd}) (i32.const 16) (i32.const 1) (i32.const 24))) (br $again))"
        ))
    };
    assert!(matches!(flood(1).ends(), CallError::Output(4096)));
    let complaints = flood(2).with("/limits/fuel", json!(5_000_000));
    assert!(matches!(complaints.ends(), CallError::Fuel(_)));
    // One write of the same memory a thousand times over.
    let vectors = Plugin::start(
        "(local $i i32)
         (loop $fill
           (i32.store (i32.add (i32.const 2048) (i32.mul (local.get $i) (i32.const 8))) (i32.const 0))
           (i32.store (i32.add (i32.const 2052) (i32.mul (local.get $i) (i32.const 8))) (i32.const 131072))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $fill (i32.lt_u (local.get $i) (i32.const 1024))))
         (drop (call $fd_write (i32.const 1) (i32.const 2048) (i32.const 1024) (i32.const 24)))",
    );
    assert!(matches!(vectors.ends(), CallError::Output(_)));
}

#[test]
fn whoever_waits_for_ever_is_not_waited_for() {
    let poll = |clock: u32, timeout: u64, flags: u32| {
        let import =
            "(import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll (param i32 i32 i32 i32) (result i32)))";
        let text = format!(
            "(func (export \"_start\")
               (i32.store (i32.const 1040) (i32.const {clock}))
               (i64.store (i32.const 1048) (i64.const {timeout}))
               (i32.store16 (i32.const 1064) (i32.const {flags}))
               (call $say (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 3000))))"
        );
        Plugin::importing(import, &text)
    };
    for (clock, timeout, flags) in [(1, u64::MAX, 0), (0, u64::MAX, 0), (0, u64::MAX, 1), (1, u64::MAX, 1)] {
        let end = poll(clock, timeout, flags).ends();
        assert!(matches!(end, CallError::Time(limit) if limit == Duration::from_secs(20)), "{end}");
    }
    assert_eq!(poll(1, 1000, 0).says(), "E000");
    assert_eq!(poll(1, 0, 1).says(), "E000", "a time that has been");
    assert_eq!(poll(9, 0, 0).says(), "E028", "no such clock");
}

#[test]
fn a_result_that_is_not_as_promised_is_none() {
    for bad in ["", "{", "\"a\" \"b\"", "1", "{\"a\": 1}", "NaN", &"[".repeat(4000)] {
        let end = writing(1, bad, "").ends();
        assert!(matches!(end, CallError::Result { .. }), "{bad:?}: {end}");
    }
    let bytes = Plugin::start(
        "(i32.store (i32.const 1024) (i32.const 0x22fffe22))
         (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 4))
         (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))",
    );
    assert!(matches!(bytes.ends(), CallError::Result { .. }), "not UTF-8");
    let surrogate = writing(1, "\"\\ud800\"", "").ends();
    assert!(matches!(surrogate, CallError::Result { .. }), "{surrogate}");
}

#[test]
fn arguments_and_tools_that_the_manifest_does_not_have_reach_no_module() {
    let plugin = Plugin::start("unreachable").with(
        "/tools/0/input",
        json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } }),
    );
    for bad in [json!({}), json!({"n": "1"}), json!({"n": 1.5})] {
        assert!(matches!(plugin.call(bad), Err(CallError::Arguments(_))));
    }
    assert!(matches!(plugin.call(json!({"n": 1})), Err(CallError::Trap { .. })));
}

#[test]
fn what_went_wrong_is_told_with_the_end_of_the_complaints() {
    let exit = writing(2, "no such\ncolumn\u{1b}[31m", "(call $exit (i32.const 3))").ends();
    assert!(matches!(&exit, CallError::Exit { code: 3, stderr } if stderr.contains("no such")), "{exit}");
    assert_eq!(exit.to_string(), "the plugin ended with status 3; it said: no such column [31m");
    let trap = writing(2, "about to", "unreachable").ends();
    assert!(matches!(&trap, CallError::Trap { stderr, .. } if stderr == "about to"), "{trap}");
    for (what, code) in [
        ("memory beyond its end", "(drop (i32.load (i32.const -4)))"),
        ("division by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
    ] {
        assert!(matches!(Plugin::start(code).ends(), CallError::Trap { .. }), "{what}");
    }
}

#[test]
fn pointers_beyond_the_memory_are_errors_and_nothing_more() {
    for call in [
        "(call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 24))",
        "(call $fd_read (i32.const 0) (i32.const 131068) (i32.const 1) (i32.const 24))",
        "(call $reach (i32.const -1) (i32.const 2) (i32.const 0) (i64.const 2))",
        "(call $reach (i32.const 131071) (i32.const 2) (i32.const 0) (i64.const 2))",
    ] {
        assert_eq!(Plugin::start(&format!("(call $say {call})")).says(), "E021", "{call}");
    }
}

#[test]
fn numbers_of_files_that_it_was_not_given_are_nobodys() {
    for fd in [4, 5, 63, 64, 255, 1_000_000, -1] {
        let read = format!(
            "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 16))
             (call $say (call $fd_read (i32.const {fd}) (i32.const 16) (i32.const 1) (i32.const 24)))"
        );
        assert_eq!(Plugin::start(&read).says(), "E008", "{fd}");
        let path = format!(
            "(call $say (call $path_open (i32.const {fd}) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
             (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))"
        );
        assert_eq!(Plugin::start(&path).says(), "E008", "{fd}");
    }
}

#[test]
fn a_module_that_starts_with_too_much_is_not_started() {
    let big = wat::parse_str("(module (memory (export \"memory\") 100) (func (export \"_start\")))").unwrap();
    assert!(matches!(Plugin::of(big).ends(), CallError::Module(ModuleError::Start { .. })));
}
