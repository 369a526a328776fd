//! `aios ledger verify`, `show` and `export` on a device's ledger.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Command, Output},
};

use aios_ledger::{Entry, Ledger, Options, signer};
use serde_json::{Value, json};

/// A device with a ledger of six entries, of which four were signed before it was closed.
struct Device {
    dir: tempfile::TempDir,
    /// The checkpoint of four entries.
    note: String,
}

impl Device {
    fn new() -> Device {
        let dir = tempfile::tempdir().unwrap();
        let keys = signer(&dir.path().join("keys")).unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.redb"), keys, Options::default()).unwrap();
        let append = |number: u64| {
            let body = json!({"tool": if number < 3 { "fs.read" } else { "net.up" }, "number": number});
            ledger
                .append(
                    Entry::new("decision", if number.is_multiple_of(2) { "operator" } else { "medic" }, &body).unwrap(),
                )
                .unwrap();
        };
        (0..4).for_each(append);
        let note = ledger.checkpoint().unwrap().unwrap();
        (4..6).for_each(append);
        ledger.close().unwrap();
        Device { dir, note }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn aios(&self, args: &[&str]) -> Output {
        let (ledger, keys) = (self.path("ledger.redb"), self.path("keys"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.arg("ledger").args(args).arg("--ledger").arg(ledger).arg("--keys").arg(keys).output().unwrap()
    }

    fn success(&self, args: &[&str]) -> String {
        let output = self.aios(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_sound_ledger_is_verified_and_a_changed_one_exits_with_1() {
    let device = Device::new();
    let known = device.path("known");
    fs::write(&known, &device.note).unwrap();
    let text = device.success(&["verify", "--known", known.to_str().unwrap()]);
    assert!(text.contains("6, from 0 to 5") && text.contains("1 continued") && text.ends_with("sound\n"), "{text}");
    let report: Value = serde_json::from_str(&device.success(&["verify", "--json"])).unwrap();
    assert_eq!((&report["ok"], &report["size"], &report["signed"]), (&json!(true), &json!(6), &json!(6)));

    let bytes = fs::read(device.path("ledger.redb")).unwrap();
    let file = OpenOptions::new().write(true).open(device.path("ledger.redb")).unwrap();
    let needle = br#""number":5,"#;
    for at in (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)) {
        file.write_all_at(br#""number":7,"#, at as u64).unwrap();
    }
    let output = device.aios(&["verify"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("NOT SOUND: entry 5 is not the one that was recorded"), "{text}");
}

#[test]
fn the_last_entries_are_shown_as_they_were_asked_for() {
    let device = Device::new();
    let seqs = |args: &[&str]| -> Vec<u64> {
        let text = device.success(&[&["show", "--json"], args].concat());
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(seqs(&["--limit", "2"]), [4, 5]);
    assert_eq!(seqs(&["--agent", "medic"]), [1, 3, 5]);
    assert_eq!(seqs(&["--tool", "fs.read", "-n", "2"]), [1, 2]);
    assert_eq!(seqs(&["--kind", "result"]), [0u64; 0]);
    assert_eq!(seqs(&["--since", "1h"]).len(), 6);
    assert_eq!(seqs(&["--since", "2999-01-01T00:00:00Z"]), [0u64; 0]);
    let table = device.success(&["show"]);
    assert_eq!(table.lines().count(), 7);
    assert!(table.starts_with("SEQ  TIME (UTC)") && table.contains("net.up"), "{table}");
    let one: Value = serde_json::from_str(&device.success(&["show", "3", "--json"])).unwrap();
    assert_eq!((&one["body"]["number"], one["hash"].as_str().unwrap().len()), (&json!(3), 64));
    assert!(device.success(&["show", "3"]).starts_with("entry 3\n"));
    let missing = device.aios(&["show", "6"]);
    assert_eq!(String::from_utf8_lossy(&missing.stderr), "aios: there is no entry 6: the ledger keeps 0 to 5\n");
    assert_eq!(device.aios(&["show", "--since", "yesterday"]).status.code(), Some(1));
}

#[test]
fn an_export_is_verified_where_there_is_no_ledger() {
    let device = Device::new();
    let export = device.path("export.jsonl");
    device.success(&["export", "--output", export.to_str().unwrap()]);
    assert_eq!(fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&export).unwrap(), device.success(&["export"]));
    assert!(!device.aios(&["export", "--output", export.to_str().unwrap()]).status.success(), "nothing is overwritten");
    let later = device.success(&["export", "--from", "5"]);
    assert!(later.starts_with("{\"first\":4,"), "{later}");
    fs::remove_file(device.path("ledger.redb")).unwrap();
    assert!(device.success(&["verify", "--export", export.to_str().unwrap()]).ends_with("sound\n"));
    let error = String::from_utf8(device.aios(&["verify"]).stderr).unwrap();
    assert!(error.contains("there is no ledger yet"), "{error}");

    let text = fs::read_to_string(&export).unwrap();
    fs::write(&export, text.replace("\"number\":2", "\"number\":3")).unwrap();
    let output = device.aios(&["verify", "--export", export.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT SOUND: entry 2 "), "{output:?}");
}
