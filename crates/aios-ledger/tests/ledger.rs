//! The ledger through its public interface.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use std::{collections::BTreeSet, num::NonZeroU64, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use aios_ledger::{
    Checkpoint, CheckpointEvery, Entry, EntryError, Filter, Ledger, LedgerError, Options, Order, RETENTION, ReadError,
    Reader, canonical, export, signer as device_signer, verify, verify_export,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::fixture::{entry, fill, open, options, signer};

#[test]
fn what_was_appended_is_read_back_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tools/ledger.redb");
    let ledger = open(&path);
    let receipts: Vec<_> = (0..10).map(|number| ledger.append(entry(number)).unwrap()).collect();
    assert_eq!(receipts.iter().map(|receipt| receipt.seq).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    ledger.close().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let ledger = open(&path);
    assert_eq!(ledger.append(entry(10)).unwrap().seq, 10);
    let snapshot = ledger.snapshot().unwrap();
    let stored: Vec<_> = snapshot.entries(0..u64::MAX).unwrap().map(Result::unwrap).collect();
    assert_eq!(stored.len(), 11);
    for (stored, receipt) in stored.iter().zip(&receipts) {
        assert_eq!((stored.seq, stored.hash), (receipt.seq, receipt.hash));
        let record = snapshot.parsed(stored).unwrap();
        assert_eq!(record.body["arguments"]["number"], json!(receipt.seq));
        assert_eq!(record.time.as_microsecond(), receipt.time.as_microsecond());
        let value: Value = serde_json::from_str(&stored.record).unwrap();
        assert_eq!(canonical(&value), stored.record, "the whole record is canonical");
        assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["agent", "body", "kind", "seq", "time"]);
    }
    let report = verify(&snapshot, &signer().verifier(), &[]).unwrap();
    assert_eq!((report.fault, report.first, report.size, report.signed, report.checkpoints), (None, 0, 11, 10, 1));
}

#[test]
fn an_empty_ledger_is_sound_and_has_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    let ledger = open(&path);
    assert_eq!(ledger.checkpoint().unwrap(), None);
    let report = verify(&ledger.snapshot().unwrap(), &signer().verifier(), &[]).unwrap();
    assert_eq!((report.fault, report.size, report.checkpoints), (None, 0, 0));
    ledger.close().unwrap();
    open(&path).close().unwrap();
}

