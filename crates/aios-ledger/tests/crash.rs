//! The story: an entry is acknowledged, so a tool runs, and then the power goes. When it comes back, the entry has to be
//! there. The power goes here at every single write and sync of a ledger's life, with all, none or some sectors of what
//! was not synced on the disk; and every single one of them fails once without a power cut.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use std::sync::Mutex;

use aios_fault_disk::{Disk, Plan, Room, Survivors};
use aios_ledger::{Checkpoint, Entry, Ledger, LedgerError, Receipt, verify};
use serde_json::json;
use support::fixture::{entry, options, signer};

/// What a ledger's user was told.
#[derive(Debug, Default)]
struct Told {
    receipts: Vec<Receipt>,
    /// Signed checkpoints.
    notes: Vec<String>,
    /// Number of entries that were tried.
    tried: u64,
    errors: Vec<LedgerError>,
}

impl Told {
    fn append(&mut self, ledger: &Ledger, entry: Entry) {
        self.tried += 1;
        match ledger.append(entry) {
            Ok(receipt) => self.receipts.push(receipt),
            Err(error) => self.errors.push(error),
        }
    }

    fn checkpoint(&mut self, ledger: &Ledger) {
        match ledger.checkpoint() {
            Ok(note) => self.notes.extend(note),
            Err(error) => self.errors.push(error),
        }
    }

    /// Drops what the last checkpoint covers.
    fn prune(&mut self, ledger: &Ledger) {
        self.tried += 1;
        let Some(note) = self.notes.last() else { return };
        match ledger.prune(note) {
            Ok(pruned) => self.receipts.extend(pruned.receipt),
            Err(error) => self.errors.push(error),
        }
    }
}

fn large(number: u64) -> Entry {
    Entry::new("result", "agent", &json!({ "number": number, "text": "x".repeat(20_000) })).unwrap()
}

/// A ledger's whole life, told as far as it went.
fn life(disk: &Disk) -> Told {
    let mut told = Told::default();
    for round in 0..2 {
        let ledger = match Ledger::open_on(Box::new(disk.clone()), signer(), options()) {
            Ok(ledger) => ledger,
            Err(error) => {
                told.errors.push(error);
                continue;
            }
        };
        (0..4).for_each(|number| told.append(&ledger, entry(number)));
        told.checkpoint(&ledger);
        told.append(&ledger, large(4));
        told.append(&ledger, entry(5));
        if round == 1 {
            told.prune(&ledger);
        }
        told.append(&ledger, entry(6));
        told.errors.extend(ledger.close().err());
    }
    told
}

