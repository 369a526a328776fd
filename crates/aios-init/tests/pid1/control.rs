//! Clients of the control socket that mean no good, or are not who they should be.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;

use aios_core::control::{Response, UnitState};

use crate::harness::{Plan, System, is_root};

fn boot() -> System {
    let system = Plan::new().script("service", "exec sleep 1000", "").boot();
    system.wait_for_state("service", UnitState::Ready);
    system
}

fn error(response: Response) -> String {
    match response {
        Response::Error { message } => message,
        other => panic!("no error but {other:?}"),
    }
}

#[test]
fn hundreds_of_silent_clients_do_not_keep_others_out() {
    let system = boot();
    let path = system.path("run/aios/init.sock");
    let silent: Vec<_> = (0..300).filter_map(|_| std::os::unix::net::UnixStream::connect(&path).ok()).collect();
    assert!(silent.len() > 100);
    assert_eq!(system.unit("service").state, UnitState::Ready);
}

#[test]
fn garbage_gets_a_reason_and_harms_nobody() {
    let system = boot();
    for garbage in [&b"\xFF\xFE\x00\n"[..], b"{}\n", b"[[[[[[[[[[[[[[[[\n", b"{\"request\":\"fly\"}\n", b"\n"] {
        let mut stream = system.connect();
        stream.write_all(garbage).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(error(serde_json::from_str(&line).unwrap()).starts_with("not a request: "), "{line}");
    }
    let deep = format!("{}\n", "[".repeat(4000));
    assert!(error(system.order(deep.trim())).starts_with("not a request: "));
    assert_eq!(system.unit("service").state, UnitState::Ready);
}

#[test]
fn an_endless_line_is_cut_off() {
    let system = boot();
    let mut stream = system.connect();
    // PID 1 hangs up while this is being written.
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("longer than 4096 bytes") || answer.is_empty(), "{answer}");
    assert_eq!(system.unit("service").state, UnitState::Ready);
}

#[test]
fn clients_that_ask_and_never_read_do_not_stop_pid_1() {
    let system = boot();
    let stalled: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = system.connect();
            writeln!(stream, r#"{{"request":"log","unit":"service","follow":true}}"#).unwrap();
            stream
        })
        .collect();
    assert_eq!(system.unit("service").state, UnitState::Ready);
    assert_eq!(system.order(r#"{"request":"restart","unit":"service"}"#), Response::Done);
    drop(stalled);
}

#[test]
fn an_unknown_unit_is_named() {
    let system = boot();
    let message = error(system.order(r#"{"request":"restart","unit":"ghost"}"#));
    assert_eq!(message, "there is no unit ghost; `aios status` lists the units");
}

#[test]
fn others_than_root_may_ask_and_not_order() {
    if !is_root() {
        // The kernel maps this user to root of the namespace; there is no other to be.
        return;
    }
    let system = boot();
    // Reached through a descriptor, because the path may lead through directories that are root's alone.
    let directory = std::fs::File::open(system.path("run/aios")).unwrap();
    let path = format!("/proc/self/fd/{}/init.sock", directory.as_raw_fd());
    let ask = |request: &'static str| {
        let path = path.clone();
        let connect = move || {
            let uid = rustix::process::Uid::from_raw(61234);
            // Of this thread alone.
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            writeln!(stream, "{request}").unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            serde_json::from_str::<Response>(&line).unwrap()
        };
        std::thread::spawn(connect).join().unwrap()
    };
    assert!(matches!(ask(r#"{"request":"status"}"#), Response::Status(_)));
    let message = error(ask(r#"{"request":"stop","unit":"service"}"#));
    assert!(message.starts_with("only root may do this"), "{message}");
    assert_eq!(system.unit("service").state, UnitState::Ready);
}
