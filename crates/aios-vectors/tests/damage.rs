//! Rows that are not what was written are told by table and key, and nothing panics.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use aios_vectors::{BatchError, Index, OpenError};
use proptest::prelude::*;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use support::fixture::{DIMENSIONS, fill, link_all, memory, open, options, vector};

const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("vectors.about");
const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.rows");
const LINKS: TableDefinition<u32, &[u8]> = TableDefinition::new("vectors.links");

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

#[test]
fn damaged_links_are_named() {
    let database = filled();
    let good = row(&database, LINKS, 3);
    let link = |to: u32| [&[1, 1][..], &to.to_le_bytes()].concat();
    for (bad, reason) in [
        (vec![], "it is empty"),
        (vec![0], "it has 0 levels"),
        (vec![13], "it has 13 levels"),
        (vec![1], "it ends too soon"),
        (vec![1, 33], "level 0 has 33 neighbours"),
        (vec![1, 1, 0, 0], "it ends too soon"),
        (vec![1, 0, 0], "it goes on after its end"),
        (link(3), "it is its own neighbour"),
        (link(40), "a neighbour is not in the graph on its level"),
        (link(u32::MAX), "a neighbour is not in the graph on its level"),
        ([&[12, 0][..], &[0; 10][..], &[1, 5, 0, 0, 0]].concat(), "a neighbour is not in the graph on its level"),
    ] {
        put(&database, LINKS, 3, &bad);
        let error = error(&database);
        assert!(error.starts_with(&format!("the table vectors.links, row 3: {reason}; ")), "{error}");
    }
    put(&database, LINKS, 3, &good);
    put(&database, LINKS, 41, &[1, 0]);
    let error = error(&database);
    assert!(error.starts_with("the table vectors.links, row 41: there is no vector in this slot; "), "{error}");
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
    set("format", Some(2));
    let error = Index::open(&database.begin_read().unwrap(), options(10)).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 2, expected: 1 }), "{error}");
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
        links in prop::collection::vec((0..50u32, prop::collection::vec(0..40u8, 0..80)), 0..3),
    ) {
        let database = filled();
        rows.iter().for_each(|(id, bytes)| put(&database, ROWS, *id, bytes));
        links.iter().for_each(|(slot, bytes)| put(&database, LINKS, *slot, bytes));
        if let Ok(index) = Index::open(&database.begin_read().unwrap(), options(10)) {
            index.search(&vector(1), 10, |_| true).unwrap();
        }
    }
}
