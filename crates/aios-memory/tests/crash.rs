//! What is acknowledged stays, whatever the disk does; what is erased is gone.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/disk.rs"]
mod disk;
#[path = "support/fixture.rs"]
mod fixture;

use aios_fault_disk::{Disk, Plan, Room, Survivors};
use aios_memory::{Selector, State, Store, StoreError, repair};
use disk::OnDisk;
use fixture::*;

fn open(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_on(Box::new(OnDisk(disk.clone())), options())
}

/// Writes until the end, and tells what was acknowledged.
fn life(disk: &Disk) -> Vec<u64> {
    let Ok(store) = open(disk) else { return Vec::new() };
    let mut told: Vec<u64> = (0..6).filter_map(|n| store.put(knowledge("k", &format!("text {n}"))).ok()).collect();
    // Deletes nothing, but the file is written anew.
    let _ = store.erase(Selector::Agent("nobody".into()));
    told.extend((0..3).filter_map(|n| store.put(event(&format!("{n}"))).ok()));
    told
}

fn check(disk: &Disk, told: &[u64], what: &str) {
    let store = open(&disk.after_power_cut()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(store.state(), State::Writable, "{what}");
    for id in told {
        assert!(store.read(|view| view.item(*id)).unwrap().is_some(), "{what}: item {id}");
    }
    assert_eq!(store.read(|view| view.verify()).unwrap(), 0, "{what}");
    store.put(event("goes on")).unwrap();
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged() {
    let whole = Disk::new(Plan::Nothing);
    assert_eq!(life(&whole).len(), 9);
    for number in 1..=whole.operations() {
        for survivors in [Survivors::None, Survivors::All, Survivors::Some(number)] {
            let disk = Disk::new(Plan::Cut(number, survivors));
            let told = life(&disk);
            check(&disk, &told, &format!("power cut at operation {number}, {survivors:?}"));
        }
    }
}

#[test]
fn an_operation_that_fails_loses_nothing_that_was_acknowledged() {
    let whole = Disk::new(Plan::Nothing);
    life(&whole);
    for number in 1..=whole.operations() {
        let disk = Disk::new(Plan::Fail(number));
        let told = life(&disk);
        check(&disk, &told, &format!("operation {number} failed"));
    }
}

#[test]
fn on_a_full_disk_reads_go_on_and_writing_does_when_there_is_room() {
    let disk = Disk::new(Plan::Nothing);
    let store = open(&disk).unwrap();
    let mut told = vec![store.put(knowledge("first", "text")).unwrap()];
    disk.set_room(Room::Blocks(disk.blocks()));
    let error = loop {
        match store.put(knowledge("more", &"x".repeat(100_000))) {
            Ok(id) => told.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(store.read(|view| view.item(told[0])).unwrap().is_some(), "reads go on");
    disk.set_room(Room::Endless);
    told.push(store.put(knowledge("again", "there is room")).unwrap());
    drop(store);
    check(&disk, &told, "a full disk");
}

#[test]
fn what_is_erased_is_not_in_the_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    let store = Store::open(&path, options()).unwrap();
    let has = |text: &str| {
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    for n in 0..50 {
        store.put(knowledge("t", &format!("secret-of-learning {n}"))).unwrap();
        store.put(event(&format!("word-of-monitor {n}"))).unwrap();
    }
    assert!(has("secret-of-learning") && has("word-of-monitor"));
    assert_eq!(store.erase(Selector::Agent("learning".into())).unwrap(), 50);
    assert!(!has("secret-of-learning") && has("word-of-monitor"));
    assert_eq!(store.erase(Selector::All).unwrap(), 50);
    assert!(!has("word-of-monitor"));
    assert_eq!(store.put(event("goes on")).unwrap(), 101, "ids are never used twice");
}

#[test]
fn a_damaged_file_is_repaired_with_what_can_be_read_and_kept_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    let store = Store::open(&path, options()).unwrap();
    for n in 0..200 {
        store.put(knowledge("t", &format!("number {n}"))).unwrap();
    }
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    let repaired = repair(&path).unwrap();
    assert_eq!(repaired.items, 200, "{repaired:?}");
    assert_eq!(std::fs::read(&repaired.kept).unwrap(), bytes);
    let store = Store::open(&path, options()).unwrap();
    assert!(store.read(|view| view.item(200)).unwrap().is_some());
    assert_eq!(store.put(event("goes on")).unwrap(), 201);
}
