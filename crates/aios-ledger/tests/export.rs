//! Exports, and what is found when one was changed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use aios_ledger::{Checkpoint, ExportError, Ledger, Reason, Report, export, verify, verify_export};
use support::fixture::{fill, open, signer};

/// A ledger of 12 entries with checkpoints after 4 and 8.
fn ledger(dir: &tempfile::TempDir) -> (Ledger, [String; 2]) {
    let ledger = open(&dir.path().join("ledger.redb"));
    let notes = [4, 8].map(|size| {
        fill(&ledger, size - 4..size);
        ledger.checkpoint().unwrap().unwrap()
    });
    fill(&ledger, 8..12);
    (ledger, notes)
}

fn exported(ledger: &Ledger, from: u64) -> String {
    let mut out = Vec::new();
    export(&ledger.snapshot().unwrap(), from, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn check(text: &str) -> Result<Report, ExportError> {
    verify_export(&mut text.as_bytes(), &signer().verifier(), &[])
}

#[test]
fn an_export_is_checked_without_the_ledger_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, notes) = ledger(&dir);
    let text = exported(&ledger, 0);
    assert_eq!(text.lines().count(), 1 + 12 + 2 + 1);
    let of_ledger = verify(&ledger.snapshot().unwrap(), &signer().verifier(), &[]).unwrap();
    assert_eq!(check(&text).unwrap(), of_ledger);
    assert_eq!((of_ledger.fault, of_ledger.signed), (None, 8));
    let mut out = Vec::new();
    let exported = export(&ledger.snapshot().unwrap(), 0, &mut out).unwrap();
    assert_eq!((exported.first, exported.size, exported.checkpoint.as_deref()), (0, 12, Some(notes[1].as_str())));
}

#[test]
fn an_export_can_begin_at_any_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, notes) = ledger(&dir);
    for (from, first) in [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (11, 8), (u64::MAX, 8)] {
        let report = check(&exported(&ledger, from)).unwrap();
        assert_eq!((report.fault, report.first, report.size), (None, first, 12), "from {from}");
    }
    let known = notes.map(|note| Checkpoint::open(&note, &signer().verifier()).unwrap());
    let text = exported(&ledger, 4);
    let report = verify_export(&mut text.as_bytes(), &signer().verifier(), &known).unwrap();
    assert_eq!((report.fault, report.known), (None, 2));
}

#[test]
fn an_export_of_what_retention_left_begins_at_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, notes) = ledger(&dir);
    ledger.prune(&notes[1]).unwrap();
    let report = check(&exported(&ledger, 0)).unwrap();
    assert_eq!((report.fault, report.first, report.size, report.signed), (None, 8, 13, 13));
}

#[test]
fn every_line_that_is_dropped_doubled_or_swapped_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = ledger(&dir);
    let text = exported(&ledger, 0);
    let lines: Vec<_> = text.lines().collect();
    let sound = |lines: &[&str]| check(&(lines.join("\n") + "\n")).is_ok_and(|report| report.fault.is_none());
    assert!(sound(&lines));
    for index in 0..lines.len() {
        let mut dropped = lines.clone();
        let line = dropped.remove(index);
        // Without one of its checkpoints, less of an export is signed; nothing of it is wrong.
        assert_eq!(sound(&dropped), line.starts_with("{\"checkpoint\""), "without line {index}");
        let mut doubled = lines.clone();
        doubled.insert(index, lines[index]);
        assert_eq!(sound(&doubled), line.starts_with("{\"checkpoint\""), "line {index} twice");
        if index + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            assert!(!sound(&swapped), "lines {index} and {} swapped", index + 1);
        }
        assert!(!sound(&lines[..index]), "cut off before line {index}");
    }
}

#[test]
fn every_changed_byte_of_an_export_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = ledger(&dir);
    let text = exported(&ledger, 4);
    let honest = check(&text).unwrap();
    // Signatures are long and tested where notes are: here, each 53rd byte of what is in them.
    let long = |at: usize| {
        let start = text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        start == 0 || text[start..].starts_with("{\"checkpoint\"")
    };
    for at in (0..text.len()).filter(|at| !long(*at) || at % 53 == 0) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 0x01;
        let report = verify_export(&mut &bytes[..], &signer().verifier(), &[]);
        let caught = match &report {
            Err(ExportError::Form { .. }) => true,
            Err(_) => false,
            Ok(report) => report.fault.is_some() && report.size <= honest.size,
        };
        assert!(
            caught,
            "byte {at}: {:?}: {report:?}",
            String::from_utf8_lossy(&bytes[at.saturating_sub(20)..(at + 20).min(text.len())])
        );
    }
}

#[test]
fn what_is_no_export_is_refused_by_its_line() {
    for text in [
        "",
        "\n",
        "{}\n",
        "[]\n",
        "no json",
        "{\"end\":0}\n",
        "{\"first\":0,\"format\":\"x\",\"origin\":\"aios/ledger/test\"}\n",
    ] {
        assert!(matches!(check(text), Err(ExportError::Form { line: 1, .. })), "{text:?}");
    }
    let head = "{\"first\":0,\"format\":\"aios ledger export 1\",\"origin\":\"aios/ledger/test\"}\n";
    assert_eq!(check(&format!("{head}{{\"end\":0}}\n")).unwrap().fault, None);
    assert_eq!(check(head).unwrap().fault.unwrap().reason, Reason::End);
    assert!(matches!(check(&format!("{head}{{\"end\":0")), Err(ExportError::Form { line: 2, .. })));
    let long = format!("{head}{}\n", "x".repeat(2 << 20));
    assert!(matches!(check(&long), Err(ExportError::Form { line: 2, .. })));
    let foreign = head.replace("ledger/test", "ledger/other");
    assert_eq!(check(&foreign).unwrap().fault.unwrap().reason, Reason::Origin("aios/ledger/other".into()));
}
