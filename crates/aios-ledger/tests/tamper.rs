//! Somebody changes the ledger's file, who has everything but the key. What they change is found, and where.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use std::path::PathBuf;

use aios_keys::{note::Signer, seed::Seed};
use aios_ledger::{Checkpoint, Ledger, Reader, Reason, Report, verify};
use redb::{Database, ReadableTable as _, TableDefinition};
use sha2::{Digest as _, Sha256};
use support::fixture::{fill, open, options, signer};

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const CHECKPOINTS: TableDefinition<u64, &[u8]> = TableDefinition::new("checkpoints");
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// The rows of a table.
type Rows = Vec<(u64, Vec<u8>)>;

/// A ledger of 10 entries with checkpoints of 4 and 8, whose file can be changed at will.
struct Victim {
    _dir: tempfile::TempDir,
    path: PathBuf,
    entries: Rows,
    checkpoints: Rows,
    notes: Vec<String>,
}

impl Victim {
    fn new() -> Victim {
        // The file is written thousands of times; memory does, where there is a file system of it.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.path().join("ledger.redb");
        let ledger = open(&path);
        let notes = [4, 8].map(|size| {
            fill(&ledger, size - 4..size);
            ledger.checkpoint().unwrap().unwrap()
        });
        fill(&ledger, 8..10);
        // What is signed at closing is taken away again, so that there are entries that nobody signed yet.
        ledger.close().unwrap();
        let mut victim =
            Victim { _dir: dir, path, entries: Vec::new(), checkpoints: Vec::new(), notes: notes.to_vec() };
        (victim.entries, victim.checkpoints) = victim.rows();
        victim.checkpoints.retain(|(size, _)| *size <= 8);
        victim.restore();
        assert_eq!(victim.check().fault, None);
        victim
    }

    fn rows(&self) -> (Rows, Rows) {
        let database = Database::create(&self.path).unwrap();
        let transaction = database.begin_write().unwrap();
        let [entries, checkpoints] = [ENTRIES, CHECKPOINTS].map(|table| {
            let table = transaction.open_table(table).unwrap();
            table
                .iter()
                .unwrap()
                .map(|row| row.unwrap())
                .map(|(key, value)| (key.value(), value.value().to_vec()))
                .collect()
        });
        (entries, checkpoints)
    }

