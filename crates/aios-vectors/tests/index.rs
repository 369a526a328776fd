//! An index beside a plain list of vectors: whatever is done to both, they find the same.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support {
    pub mod fixture;
}

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use aios_vectors::{BatchError, Index, OpenError, Options, PublishError, VectorError};
use proptest::prelude::*;
use redb::{ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use support::fixture::{
    CHANGES, DIMENSIONS, change, changed, cosine, exact, fill, graph, link_all, memory, open, options, recall,
    recall_of, vector,
};

const NEVER: usize = usize::MAX;
const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.rows");

fn vectors(ids: std::ops::Range<u64>) -> BTreeMap<u64, Vec<f32>> {
    ids.map(|id| (id, vector(id))).collect()
}

#[test]
fn few_vectors_are_found_as_exactly_as_by_computing_all() {
    let database = memory();
    let index = open(&database, options(NEVER));
    fill(&database, &index, 0..3000);
    let recall = recall_of(&index, &vectors(0..3000), 100);
    assert!(recall >= 0.98, "{recall}");
}

#[test]
fn a_graph_finds_what_computing_all_finds_also_after_it_is_opened_again() {
    let database = memory();
    let index = open(&database, options(1000));
    fill(&database, &index, 0..3000);
    link_all(&database, &index);
    let stats = index.stats();
    assert_eq!((stats.vectors, stats.linked, stats.to_link), (3000, 3000, 0));
    let vectors = vectors(0..3000);
    let recall = recall_of(&index, &vectors, 100);
    assert!(recall >= 0.98, "{recall}");

    let again = open(&database, options(1000));
    assert_eq!(again.stats(), stats);
    for seed in 0..50 {
        let query = vector(2_000_000 + seed);
        assert_eq!(again.search(&query, 10, |_| true), index.search(&query, 10, |_| true));
    }
}

#[test]
fn vectors_that_are_not_in_the_graph_yet_are_found() {
    let database = memory();
    let index = open(&database, options(500));
    fill(&database, &index, 0..600);
    for linked in 1..=6 {
        assert_eq!(change(&database, &index, &[], 100), (0, 100));
        let again = open(&database, options(500));
        assert_eq!((again.stats().linked, again.stats().to_link), (linked * 100, 600 - linked * 100));
        assert!(recall_of(&again, &vectors(0..600), 30) >= 0.98, "{linked}");
    }
    fill(&database, &index, 600..650);
    assert_eq!((index.stats().linked, index.stats().to_link), (600, 50));
    assert!(recall_of(&index, &vectors(0..650), 30) >= 0.98);
    fill(&database, &index, 650..1500);
    assert_eq!((index.stats().linked, index.stats().to_link), (600, 900));
    assert!(recall_of(&index, &vectors(0..1500), 30) >= 0.98);
}

#[test]
fn a_graph_is_still_good_when_most_of_it_was_removed() {
    let database = memory();
    let index = open(&database, options(1000));
    fill(&database, &index, 0..2000);
    link_all(&database, &index);
    let mut kept = vectors(0..2000);
    for step in 0..7u64 {
        let gone: Vec<_> = (0..2000).filter(|id| id % 8 == step).map(|id| (id, None)).collect();
        assert_eq!(change(&database, &index, &gone, 0), (250, 0));
        kept.retain(|id, _| id % 8 != step);
        let recall = recall_of(&index, &kept, 40);
        assert!(recall >= 0.98, "{recall} without {step}");
    }
    let again = open(&database, options(1000));
    assert_eq!((again.stats().vectors, again.stats().linked), (250, 250));
}

#[test]
fn many_copies_of_one_text_hide_no_other_text() {
    let database = memory();
    let index = open(&database, options(100));
    let mut all = vectors(0..500);
    (500..900).for_each(|id| drop(all.insert(id, vector(7))));
    let changes: Vec<_> = all.iter().map(|(id, vector)| (*id, Some(vector.clone()))).collect();
    change(&database, &index, &changes, 0);
    link_all(&database, &index);
    for id in 0..500 {
        let hits = index.search(&vector(id), 1, |_| true).unwrap();
        assert!(hits[0].score > 0.99, "{id}: {hits:?}");
    }
}

#[test]
fn only_what_passes_the_filter_is_found_however_little_that_is() {
    let database = memory();
    for graph_from in [NEVER, 1000] {
        let index = open(&database, options(graph_from));
        if index.stats().vectors == 0 {
            fill(&database, &index, 0..2000);
        }
        link_all(&database, &index);
        for every in [2, 5, 30, 400, 3000] {
            let passes = |id: u64| id % every == 1;
            let kept = vectors(0..2000).into_iter().filter(|(id, _)| passes(*id)).collect();
            let (mut found, mut of) = (0, 0);
            for seed in 0..20 {
                let query = vector(3_000_000 + seed);
                let (hit, expected) = recall(&kept, &query, &index.search(&query, 10, passes).unwrap(), 10);
                (found, of) = (found + hit, of + expected);
            }
            assert!(found * 100 >= of * 98, "every {every}th: {found} of {of}");
        }
        assert_eq!(index.search(&vector(1), 10, |_| false), Ok(vec![]));
    }
}

#[test]
fn removal_leaves_no_row_and_no_link_behind() {
    let database = memory();
    let index = open(&database, options(100));
    fill(&database, &index, 0..400);
    link_all(&database, &index);
    let slot_of = |id: u64| {
        let rows = database.begin_read().unwrap().open_table(ROWS).unwrap();
        let row = rows.get(id).unwrap()?;
        Some(u32::from_le_bytes(row.value()[..4].try_into().unwrap()))
    };
    let gone: Vec<u32> = (100..150).map(|id| slot_of(id).unwrap()).collect();
    change(&database, &index, &(100..150).map(|id| (id, None)).collect::<Vec<_>>(), 0);
    assert!((100..150).all(|id| slot_of(id).is_none()));
    for (slot, node) in graph(&database) {
        assert!(!gone.contains(&slot));
        assert!(node.iter().flatten().all(|to| !gone.contains(to)), "slot {slot} still points there");
    }
    change(&database, &index, &(0..400).map(|id| (id, None)).collect::<Vec<_>>(), 0);
    let read = database.begin_read().unwrap();
    assert!(read.open_table(ROWS).unwrap().is_empty().unwrap() && graph(&database).is_empty());
    assert_eq!(index.search(&vector(1), 10, |_| true), Ok(vec![]));
    assert_eq!(index.stats().vectors, 0);
}

#[test]
fn the_tables_hold_the_graph_of_the_memory_after_each_batch_and_no_more_changes_than_nodes() {
    let database = memory();
    let index = open(&database, options(100));
    let mut oldest = 0;
    for step in 0..150u64 {
        // It grows to 2000, and shrinks again.
        let new = (0..20).filter(|_| step < 100).map(|at| (step * 20 + at, Some(vector(step * 20 + at))));
        let gone = (0..27).filter(|_| step >= 100).map(|at| (step * 27 + at) % 2000).map(|id| (id, None));
        change(&database, &index, &new.chain(gone).collect::<Vec<_>>(), 40);
        if index.stats().linked == 0 {
            continue;
        }
        let changes = database.begin_read().unwrap().open_table(CHANGES).unwrap();
        let rows: Vec<_> = changes.iter().unwrap().map(|row| row.unwrap()).collect();
        let nodes: usize = rows.iter().map(|(_, row)| changed(row.value()).len()).sum();
        // Two sweeps over 2048 slots have half as many changes each, and the last batch brings some more.
        assert!(nodes <= 3 * 1024, "{nodes} after {step}");
        oldest = rows.first().map_or(step, |(generation, _)| generation.value());
        if step % 10 == 9 {
            // Only where all are linked do both search by the graph.
            link_all(&database, &index);
            let again = open(&database, options(100));
            assert_eq!(again.stats(), index.stats(), "{step}");
            assert_eq!(graph(&database).len(), index.stats().linked, "{step}");
            for seed in 0..5 {
                let query = vector(4_000_000 + seed);
                assert_eq!(again.search(&query, 10, |_| true), index.search(&query, 10, |_| true), "{step}");
            }
        }
    }
    assert!(oldest > 50, "the changes of batch {oldest} are in the other table, and still there");
}

#[test]
fn batches_that_are_dropped_or_aborted_change_nothing() {
    let database = memory();
    let index = open(&database, options(NEVER));
    fill(&database, &index, 0..20);
    let write = database.begin_write().unwrap();
    let mut batch = index.batch(&write);
    batch.insert(99, &vector(99)).unwrap();
    batch.remove(1);
    drop(batch);
    write.commit().unwrap();
    let write = database.begin_write().unwrap();
    let mut batch = index.batch(&write);
    batch.remove(2);
    let aborted = batch.finish().unwrap();
    write.abort().unwrap();
    drop(aborted);
    fill(&database, &index, 20..21);
    for index in [&index, &open(&database, options(NEVER))] {
        assert!(recall_of(index, &vectors(0..21), 10) >= 0.98);
    }
}

#[test]
fn a_batch_that_was_not_published_or_not_committed_is_noticed() {
    let database = memory();
    let index = open(&database, options(NEVER));
    let staged = |id: u64, commit: bool| {
        let write = database.begin_write().unwrap();
        let mut batch = index.batch(&write);
        batch.insert(id, &vector(id)).unwrap();
        let staged = batch.finish()?;
        if commit {
            write.commit().unwrap()
        } else {
            write.abort().unwrap()
        }
        Ok::<_, BatchError>(staged)
    };
    let old = staged(1, false).unwrap();
    index.publish(staged(1, true).unwrap()).unwrap();
    assert_eq!(index.publish(old).unwrap_err(), PublishError { staged: 1, memory: 1 });
    drop(staged(2, true).unwrap());
    let error = staged(3, true).unwrap_err();
    assert!(matches!(error, BatchError::Behind { memory: 1, tables: 2 }), "{error}");
}

#[test]
fn vectors_and_queries_that_mean_nothing_are_refused() {
    let database = memory();
    let index = open(&database, options(NEVER));
    let write = database.begin_write().unwrap();
    let mut batch = index.batch(&write);
    for (values, error) in [
        (vec![1.0; DIMENSIONS - 1], VectorError::Dimensions { expected: DIMENSIONS, found: DIMENSIONS - 1 }),
        (vec![f32::NAN; DIMENSIONS], VectorError::NotFinite { position: 0 }),
        (vec![0.0; DIMENSIONS], VectorError::Zero),
    ] {
        assert_eq!(batch.insert(1, &values), Err(error.clone()));
        assert_eq!(index.search(&values, 1, |_| true), Err(error));
    }
    assert_eq!(index.search(&vector(1), 0, |_| true), Ok(vec![]));
}

#[test]
fn other_dimensions_than_those_of_the_tables_are_refused() {
    let database = memory();
    fill(&database, &open(&database, options(NEVER)), 0..2);
    let read = database.begin_read().unwrap();
    let error = Index::open(&read, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Dimensions { expected: 384, found: 48 }), "{error}");
    for dimensions in [0, 4097] {
        let error = Index::open(&read, Options { dimensions, ..Options::default() }).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error}");
    }
}

