//! Rows that are not what was written are told by table and key, and nothing panics.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use aios_vectors::{BatchError, Index, OpenError};
use proptest::prelude::*;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use support::fixture::{CHANGES, DIMENSIONS, LINKS, TOGETHER, fill, link_all, memory, node, open, options, vector};

const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("vectors.about");
const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.rows");

fn filled() -> Database {
    let database = memory();
    let index = open(&database, options(10));
    fill(&database, &index, 0..40);
    link_all(&database, &index);
    database
}

fn row<K: redb::Key + 'static>(database: &Database, table: TableDefinition<K, &[u8]>, key: K::SelfType<'_>) -> Vec<u8> {
    database.begin_read().unwrap().open_table(table).unwrap().get(key).unwrap().unwrap().value().to_vec()
}

fn put<K: redb::Key + 'static>(
    database: &Database,
    table: TableDefinition<K, &[u8]>,
    key: K::SelfType<'_>,
    value: &[u8],
) {
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert(key, value).unwrap();
    write.commit().unwrap();
}

fn error(database: &Database) -> String {
    let error = Index::open(&database.begin_read().unwrap(), options(10)).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_damaged_vector_is_named() {
    let database = filled();
    let good = row(&database, ROWS, 7);
    let other = row(&database, ROWS, 8);
    let with = |at: usize, bytes: &[u8]| {
        let mut row = good.clone();
        row[at..][..bytes.len()].copy_from_slice(bytes);
        row
    };
    for (bad, reason) in [
        (vec![], "it has 0 bytes, where 56 belong"),
        (good[1..].to_vec(), "it has 55 bytes, where 56 belong"),
        (with(4, &f32::NAN.to_le_bytes()), "its scale is NaN"),
        (with(4, &0.0f32.to_le_bytes()), "its scale is 0"),
        (with(0, &u32::MAX.to_le_bytes()), "its slot 4294967295 is not below 1024"),
    ] {
        put(&database, ROWS, 7, &bad);
        let error = error(&database);
        assert!(error.starts_with(&format!("the table vectors.rows, row 7: {reason}; ")), "{error}");
    }
    put(&database, ROWS, 7, &good);
    put(&database, ROWS, 99, &other);
    let error = error(&database);
    assert!(error.starts_with("the table vectors.rows, row 99: its slot 8 is that of row 8; "), "{error}");
}

/// A row of links in which `slot` has other bytes.
fn with_node(good: &[u8], slot: u32, bytes: &[u8]) -> Vec<u8> {
    let mut rest = good;
    for _ in 0..slot % TOGETHER {
        rest = node(rest).1;
    }
    [&good[..good.len() - rest.len()], bytes, node(rest).1].concat()
}

fn links_to(slot: u32) -> Vec<u8> {
    [&[1, 1][..], &slot.to_le_bytes()].concat()
}

#[test]
fn damaged_links_are_named() {
    let database = filled();
    // All of it is in the other table, and would count.
    let generation = database.begin_read().unwrap().open_table(CHANGES).unwrap().first().unwrap().unwrap().0.value();
    put(&database, CHANGES, generation, &[]);
    let good = row(&database, LINKS, 0);
    for (bad, reason) in [
        (vec![], "slot 0: it ends too soon"),
        (good[..good.len() - 1].to_vec(), "slot 15: it ends too soon"),
        (with_node(&good, 3, &[13]), "slot 3: it has 13 levels"),
        (with_node(&good, 3, &[1, 25]), "slot 3: level 0 has 25 neighbours"),
        ([&good[..], &[0]].concat(), "it goes on after its end"),
        (with_node(&good, 3, &links_to(3)), "slot 3: it is its own neighbour"),
        (with_node(&good, 0, &links_to(40)), "slot 0: a neighbour is not in the graph on its level"),
        (with_node(&good, 0, &links_to(u32::MAX)), "slot 0: a neighbour is not in the graph on its level"),
        (
            with_node(&good, 0, &[&[12, 0][..], &[0; 10][..], &[1, 5, 0, 0, 0]].concat()),
            "slot 0: a neighbour is not in the graph on its level",
        ),
    ] {
        put(&database, LINKS, 0, &bad);
        let error = error(&database);
        assert!(error.starts_with(&format!("the table vectors.links, row 0: {reason}; ")), "{error}");
    }
    put(&database, LINKS, 0, &good);
    open(&database, options(10));
    let last = row(&database, LINKS, 2);
    put(&database, LINKS, 2, &with_node(&last, 41, &links_to(0)));
    let found = error(&database);
    assert!(found.starts_with("the table vectors.links, row 2: slot 41: there is no vector in it; "), "{found}");
    put(&database, LINKS, 2, &last);
    put(&database, LINKS, 64, &last);
    let found = error(&database);
    assert!(found.starts_with("the table vectors.links, row 64: its slots are not below 1024; "), "{found}");
}

#[test]
fn damaged_changes_of_links_are_named() {
    let database = filled();
    let good = [&5u32.to_le_bytes()[..], &links_to(6)].concat();
    for (bad, reason) in [
        (good[..3].to_vec(), "it ends too soon"),
        (good[..4].to_vec(), "slot 5: it ends too soon"),
        ([&good[..], &[7, 0, 0]].concat(), "it ends too soon"),
        ([&good[..4], &[13]].concat(), "slot 5: it has 13 levels"),
    ] {
        put(&database, CHANGES, 9, &bad);
        let error = error(&database);
        assert!(error.starts_with(&format!("the table vectors.changes, row 9: {reason}; ")), "{error}");
    }
    put(&database, CHANGES, 9, &good);
    open(&database, options(10));
}

#[test]
fn what_the_tables_are_has_to_be_known() {
    let database = filled();
    let set = |name: &str, value: Option<u64>| {
        let write = database.begin_write().unwrap();
        {
            let mut about = write.open_table(ABOUT).unwrap();
            match value {
                Some(value) => about.insert(name, value).unwrap().map(|before| before.value()),
                None => about.remove(name).unwrap().map(|before| before.value()),
            };
        }
        write.commit().unwrap();
    };
    let before = {
        let about = database.begin_read().unwrap().open_table(ABOUT).unwrap();
        about.get("slots").unwrap().unwrap().value()
    };
    set("slots", Some(1 << 40));
    assert!(error(&database).starts_with("the table vectors.about, row slots: 1099511627776 are more"));
    set("slots", None);
    assert!(error(&database).starts_with("the table vectors.about, row slots: it is missing"));
    set("slots", Some(before));
    set("format", Some(3));
    let error = Index::open(&database.begin_read().unwrap(), options(10)).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 3, expected: 2 }), "{error}");
}

