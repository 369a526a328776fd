//! The story: an item is stored and acknowledged, and then the power goes. When it comes back, the item is there and can
//! be found by its words; an item whose removal was acknowledged is neither. The power goes here at every single write
//! and sync, with all, none or some sectors of what was not synced on the disk.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use aios_fault_disk::{Disk, Plan, Survivors};
use aios_recall::text::TextIndex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

/// The items themselves, as a user of the index has them.
const ITEMS: TableDefinition<u64, &str> = TableDefinition::new("items");

/// Items by number.
type Items = BTreeMap<u64, String>;

/// A transaction: items that are written, and such that are removed.
fn transactions() -> Vec<Vec<(u64, Option<String>)>> {
    (0..6_u64)
        .map(|round| {
            let written = (0..30).map(|number| (round * 20 + number, Some(text_of(round, number))));
            let removed = (0..round * 3).map(|number| (number * 5, None));
            written.chain(removed).collect()
        })
        .collect()
}

fn text_of(round: u64, number: u64) -> String {
    format!("item of round {round}: unit{number} on host-{} has load {}", number % 5, number * round)
}

/// Performs all transactions; what is there for certain, and what the transaction during which the power went would have
/// made of it.
fn life(disk: &Disk) -> (Items, Option<Items>) {
    let mut items = Items::new();
    let Ok(database) = Database::builder().create_with_backend(disk.clone()) else { return (items, None) };
    for changes in transactions() {
        let mut after = items.clone();
        for (id, text) in &changes {
            match text {
                Some(text) => after.insert(*id, text.clone()),
                None => after.remove(id),
            };
        }
        if perform(&database, &changes).is_none() {
            return (items, Some(after));
        }
        items = after;
    }
    (items, None)
}

/// None where the disk failed.
fn perform(database: &Database, changes: &[(u64, Option<String>)]) -> Option<()> {
    let transaction = database.begin_write().ok()?;
    {
        let mut table = transaction.open_table(ITEMS).ok()?;
        let index = TextIndex::new("items");
        let mut writer = index.writer(&transaction).ok()?;
        for (id, text) in changes {
            match text {
                Some(text) => {
                    table.insert(id, text.as_str()).ok()?;
                    writer.insert(*id, text).ok()?;
                }
                None => {
                    table.remove(id).ok()?;
                    writer.remove(*id).ok()?;
                }
            }
        }
    }
    transaction.commit().ok()
}

/// What is on the disk is one of the two, in the table of items and in the index.
fn check(disk: &Disk, (before, after): &(Items, Option<Items>), what: &str) {
    let database =
        Database::builder().create_with_backend(disk.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let read = database.begin_read().unwrap();
    let items: Items = match read.open_table(ITEMS) {
        Ok(table) => table
            .iter()
            .unwrap()
            .map(|row| row.unwrap())
            .map(|(id, text)| (id.value(), text.value().to_owned()))
            .collect(),
        Err(_) => Items::new(),
    };
    assert!(items == *before || Some(&items) == after.as_ref(), "{what}: neither before nor after");
    let index = TextIndex::new("items");
    let statistics = index.check(&read).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(statistics.texts, items.len() as u64, "{what}");
    for (id, text) in items.iter().step_by(17) {
        assert!(index.contains(&read, *id).unwrap(), "{what}: {id}");
        let hits = index.search(&read, text, items.len(), |_| true).unwrap();
        assert!(hits.iter().any(|hit| hit.id == *id), "{what}: '{text}'");
    }
    // And it can be written again.
    perform(&database, &[(1, Some("written after the power came back".to_owned()))]).unwrap();
    index.check(&database.begin_read().unwrap()).unwrap();
}

#[test]
fn items_and_their_words_are_there_together_wherever_the_power_goes() {
    let disk = Disk::with_database(Plan::Nothing).unwrap();
    let told = life(&disk);
    assert!(told.1.is_none() && told.0.len() > 100, "{}", told.0.len());
    check(&disk.after_power_cut(), &told, "without a failure");
    let operations = disk.operations();
    assert!(operations > 100, "{operations}");

    let (mut kept, mut lost) = (0, 0);
    for number in 1..=operations {
        for survivors in [Survivors::None, Survivors::All, Survivors::Last, Survivors::Some(number)] {
            let disk = Disk::with_database(Plan::Cut(number, survivors)).unwrap();
            let told = life(&disk);
            check(&disk.after_power_cut(), &told, &format!("power cut at operation {number}, {survivors:?}"));
            if told.0.is_empty() { lost += 1 } else { kept += 1 }
        }
    }
    assert!(kept > 100 && lost > 4, "cuts early and late: {lost} {kept}");
}
