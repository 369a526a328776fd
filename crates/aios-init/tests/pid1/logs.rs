//! Output of units: captured, bounded, followed.

use std::io::{BufRead, BufReader, Write};

use aios_core::control::{Response, UnitState};

use crate::harness::Plan;

fn text(response: Response) -> String {
    match response {
        Response::Log(line) => line.text,
        other => panic!("no log line but {other:?}"),
    }
}

#[test]
fn both_streams_are_captured_and_a_follower_sees_new_lines() {
    let script = "echo one; echo two >&2; while [ ! -e $EVENTS.go ]; do sleep 0.01; done; echo three; printf four; echo printed >> $EVENTS; exec sleep 1000";
    let system = Plan::new().script("talker", script, "").boot();
    system.wait_for_log("talker", "two");
    let mut lines = system.ask(r#"{"request":"log","unit":"talker","follow":true}"#).map(text);
    let mut next = || lines.find(|line| !line.starts_with("aios-init:")).unwrap();
    assert_eq!((next(), next()), ("one".to_string(), "two".to_string()));
    std::fs::write(system.path("events.go"), "").unwrap();
    assert_eq!(next(), "three");
    system.wait_for_event("printed");
    // What has no line end yet is not shown before the unit ends.
    assert_eq!(system.order(r#"{"request":"stop","unit":"talker"}"#), Response::Done);
    assert_eq!(next(), "four");
}

#[test]
fn only_the_last_lines_are_given_when_asked() {
    let system = Plan::new().script("talker", "echo one; echo two; echo three; exec sleep 1000", "").boot();
    system.wait_for_log("talker", "three");
    system.wait_for_state("talker", UnitState::Ready);
    let lines: Vec<String> = system.ask(r#"{"request":"log","unit":"talker","lines":2}"#).map(text).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines.iter().rfind(|line| !line.starts_with("aios-init:")).unwrap(), "three");
}

#[test]
fn a_reader_that_stops_reading_loses_lines_and_holds_up_nobody() {
    let script = "while [ ! -e $EVENTS.go ]; do sleep 0.01; done; seq 1 300000; echo end; exec sleep 1000";
    let system = Plan::new().script("flood", script, "").boot();
    system.wait_for_state("flood", UnitState::Ready);
    let mut stalled = system.connect();
    writeln!(stalled, r#"{{"request":"log","unit":"flood","follow":true}}"#).unwrap();
    // The first line shows that PID 1 has begun to serve this reader, which from then on reads nothing.
    let mut stalled = BufReader::with_capacity(1, stalled);
    let mut line = String::new();
    stalled.read_line(&mut line).unwrap();
    std::fs::write(system.path("events.go"), "").unwrap();
    system.wait_for_log("flood", "end");
    let lines = stalled.lines().map(|line| text(serde_json::from_str(&line.unwrap()).unwrap()));
    let mut lost = false;
    for line in lines {
        lost |= line.contains("lines were lost");
        if line == "end" {
            break;
        }
    }
    assert!(lost, "the ring is larger than it should be, or the notice is missing");
}
