//! Modules that are refused before any of their code runs.

use aios_plugins::module::{Module, ModuleError};

use crate::support::{PRELUDE, Plugin};

fn refused(text: &str) -> ModuleError {
    Module::new(&wat::parse_str(text).unwrap()).unwrap_err()
}

#[test]
fn a_socket_or_anything_else_that_no_plugin_gets_cant_even_be_asked_for() {
    for (module, name, kind) in [
        ("wasi_snapshot_preview1", "sock_open", "(func (param i32 i32) (result i32))"),
        ("wasi_snapshot_preview1", "sock_accept", "(func (param i32 i32 i32) (result i32))"),
        ("wasi_snapshot_preview1", "sock_recv", "(func (param i32 i32 i32 i32 i32 i32) (result i32))"),
        ("wasi_snapshot_preview1", "sock_send", "(func (param i32 i32 i32 i32 i32) (result i32))"),
        ("wasi_snapshot_preview1", "sock_shutdown", "(func (param i32 i32) (result i32))"),
        ("wasi_snapshot_preview1", "proc_raise", "(func (param i32) (result i32))"),
        ("wasi_snapshot_preview1", "fd_read", "(global i32)"),
        ("wasi_unstable", "fd_read", "(func (param i32 i32 i32 i32) (result i32))"),
        ("wasi:sockets/tcp", "start-connect", "(func)"),
        ("env", "system", "(func (param i32) (result i32))"),
        ("env", "memory", "(memory 1)"),
        ("env", "table", "(table 1 funcref)"),
    ] {
        let text = format!(
            "(module (import \"{module}\" \"{name}\" {kind}) {} (func (export \"_start\")))",
            if kind.starts_with("(memory") {
                "(export \"memory\" (memory 0))"
            } else {
                "(memory (export \"memory\") 1)"
            }
        );
        let error = refused(&text);
        assert!(matches!(&error, ModuleError::Import { name: asked, .. } if asked == name), "{module} {name}: {error}");
    }
}

#[test]
fn a_function_that_is_asked_for_with_other_arguments_is_not_given() {
    let text = "(module (import \"wasi_snapshot_preview1\" \"fd_read\" (func (param i64) (result i64)))
                (memory (export \"memory\") 1) (func (export \"_start\")))";
    let module = Module::new(&wat::parse_str(text).unwrap()).unwrap();
    assert!(matches!(module.check_start(1 << 20), Err(ModuleError::Start { .. })));
}

#[test]
fn what_is_no_module_is_told_so() {
    let good = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\") (nop)))").unwrap();
    assert!(Module::new(&good).is_ok());
    for length in 0..good.len() {
        assert!(Module::new(&good[..length]).is_err(), "cut after {length} bytes");
    }
    for bytes in [&b""[..], b"\x7fELF\x02\x01\x01", b"#!/bin/sh\n", b"\0asm\x0d\0\x01\0", &[0xff; 4096]] {
        assert!(matches!(Module::new(bytes), Err(ModuleError::Invalid(_))), "{bytes:?}");
    }
    // Wrong code, right form: the stack is empty where a number should be.
    let mut wrong = good.clone();
    let nop = wrong.len() - 2;
    assert_eq!(wrong[nop], 0x01);
    wrong[nop] = 0x1a;
    assert!(matches!(Module::new(&wrong), Err(ModuleError::Invalid(_))));
}

#[test]
fn no_change_of_a_byte_makes_the_check_panic() {
    let good =
        wat::parse_str(format!("(module {PRELUDE} (func (export \"_start\") (call $say (i32.const 7))))")).unwrap();
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            if let Ok(module) = Module::new(&bytes) {
                let _ = module.check_start(1 << 20);
            }
        }
    }
}

#[test]
fn a_library_is_no_command() {
    for text in [
        "(module (memory (export \"memory\") 1))",
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))",
        "(module (func (export \"_start\")))",
        "(module (memory 1) (func (export \"_start\")) (export \"memory\" (func 0)))",
    ] {
        assert!(matches!(refused(text), ModuleError::NoCommand(_)), "{text}");
    }
    let before =
        "(module (memory (export \"memory\") 1) (func (export \"_start\")) (func $begin (loop (br 0))) (start $begin))";
    assert!(matches!(refused(before), ModuleError::Invalid(_)), "code that runs before the call is counted");
}

#[test]
fn modules_out_of_all_proportion_are_refused() {
    let functions = "(func)".repeat(10_001);
    let text = format!("(module (memory (export \"memory\") 1) (func (export \"_start\")) {functions})");
    assert!(matches!(refused(&text), ModuleError::Invalid(_)));
    let two = "(module (memory (export \"memory\") 1) (memory 1) (func (export \"_start\")))";
    assert!(matches!(refused(two), ModuleError::Invalid(_)));
    // Locals take room on the stack of values, whatever little the code is.
    let locals = "i64 ".repeat(10_000);
    let deep = Plugin::of(
        wat::parse_str(format!(
            "(module (memory (export \"memory\") 1) (func $f (local {locals}) (call $f))
             (func (export \"_start\") (call $f)))"
        ))
        .unwrap(),
    );
    assert!(matches!(deep.ends(), aios_plugins::CallError::Depth), "{}", deep.ends());
}

#[test]
fn more_memory_than_allowed_is_refused_from_the_start() {
    let text = "(module (memory (export \"memory\") 65536) (func (export \"_start\")))";
    let module = Module::new(&wat::parse_str(text).unwrap()).unwrap();
    assert!(matches!(module.check_start(64 << 20), Err(ModuleError::Start { .. })));
    let table = "(module (memory (export \"memory\") 1) (table 9000000 funcref) (func (export \"_start\")))";
    let module = Module::new(&wat::parse_str(table).unwrap()).unwrap();
    assert!(matches!(module.check_start(64 << 20), Err(ModuleError::Start { .. })));
}