#[test]
fn a_row_that_changed_under_an_open_index_is_not_removed_as_another_one() {
    let database = filled();
    let index = open(&database, options(10));
    put(&database, ROWS, 7, &row(&database, ROWS, 8));
    let write = database.begin_write().unwrap();
    let mut batch = index.batch(&write);
    batch.remove(7);
    let error = batch.finish().unwrap_err();
    assert!(matches!(&error, BatchError::Damaged { table: "vectors.rows", key, .. } if key == "7"), "{error}");
    assert!(index.search(&vector(7), 1, |id| id == 7).unwrap()[0].score > 0.99);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_bytes_a_row_has_nothing_panics(
        rows in prop::collection::vec((0..50u64, prop::collection::vec(any::<u8>(), DIMENSIONS + 8)), 0..3),
        links in prop::collection::vec((0..5u32, prop::collection::vec(0..40u8, 0..80)), 0..3),
        changes in prop::collection::vec((0..5u64, prop::collection::vec(0..40u8, 0..80)), 0..3),
    ) {
        let database = filled();
        rows.iter().for_each(|(id, bytes)| put(&database, ROWS, *id, bytes));
        links.iter().for_each(|(number, bytes)| put(&database, LINKS, *number, bytes));
        changes.iter().for_each(|(generation, bytes)| put(&database, CHANGES, *generation, bytes));
        if let Ok(index) = Index::open(&database.begin_read().unwrap(), options(10)) {
            index.search(&vector(1), 10, |_| true).unwrap();
        }
    }
}
