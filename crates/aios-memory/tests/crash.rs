//! What is acknowledged stays, whatever the disk does; what is erased is gone.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::sync::{Arc, Mutex};

use aios_fault_disk::{Disk, Plan, Room, Survivors};
use aios_memory::{Changed, Observer, Options, Selector, State, Store, StoreError, repair};
use fixture::*;

fn open(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_on(Box::new(disk.clone()), options())
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
fn writers_at_once_on_a_disk_that_fills_lose_nothing_that_was_acknowledged() {
    let disk = Disk::new(Plan::Nothing);
    let store = Arc::new(open(&disk).unwrap());
    let begun = store.put(knowledge("first", "text")).unwrap();
    disk.set_room(Room::Blocks(disk.blocks() + 200));
    let write = |writer: usize| {
        let store = store.clone();
        std::thread::spawn(move || {
            let text = |n: usize| format!("{writer} {n} {}", "x".repeat(20_000));
            (0..5).map(|n| store.put(knowledge("more", &text(n))).map(|id| (id, text(n)))).collect::<Vec<_>>()
        })
    };
    let all = |writers: std::ops::Range<usize>| {
        let writers: Vec<_> = writers.map(write).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    };
    let (told, refused): (Vec<_>, Vec<_>) = all(0..40).into_iter().partition(Result::is_ok);
    assert!(!refused.is_empty() && refused.iter().all(|answer| matches!(answer, Err(StoreError::Full { .. }))));
    assert!(store.read(|view| view.item(begun)).unwrap().is_some(), "reads go on");
    disk.set_room(Room::Endless);
    let later = all(40..60);
    let after = open(&disk.after_power_cut()).unwrap();
    assert_eq!(after.read(|view| view.verify()).unwrap(), 0);
    for answer in told.into_iter().chain(later) {
        let (id, text) = answer.unwrap();
        assert_eq!(after.read(|view| view.item(id)).unwrap().unwrap().content, knowledge("more", &text));
    }
}

#[test]
fn the_observer_is_told_of_what_is_written_and_of_another_state_once() {
    let disk = Disk::new(Plan::Nothing);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let observer: Observer = Arc::new(move |changed| tell.lock().unwrap().push(changed));
    let store = Store::open_on(Box::new(disk.clone()), Options { observer: Some(observer), ..options() }).unwrap();
    // The thread that writes answers first and tells then: what it was asked before is told when it answers again.
    let next = || {
        store.file_length().unwrap();
        std::mem::take(&mut *told.lock().unwrap())
    };
    assert_eq!(next(), [Changed::State], "it can be written");
    store.put(event("x")).unwrap();
    store.put(event("")).unwrap_err();
    assert_eq!(next(), [Changed::Content, Changed::Content]);
    disk.set_room(Room::Blocks(0));
    store.put(knowledge("k", &"x".repeat(100_000))).unwrap_err();
    store.put(knowledge("k", &"x".repeat(100_000))).unwrap_err();
    assert_eq!(next(), [Changed::State]);
    disk.set_room(Room::Endless);
    store.put(event("x")).unwrap();
    assert_eq!(next(), [Changed::Content, Changed::State]);
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
