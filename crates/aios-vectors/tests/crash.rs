//! The story: an item and its vector are acknowledged, and then the power goes. When it comes back, the search has to find
//! exactly the items that are there: none without its vector, no vector without its item, and a graph that was being built
//! goes on where it was. The power goes here at every single write and sync of such a life.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use std::collections::{BTreeMap, BTreeSet};

use aios_fault_disk::{Disk, Plan, Survivors};
use aios_vectors::Index;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use support::fixture::{link_all, open, options, recall, vector};

/// What a memory service keeps beside the vectors: by the item's number, the seed of its vector.
const ITEMS: TableDefinition<u64, u64> = TableDefinition::new("items");

const GRAPH_FROM: usize = 30;

/// The items after each commit that was tried, the last one maybe in vain.
type Told = Vec<BTreeMap<u64, u64>>;

/// One transaction: items with their vectors, removals, links.
fn step(database: &Database, index: &Index, number: u64, told: &mut Told) -> Result<(), Box<dyn std::error::Error>> {
    let write = database.begin_write()?;
    let mut items = told.last().unwrap().clone();
    let mut batch = index.batch(&write);
    {
        let mut table = write.open_table(ITEMS)?;
        for id in number * 12..number * 12 + 12 {
            batch.insert(id, &vector(id))?;
            table.insert(id, id)?;
            items.insert(id, id);
        }
        for id in [number * 5, number * 7 + 1] {
            batch.remove(id);
            table.remove(id)?;
            items.remove(&id);
        }
        let replaced = number * 3;
        batch.insert(replaced, &vector(replaced + 1000))?;
        table.insert(replaced, replaced + 1000)?;
        items.insert(replaced, replaced + 1000);
    }
    batch.link(10);
    let staged = batch.finish()?;
    told.push(items);
    write.commit()?;
    index.publish(staged)?;
    Ok(())
}

/// A life as far as it goes, and how many commits were acknowledged in it.
fn life(disk: &Disk) -> (Told, usize) {
    let mut told = vec![BTreeMap::new()];
    let Ok(database) = Database::builder().create_with_backend(disk.clone()) else { return (told, 0) };
    let index = match database.begin_read() {
        Ok(read) => Index::open(&read, options(GRAPH_FROM)).unwrap(),
        Err(_) => return (told, 0),
    };
    for number in 0..7 {
        if step(&database, &index, number, &mut told).is_err() {
            return (told, number as usize);
        }
    }
    (told, 7)
}

/// The index finds the items that are there, and these are those of the last commit that was acknowledged, or of the one
/// that was going on.
fn check(disk: &Disk, told: &Told, acknowledged: usize, what: &str) {
    let database = Database::builder().create_with_backend(disk.after_power_cut()).unwrap();
    let read = database.begin_read().unwrap();
    let items: BTreeMap<u64, u64> = match read.open_table(ITEMS) {
        Ok(table) => {
            table.iter().unwrap().map(|row| row.map(|(id, seed)| (id.value(), seed.value())).unwrap()).collect()
        }
        Err(_) => BTreeMap::new(),
    };
    assert!(told[acknowledged..].contains(&items), "{what}: {} items, {acknowledged} commits", items.len());
    let index = Index::open(&read, options(GRAPH_FROM)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let vectors: BTreeMap<_, _> = items.iter().map(|(id, seed)| (*id, vector(*seed))).collect();
    let found = index.search(&vector(1), 1000, |_| true).unwrap();
    let ids: BTreeSet<u64> = found.iter().map(|hit| hit.id).collect();
    assert_eq!(ids, items.keys().copied().collect(), "{what}");
    recall(&vectors, &vector(1), &found, 1000);
    // It goes on.
    let mut next = vec![items];
    step(&database, &index, 20, &mut next).unwrap_or_else(|error| panic!("{what}: {error}"));
    link_all(&database, &index);
    let again = open(&database, options(GRAPH_FROM));
    assert_eq!(again.stats(), index.stats(), "{what}");
    let (linked, vectors) = (again.stats().linked, next[1].len());
    assert!(linked == vectors || (linked == 0 && vectors < GRAPH_FROM), "{what}: {linked} of {vectors} are linked");
}

#[test]
fn a_vector_is_there_exactly_when_its_item_is_wherever_the_power_goes() {
    let disk = Disk::with_database(Plan::Nothing).unwrap();
    let (told, acknowledged) = life(&disk);
    assert_eq!(acknowledged, 7);
    check(&disk, &told, acknowledged, "without a failure");
    let operations = disk.operations();
    assert!(operations > 50, "{operations}");
    let mut cuts = [0; 8];
    for number in 1..=operations {
        for survivors in [Survivors::None, Survivors::All, Survivors::Last, Survivors::Some(number)] {
            let disk = Disk::with_database(Plan::Cut(number, survivors)).unwrap();
            let (told, acknowledged) = life(&disk);
            check(&disk, &told, acknowledged, &format!("power cut at operation {number}, {survivors:?} survived"));
            cuts[acknowledged] += 1;
        }
    }
    assert!(cuts[..7].iter().all(|count| *count > 3), "cuts at all times: {cuts:?}");
}