    /// Writes these rows into the file, and nothing else, with checksums of the database as they should be.
    fn write(&self, entries: &Rows, checkpoints: &Rows) {
        let database = Database::create(&self.path).unwrap();
        let transaction = database.begin_write().unwrap();
        for (table, rows) in [(ENTRIES, entries), (CHECKPOINTS, checkpoints)] {
            let mut table = transaction.open_table(table).unwrap();
            table.retain(|_, _| false).unwrap();
            for (key, value) in rows {
                table.insert(key, &value[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn restore(&self) {
        self.write(&self.entries, &self.checkpoints);
    }

    /// What is found with nothing but the public keys.
    fn check(&self) -> Report {
        self.check_with(&[])
    }

    /// What is found by somebody who kept a checkpoint.
    fn check_with(&self, notes: &[String]) -> Report {
        let keys = signer().verifier();
        let known: Vec<_> = notes.iter().map(|note| Checkpoint::open(note, &keys).unwrap()).collect();
        verify(&Reader::open(&self.path).unwrap().snapshot().unwrap(), &keys, &known).unwrap()
    }

    /// What is found after the rows were changed so. The file is as it was before when this returns.
    fn after(&self, change: impl FnOnce(&mut Rows, &mut Rows)) -> Report {
        let (mut entries, mut checkpoints) = (self.entries.clone(), self.checkpoints.clone());
        change(&mut entries, &mut checkpoints);
        self.write(&entries, &checkpoints);
        let report = self.check();
        self.restore();
        report
    }
}

/// First entry that may be wrong, and why.
fn fault(report: &Report) -> (u64, Reason) {
    let fault = report.fault.clone().unwrap_or_else(|| panic!("nothing was found: {report:?}"));
    (fault.seq, fault.reason)
}

/// The hash of the chain, computed by hand as docs/formats/ledger.md says.
fn link(previous: &[u8], record: &[u8]) -> [u8; 32] {
    let leaf = Sha256::new().chain_update([0]).chain_update(record).finalize();
    Sha256::new().chain_update("aios ledger entry 1\n").chain_update(previous).chain_update(leaf).finalize().into()
}

/// Makes the hashes of all entries from `from` on fit again, as somebody does who knows the format.
fn rechain(entries: &mut Rows, from: usize) {
    let start: [u8; 32] =
        Sha256::new().chain_update("aios ledger start 1\n").chain_update("aios/ledger/test").finalize().into();
    for index in from..entries.len() {
        let previous = index.checked_sub(1).map_or(start.to_vec(), |before| entries[before].1[..32].to_vec());
        let hash = link(&previous, &entries[index].1[32..]);
        entries[index].1[..32].copy_from_slice(&hash);
    }
}

#[test]
fn the_chain_is_the_one_of_the_document() {
    let victim = Victim::new();
    let mut entries = victim.entries.clone();
    rechain(&mut entries, 0);
    assert_eq!(entries, victim.entries);
}

#[test]
fn every_byte_of_every_entry_that_is_changed_is_found_in_that_entry() {
    let victim = Victim::new();
    for index in 0..victim.entries.len() {
        for at in 0..victim.entries[index].1.len() {
            let report = victim.after(|entries, _| entries[index].1[at] ^= 1 << (at % 8));
            let (seq, reason) = fault(&report);
            assert_eq!(seq, index as u64, "byte {at}: {reason:?}");
            assert!(matches!(reason, Reason::Hash | Reason::Form), "byte {at} of entry {index}: {reason:?}");
        }
    }
}

#[test]
fn a_changed_entry_with_new_hashes_after_it_is_found_by_the_next_checkpoint() {
    let victim = Victim::new();
    for index in 0..10 {
        let report = victim.after(|entries, _| {
            let record = String::from_utf8(entries[index].1[32..].to_vec()).unwrap();
            let changed = record.replacen("\"number\":", "\"number\":1", 1);
            assert_ne!(changed, record);
            entries[index].1.splice(32.., changed.into_bytes());
            rechain(entries, index);
        });
        match index {
            0..4 => assert_eq!(fault(&report), (0, Reason::Root(4))),
            4..8 => assert_eq!(fault(&report), (4, Reason::Root(8))),
            // Nobody signed these yet: the report says so, and who relies on them can see it.
            _ => assert_eq!((report.fault, report.signed), (None, 8)),
        }
    }
}

#[test]
fn entries_that_are_dropped_swapped_or_put_in_are_found() {
    let victim = Victim::new();
    for index in 0..10usize {
        let seq = index as u64;
        let report = victim.after(|entries, _| drop(entries.remove(index)));
        match index {
            0 => assert_eq!(fault(&report), (1, Reason::Start)),
            9 => assert_eq!((report.fault.as_ref(), report.size), (None, 9), "the unsigned end: see truncation"),
            _ => assert_eq!(fault(&report), (seq, Reason::Missing(Some(seq + 1)))),
        }
        // Closing the gap does not help, with or without new hashes.
        for rehash in [false, true] {
            let report = victim.after(|entries, _| {
                entries.remove(index);
                entries.iter_mut().skip(index).for_each(|(key, _)| *key -= 1);
                if rehash {
                    rechain(entries, index);
                }
            });
            if index < 9 {
                assert_eq!(fault(&report), (seq, Reason::Form));
            }
        }
        for other in index + 1..10 {
            let report = victim.after(|entries, _| {
                let kept = entries[index].1.clone();
                entries[index].1 = std::mem::replace(&mut entries[other].1, kept);
            });
            assert_eq!(fault(&report), (seq, Reason::Form), "{index} and {other} swapped");
        }
    }
    let report = victim.after(|entries, _| {
        let forged = String::from_utf8(entries[9].1[32..].to_vec()).unwrap().replace("\"seq\":9", "\"seq\":11");
        entries.push((11, [&[0; 32], forged.as_bytes()].concat()));
    });
    assert_eq!(fault(&report), (10, Reason::Missing(Some(11))));
}

#[test]
fn an_end_that_is_cut_off_is_found_by_the_checkpoints_that_are_left_or_known() {
    let victim = Victim::new();
    for size in 0..10u64 {
        let cut = |entries: &mut Rows| entries.truncate(size as usize);
        let report = victim.after(|entries, _| cut(entries));
        match size {
            0..4 => assert_eq!(fault(&report), (size, Reason::Truncated(4))),
            4..8 => assert_eq!(fault(&report), (size, Reason::Truncated(8))),
            _ => assert_eq!(report.fault, None, "entries that nobody signed are proven by nothing"),
        }
        // With the checkpoints gone too, only who kept one can tell.
        let mut entries = victim.entries.clone();
        cut(&mut entries);
        let checkpoints: Rows = victim.checkpoints.iter().filter(|(covered, _)| *covered <= size).cloned().collect();
        victim.write(&entries, &checkpoints);
        assert_eq!(victim.check().fault, None);
        let report = victim.check_with(&victim.notes);
        match size {
            0..8 => assert_eq!((fault(&report), report.known), ((size, Reason::Truncated(8)), usize::from(size >= 4))),
            _ => assert_eq!((report.fault, report.known), (None, 2)),
        }
        victim.restore();
    }
}

#[test]
fn every_changed_byte_of_a_checkpoint_is_found() {
    let victim = Victim::new();
    for index in 0..2 {
        let value = &victim.checkpoints[index].1;
        let text = value.windows(2).position(|pair| pair == b"\n\n").unwrap();
        // The two signatures are long; every byte of notes is tested where they are.
        for at in (0..text + 150).chain((text + 150..value.len()).step_by(61)) {
            let report = victim.after(|_, checkpoints| checkpoints[index].1[at] ^= 1);
            let (seq, reason) = fault(&report);
            let size = victim.checkpoints[index].0;
            let expected = matches!(reason, Reason::Checkpoint(of, _) | Reason::Root(of) if of == size);
            assert!(expected && seq == 4 * index as u64, "byte {at}: {seq}, {reason:?}");
        }
    }
    for size in [0, 3, 5, 7, 9, 10, 11] {
        let report = victim.after(|_, checkpoints| checkpoints[1].0 = size);
        assert!(report.fault.is_some(), "the checkpoint of 8 as that of {size}");
    }
}

#[test]
fn a_ledger_that_is_rewritten_with_another_key_or_name_is_not_this_devices() {
    let victim = Victim::new();
    let thief = Signer::new("aios/ledger/test", &Seed::from_bytes([2; 32])).unwrap();
    let other = victim.path.with_extension("other");
    let ledger = Ledger::open(&other, thief, options()).unwrap();
    fill(&ledger, 0..10);
    ledger.close().unwrap();
    std::fs::copy(&other, &victim.path).unwrap();
    assert!(matches!(fault(&victim.check()), (0, Reason::Checkpoint(10, _))));

    let database = Database::create(&victim.path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("origin", "aios/ledger/other").unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(fault(&victim.check()), (0, Reason::Origin("aios/ledger/other".into())));
}

#[test]
fn two_ledgers_of_one_key_are_a_fork_for_who_saw_a_checkpoint_of_each() {
    let victim = Victim::new();
    std::fs::remove_file(&victim.path).unwrap();
    let ledger = open(&victim.path);
    // The device's key signs another history: the first six entries are the same to the byte.
    fill(&ledger, 0..6);
    let same = ledger.checkpoint().unwrap().unwrap();
    fill(&ledger, 100..106);
    ledger.close().unwrap();
    assert_eq!(victim.check().fault, None, "by itself it is sound");
    assert_eq!(victim.check_with(&[same]).fault, None);
    let report = victim.check_with(&victim.notes);
    assert_eq!((fault(&report), report.known), ((6, Reason::Fork(8)), 1));
    let keys = signer().verifier();
    let theirs = Reader::open(&victim.path).unwrap().snapshot().unwrap().checkpoint(12).unwrap().unwrap();
    let (theirs, ours) =
        (Checkpoint::open(&theirs, &keys).unwrap(), Checkpoint::open(&victim.notes[1], &keys).unwrap());
    assert_eq!(theirs.conflict(&ours), None, "of different sizes, only the entries tell");
    assert!(Checkpoint { root: [0; 32], ..ours.clone() }.conflict(&ours).is_some());
}

#[test]
fn a_beginning_that_is_cut_off_is_found_unless_the_ledger_itself_dropped_it() {
    let victim = Victim::new();
    let keep = |size: u64| {
        move |entries: &mut Rows, checkpoints: &mut Rows| {
            entries.retain(|(seq, _)| *seq >= size);
            checkpoints.retain(|(covered, _)| *covered >= size);
        }
    };
    assert_eq!(fault(&victim.after(keep(4))), (4, Reason::Start), "the ledger does not say so");
    assert_eq!(fault(&victim.after(keep(8))), (8, Reason::Start));
    assert_eq!(fault(&victim.after(keep(6))), (6, Reason::Start), "no checkpoint to begin at");

    let ledger = open(&victim.path);
    ledger.prune(&victim.notes[0]).unwrap();
    ledger.close().unwrap();
    let report = victim.check();
    assert_eq!((report.fault, report.first), (None, 4));
    // What was dropped in order is no excuse to drop more.
    let (mut entries, mut checkpoints) = victim.rows();
    keep(8)(&mut entries, &mut checkpoints);
    victim.write(&entries, &checkpoints);
    assert_eq!(fault(&victim.check()), (8, Reason::Start));
}

#[test]
fn a_tampered_ledger_is_not_continued() {
    let victim = Victim::new();
    let refused = |change: &dyn Fn(&mut Rows, &mut Rows)| {
        let (mut entries, mut checkpoints) = (victim.entries.clone(), victim.checkpoints.clone());
        change(&mut entries, &mut checkpoints);
        victim.write(&entries, &checkpoints);
        let refused = Ledger::open(&victim.path, signer(), options()).is_err();
        victim.restore();
        refused
    };
    assert!(!refused(&|_, _| ()));
    assert!(refused(&|entries, _| entries[8].1[40] ^= 1), "an entry that is not signed yet");
    assert!(refused(&|entries, _| drop(entries.remove(8))));
    assert!(refused(&|entries, _| entries.truncate(7)), "fewer than were signed");
    assert!(refused(&|_, checkpoints| checkpoints[1].1[3] ^= 1), "the tree to go on from");
    assert!(refused(&|_, checkpoints| {
        let at = checkpoints[1].1.len() - 9;
        checkpoints[1].1[at] ^= 1;
    }));
}

#[test]
fn bytes_of_the_file_that_rot_are_found_or_hold_nothing() {
    let victim = Victim::new();
    let bytes = std::fs::read(&victim.path).unwrap();
    let damaged = victim.path.with_extension("damaged");
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let keys = signer().verifier();
    let mut found = 0;
    for at in used.iter().step_by(used.len() / 1500) {
        let mut rotten = bytes.clone();
        rotten[*at] ^= 0x10;
        std::fs::write(&damaged, &rotten).unwrap();
        let read = Reader::open(&damaged).and_then(|reader| {
            let snapshot = reader.snapshot()?;
            let report = verify(&snapshot, &keys, &[])?;
            let records = report
                .fault
                .is_none()
                .then(|| snapshot.entries(0..u64::MAX).unwrap().map(Result::unwrap).collect::<Vec<_>>());
            Ok((report, records))
        });
        match read {
            Ok((Report { fault: None, checkpoints, .. }, records)) => {
                let records: Rows = records
                    .unwrap()
                    .into_iter()
                    .map(|stored| (stored.seq, [&stored.hash, stored.record.as_bytes()].concat()))
                    .collect();
                assert!(records == victim.entries && checkpoints == 2, "byte {at} changed the ledger unseen");
            }
            _ => found += 1,
        }
    }
    assert!(found > 100, "{found}");
}