#[test]
fn searches_go_on_beside_a_writer() {
    let database = memory();
    let index = open(&database, options(300));
    fill(&database, &index, 0..200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searching: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut searches = 0u64;
                    while !done.load(Ordering::Relaxed) || searches == 0 {
                        // The first 100 are never changed: they are there at each moment.
                        let hits = index.search(&vector(searches % 100), 1, |_| true).unwrap();
                        assert!(hits[0].score > 0.99, "{searches}: {hits:?}");
                        searches += 1;
                    }
                })
            })
            .collect();
        for step in 0..30u64 {
            let new = (0..20).map(|at| (200 + step * 20 + at, Some(vector(step * 77 + at))));
            let gone = (0..5).map(|at| (100 + (step * 31 + at * 7) % 500, None));
            change(&database, &index, &new.chain(gone).collect::<Vec<_>>(), 40);
        }
        done.store(true, Ordering::Relaxed);
        searching.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Change(Vec<(u64, Option<u64>)>),
    Link(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = prop::collection::vec((0..120u64, prop::option::weighted(0.7, any::<u64>())), 0..60);
    let step = prop_oneof![
        4 => changes.prop_map(Step::Change),
        3 => (0..60usize).prop_map(Step::Link),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_done_the_index_finds_what_the_list_finds(steps in steps(), graph_from in prop_oneof![Just(1), Just(40), Just(NEVER)]) {
        let database = memory();
        let mut index = open(&database, options(graph_from));
        let mut list = BTreeMap::new();
        for step in steps {
            match step {
                Step::Change(changes) => {
                    for (id, seed) in &changes {
                        match seed {
                            Some(seed) => drop(list.insert(*id, vector(*seed))),
                            None => drop(list.remove(id)),
                        }
                    }
                    let changes: Vec<_> = changes.into_iter().map(|(id, seed)| (id, seed.map(vector))).collect();
                    change(&database, &index, &changes, 0);
                }
                Step::Link(limit) => {
                    change(&database, &index, &[], limit);
                }
                Step::Reopen => {
                    let again = open(&database, options(graph_from));
                    prop_assert_eq!(again.stats(), index.stats());
                    index = again;
                }
            }
            prop_assert_eq!(index.stats().vectors, list.len());
            for seed in 0..3 {
                let query = vector(seed + 5_000_000);
                let found = index.search(&query, 10, |_| true).unwrap();
                recall(&list, &query, &found, 10);
                let nearest = exact(&list, &query, 10);
                // Rounding to eight bits may exchange those that are as near to within some thousandths.
                let floor = nearest.last().map_or(0.0, |(_, score)| score - 0.003);
                let good = found.iter().filter(|hit| cosine(&query, &list[&hit.id]) >= floor).count();
                prop_assert!(good + 1 >= nearest.len(), "{} of {}: {:?}, not {:?}", good, nearest.len(), found, nearest);
            }
        }
    }
}