#[test]
fn threads_share_commits_and_each_gets_its_own_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.redb"));
    let seqs: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u64)
            .map(|thread| {
                let ledger = &ledger;
                scope.spawn(move || {
                    let appended = (0..50).map(|index| {
                        let number = thread * 1000 + index;
                        let receipt = ledger.append(entry(number)).unwrap();
                        let stored = ledger.snapshot().unwrap().get(receipt.seq).unwrap().unwrap();
                        assert_eq!(stored.hash, receipt.hash);
                        assert!(stored.record.contains(&format!("\"number\":{number},")), "{}", stored.record);
                        receipt.seq
                    });
                    let seqs: Vec<_> = appended.collect();
                    assert!(seqs.is_sorted(), "one thread's entries are in its order");
                    seqs
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(seqs.iter().copied().collect::<BTreeSet<_>>(), (0..400).collect());
    assert_eq!(verify(&ledger.snapshot().unwrap(), &signer().verifier(), &[]).unwrap().fault, None);
}

#[test]
fn the_thread_signs_after_some_entries_and_after_some_time() {
    for (entries, time) in [(5, Duration::from_secs(3600)), (1_000_000, Duration::from_millis(1))] {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = CheckpointEvery::Entries(NonZeroU64::new(entries).unwrap(), time);
        let options = Options { checkpoints, ..options() };
        let ledger = Ledger::open(&dir.path().join("ledger.redb"), signer(), options).unwrap();
        for number in 0..5 {
            ledger.append(entry(number)).unwrap();
        }
        let signed = || verify(&ledger.snapshot().unwrap(), &signer().verifier(), &[]).unwrap().signed;
        while signed() < 5 {
            std::thread::yield_now();
        }
        ledger.close().unwrap();
    }
}

#[test]
fn other_processes_read_while_one_writes_and_only_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    assert!(matches!(Reader::open(&path), Err(ReadError::NotFound { .. })));
    let ledger = open(&path);
    ledger.append(entry(0)).unwrap();
    let reader = Reader::open(&path).unwrap();
    let before = reader.snapshot().unwrap();
    ledger.append(entry(1)).unwrap();
    ledger.checkpoint().unwrap().unwrap();
    assert_eq!((before.size(), reader.snapshot().unwrap().size()), (1, 2));
    assert_eq!(verify(&reader.snapshot().unwrap(), &signer().verifier(), &[]).unwrap().signed, 2);
    let error = Ledger::open(&path, signer(), options()).err().unwrap();
    assert!(matches!(&error, LedgerError::Storage { cause, .. } if cause.contains("another process")), "{error}");
    ledger.close().unwrap();
    assert_eq!(reader.snapshot().unwrap().size(), 2, "and after it was closed");
    assert_eq!(Reader::open(&path).unwrap().snapshot().unwrap().size(), 2);
}

#[test]
fn entries_are_found_by_agent_tool_kind_and_time_from_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.redb"));
    let receipts: Vec<_> = (0..24).map(|number| ledger.append(entry(number)).unwrap()).collect();
    let snapshot = ledger.snapshot().unwrap();
    let found = |order, filter: Filter| -> Vec<u64> {
        snapshot.select(0..u64::MAX, order, filter).unwrap().map(|record| record.unwrap().seq).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        found(Order::OldestFirst, Filter { agent: text("agent-1"), ..Filter::default() }),
        [1, 5, 9, 13, 17, 21]
    );
    assert_eq!(
        found(Order::NewestFirst, Filter { tool: text("fs.2"), ..Filter::default() }),
        [23, 20, 17, 14, 11, 8, 5, 2]
    );
    let both = Filter { kind: text("result"), agent: text("agent-3"), tool: text("fs.0"), ..Filter::default() };
    assert_eq!(found(Order::OldestFirst, both), [3, 15]);
    let window = Filter { since: Some(receipts[4].time), until: Some(receipts[7].time), ..Filter::default() };
    assert_eq!(found(Order::OldestFirst, window), [4, 5, 6]);
    assert_eq!(found(Order::OldestFirst, Filter { agent: text("nobody"), ..Filter::default() }), [0u64; 0]);
    let part: Vec<_> =
        snapshot.select(5..9, Order::NewestFirst, Filter::default()).unwrap().map(|r| r.unwrap().seq).collect();
    assert_eq!(part, [8, 7, 6, 5]);
    let last: Vec<_> = snapshot.entries(0..u64::MAX).unwrap().rev().take(2).map(|stored| stored.unwrap().seq).collect();
    assert_eq!(last, [23, 22]);
}

#[test]
fn what_can_not_be_recorded_is_refused_before_it_is_in_line() {
    let body = json!({});
    for kind in ["", "Decision", "a b", "a\n", "ledger.retention", &"a".repeat(65)] {
        assert!(matches!(Entry::new(kind, "agent", &body), Err(EntryError::Kind(_))), "{kind:?}");
    }
    for agent in ["", "a\nb", "a\u{7f}", &"a".repeat(129)] {
        assert!(matches!(Entry::new("decision", agent, &body), Err(EntryError::Agent(_))), "{agent:?}");
    }
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(Entry::new("decision", "agent", &nested(65)).err(), Some(EntryError::Deep));
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.redb"));
    ledger.append(Entry::new("decision", "agent", &nested(64)).unwrap()).unwrap();
    let large = |bytes: usize| Entry::new("decision", "agent", &json!({"text": "x".repeat(bytes)}));
    assert!(matches!(large(aios_ledger::RECORD_MAX).err(), Some(EntryError::Large(_))));
    ledger.append(large(aios_ledger::RECORD_MAX - 200).unwrap()).unwrap();
    let snapshot = ledger.snapshot().unwrap();
    let records = snapshot.select(0..2, Order::OldestFirst, Filter::default()).unwrap().map(Result::unwrap);
    assert_eq!(records.map(|record| record.body).next(), Some(nested(64)));
    assert_eq!(verify(&snapshot, &signer().verifier(), &[]).unwrap().fault, None);
}

#[test]
fn names_that_look_like_the_frame_of_a_record_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("ledger.redb"));
    let trick = r#"","body":{},"kind":"x","seq":7,"time":"2026-01-01T00:00:00.000000Z"}"#;
    for _ in 0..3 {
        ledger
            .append(Entry::new("decision", trick, &json!({ trick: trick, "kind": "ledger.retention" })).unwrap())
            .unwrap();
    }
    let snapshot = ledger.snapshot().unwrap();
    assert_eq!(verify(&snapshot, &signer().verifier(), &[]).unwrap().fault, None);
    let filter = Filter { agent: Some(trick.to_owned()), ..Filter::default() };
    assert_eq!(snapshot.select(0..9, Order::OldestFirst, filter).unwrap().count(), 3);
}

#[test]
fn a_ledger_is_continued_with_its_own_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    let keys = dir.path().join("keys");
    let first = device_signer(&keys).unwrap();
    let name = first.name().to_owned();
    let public = std::fs::read_to_string(keys.join("ledger.pub")).unwrap();
    assert_eq!(public, first.verifier().to_string());
    let ledger = Ledger::open(&path, first, options()).unwrap();
    ledger.append(entry(0)).unwrap();
    ledger.close().unwrap();
    let error = Ledger::open(&path, signer(), options()).err().unwrap();
    assert!(matches!(&error, LedgerError::Origin { found, .. } if *found == name), "{error}");
    let again = device_signer(&keys).unwrap();
    assert_eq!(again.name(), name);
    Ledger::open(&path, again, options()).unwrap().close().unwrap();
}

#[test]
fn nothing_is_recorded_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    let ledger = Arc::new(open(&path));
    ledger.append(entry(0)).unwrap();
    // Dropping closes too, and signs.
    drop(ledger);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(verify(&reader.snapshot().unwrap(), &signer().verifier(), &[]).unwrap().signed, 1);
}