/// Everything that was told has to be true of the ledger on `disk`, and it can go on.
fn check(disk: &Disk, told: &Told, what: &str) {
    let ledger =
        Ledger::open_on(Box::new(disk.clone()), signer(), options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let keys = signer().verifier();
    let known: Vec<_> = told.notes.iter().map(|note| Checkpoint::open(note, &keys).unwrap()).collect();
    let snapshot = ledger.snapshot().unwrap();
    let report = verify(&snapshot, &keys, &known).unwrap();
    assert_eq!(report.fault, None, "{what}");
    assert_eq!(report.known + report.unknown, known.len(), "{what}");
    assert!(snapshot.size() <= told.tried, "{what}: {} entries of {} tries", snapshot.size(), told.tried);
    for receipt in &told.receipts {
        assert!(receipt.seq < snapshot.size(), "{what}: entry {} is gone", receipt.seq);
        if receipt.seq >= snapshot.first() {
            let stored = snapshot.get(receipt.seq).unwrap().unwrap();
            assert_eq!(stored.hash, receipt.hash, "{what}: entry {} is another", receipt.seq);
        }
    }
    drop(snapshot);
    let next = ledger.append(entry(99)).unwrap();
    assert!(told.receipts.iter().all(|receipt| receipt.seq < next.seq), "{what}: a number was given twice");
    ledger.checkpoint().unwrap().unwrap();
    assert_eq!(verify(&ledger.snapshot().unwrap(), &keys, &known).unwrap().fault, None, "{what}");
}

#[test]
fn no_acknowledged_entry_is_lost_wherever_the_power_goes() {
    let disk = Disk::new(Plan::Nothing);
    let told = life(&disk);
    assert_eq!((told.errors.len(), told.receipts.len(), told.notes.len()), (0, 15, 2));
    check(&disk.after_power_cut(), &told, "without a failure");
    let operations = disk.operations();
    assert!(operations > 100, "{operations}");

    let mut survivals = [0, 0];
    for number in 1..=operations {
        for survivors in [Survivors::None, Survivors::All, Survivors::Last, Survivors::Some(number)] {
            let disk = Disk::new(Plan::Cut(number, survivors));
            let told = life(&disk);
            let what = format!("power cut at operation {number}, {survivors:?} of what was not synced");
            check(&disk.after_power_cut(), &told, &what);
            survivals[usize::from(told.receipts.len() < 7)] += 1;
        }
    }
    assert!(survivals.iter().all(|count| *count > 50), "cuts early and late: {survivals:?}");
}

#[test]
fn a_write_or_sync_that_fails_is_told_and_recording_goes_on() {
    let disk = Disk::new(Plan::Nothing);
    life(&disk);
    let mut told_of = 0;
    for number in 1..=disk.operations() {
        let disk = Disk::new(Plan::Fail(number));
        let told = life(&disk);
        assert!(told.errors.len() <= 3, "operation {number}: one failure is told few times: {:?}", told.errors);
        told_of += usize::from(!told.errors.is_empty());
        check(&disk.after_power_cut(), &told, &format!("operation {number} failed, and the power went later"));
    }
    assert!(told_of > 50, "{told_of}");
}

#[test]
fn threads_that_share_a_commit_share_what_became_of_it() {
    for number in (20..200).step_by(3) {
        let disk = Disk::new(Plan::Cut(number, Survivors::Some(number)));
        let told = Mutex::new(Told::default());
        if let Ok(ledger) = Ledger::open_on(Box::new(disk.clone()), signer(), options()) {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (told, ledger) = (&told, &ledger);
                    scope.spawn(move || {
                        for index in 0..8 {
                            let outcome = ledger.append(entry(thread * 100 + index));
                            let mut told = told.lock().unwrap();
                            told.tried += 1;
                            match outcome {
                                Ok(receipt) => told.receipts.push(receipt),
                                Err(error) => told.errors.push(error),
                            }
                        }
                    });
                }
            });
        }
        check(&disk.after_power_cut(), &told.into_inner().unwrap(), &format!("power cut at operation {number}"));
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_recording_goes_on_when_there_is_room() {
    let probe = Disk::new(Plan::Nothing);
    let ledger = Ledger::open_on(Box::new(probe.clone()), signer(), options()).unwrap();
    let (blocks, length) = (probe.blocks(), probe.named().unwrap().length());
    drop(ledger);
    let rooms = (0..40).map(|more| Room::Blocks(blocks + more)).chain([Room::Length(length), Room::Length(length * 2)]);
    for room in rooms {
        let disk = Disk::new(Plan::Nothing);
        let ledger = Ledger::open_on(Box::new(disk.clone()), signer(), options()).unwrap();
        disk.set_room(room);
        let mut told = Told::default();
        while told.errors.len() < 3 {
            told.append(&ledger, large(told.tried));
        }
        for error in &told.errors {
            assert!(matches!(error, LedgerError::Full { .. }), "{room:?}: {error}");
        }
        disk.set_room(Room::Endless);
        let before = told.receipts.len();
        (0..3).for_each(|number| told.append(&ledger, entry(number)));
        assert_eq!(told.receipts.len(), before + 3, "{room:?}: {:?}", told.errors.last());
        ledger.close().unwrap();
        check(&disk.after_power_cut(), &told, &format!("{room:?}"));
    }
}