#[test]
fn entries_are_dropped_after_their_checkpoint_was_taken_elsewhere_and_the_ledger_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    let ledger = open(&path);
    let keys = signer().verifier();
    fill(&ledger, 0..5);
    let early = ledger.checkpoint().unwrap().unwrap();
    fill(&ledger, 5..10);
    let exported = ledger.checkpoint().unwrap().unwrap();
    fill(&ledger, 10..12);

    let foreign = Checkpoint { size: 7, ..Checkpoint::open(&exported, &keys).unwrap() }.sign(&signer()).unwrap();
    assert!(matches!(ledger.prune(&foreign), Err(LedgerError::Unknown { size: 7 })));
    assert!(matches!(ledger.prune("no checkpoint"), Err(LedgerError::Checkpoint(_))));

    let pruned = ledger.prune(&exported).unwrap();
    assert_eq!((pruned.dropped, pruned.receipt.unwrap().seq), (10, 12));
    assert_eq!(ledger.prune(&exported).unwrap().dropped, 0, "a second time there is nothing to do");
    assert!(matches!(ledger.prune(&early), Err(LedgerError::Unknown { size: 5 })));
    ledger.append(entry(13)).unwrap();
    let snapshot = ledger.snapshot().unwrap();
    assert_eq!((snapshot.first(), snapshot.size()), (10, 14));
    let record = snapshot.parsed(&snapshot.get(12).unwrap().unwrap()).unwrap();
    assert_eq!((record.kind.as_str(), &record.body["first"]), (RETENTION, &json!(10)));
    drop(snapshot);
    ledger.close().unwrap();

    let ledger = open(&path);
    assert_eq!(ledger.append(entry(14)).unwrap().seq, 14);
    let known = [&early, &exported].map(|note| Checkpoint::open(note, &keys).unwrap());
    let report = verify(&ledger.snapshot().unwrap(), &keys, &known).unwrap();
    assert_eq!((report.fault, report.first, report.size, report.signed), (None, 10, 15, 14));
    assert_eq!((report.known, report.unknown), (1, 1));
}

#[test]
fn what_a_power_cut_left_of_a_beginning_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let (path, draft) = (dir.path().join("ledger.redb"), dir.path().join("ledger.redb.draft-0123456789abcdef"));
    std::fs::write(&draft, "half of a database").unwrap();
    let other = dir.path().join("journal.redb.draft-0123456789abcdef");
    std::fs::write(&other, "not the ledger's").unwrap();
    open(&path).close().unwrap();
    assert!(path.exists() && other.exists() && !draft.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn what_is_no_ledger_is_neither_read_nor_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    for content in ["", "something else that somebody needs"] {
        std::fs::write(&path, content).unwrap();
        assert!(Reader::open(&path).and_then(|reader| reader.snapshot()).is_err());
        assert!(Ledger::open(&path, signer(), options()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

/// What is done to a ledger.
#[derive(Clone, Debug)]
enum Act {
    Append(u8),
    Checkpoint,
    Prune(usize),
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1u8..5).prop_map(Act::Append),
        2 => Just(Act::Checkpoint),
        1 => any::<usize>().prop_map(Act::Prune),
        1 => Just(Act::Reopen),
    ];
    prop::collection::vec(act, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_done_in_order_the_ledger_is_sound_and_continues_what_it_signed(acts in acts()) {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.path().join("ledger.redb");
        let keys = signer().verifier();
        let mut ledger = open(&path);
        let (mut size, mut first, mut notes) = (0u64, 0u64, Vec::new());
        for act in acts {
            match act {
                Act::Append(count) => {
                    fill(&ledger, 0..u64::from(count));
                    size += u64::from(count);
                }
                Act::Checkpoint => notes.extend(ledger.checkpoint().unwrap()),
                Act::Prune(index) if !notes.is_empty() => {
                    let note: &String = &notes[index % notes.len()];
                    let covered = Checkpoint::open(note, &keys).unwrap().size;
                    match ledger.prune(note) {
                        Ok(pruned) => {
                            prop_assert_eq!(pruned.dropped, covered - first);
                            size += u64::from(pruned.receipt.is_some());
                            first = covered;
                        }
                        Err(error) => prop_assert!(covered < first, "{}", error),
                    }
                }
                Act::Prune(_) => {}
                Act::Reopen => {
                    ledger.close().unwrap();
                    ledger = open(&path);
                }
            }
            let snapshot = ledger.snapshot().unwrap();
            prop_assert_eq!((snapshot.first(), snapshot.size()), (first, size));
            let known: Vec<_> = notes.iter().map(|note| Checkpoint::open(note, &keys).unwrap()).collect();
            let report = verify(&snapshot, &keys, &known).unwrap();
            prop_assert_eq!((report.fault.as_ref(), report.first, report.size), (None, first, size));
            prop_assert_eq!(report.known + report.unknown, known.len());
            let mut text = Vec::new();
            export(&snapshot, first, &mut text).unwrap();
            let exported = verify_export(&mut &text[..], &keys, &known).unwrap();
            prop_assert_eq!(exported, report);
        }
    }
}
