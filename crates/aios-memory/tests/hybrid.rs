//! The index of the service in the store: what is written is found by words and by meaning, wherever the power goes, and
//! what is erased is not.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use aios_fault_disk::{Disk, Plan, Survivors};
use aios_memory::{Embedded, HybridIndex, Kind, Options, Query, Selector, Store, StoreError, Write, item::Status};
use fixture::*;
use redb::{ReadableDatabase as _, TableDefinition};

/// An index whose graph begins with few vectors.
fn index() -> Arc<HybridIndex> {
    Arc::new(HybridIndex::with_graph_from("test", 12))
}

fn with(index: &Arc<HybridIndex>) -> Options {
    Options { index: Some(index.clone()), ..options() }
}

/// Gives all that waits its vector.
fn embed(store: &Store) -> Result<(), StoreError> {
    let waiting = store.read(|view| view.unembedded(1000))?;
    let embedded = waiting.iter().map(|item| {
        let vector = meaning(&item.content.body.text());
        Embedded { id: item.id, updated: item.updated, vector }
    });
    store.write(Write::Vectors(embedded.collect())).map(drop)
}

fn search(store: &Store, text: &str, vector: Option<&[f32]>) -> Vec<u64> {
    let query = Query { text, vector, limit: 5 };
    let found = store.read(|view| view.search(&query, &|_| true)).unwrap();
    found.iter().map(|(item, _)| item.id).collect()
}

fn by_words(store: &Store, text: &str) -> Vec<u64> {
    search(store, text, None)
}

fn by_meaning(store: &Store, text: &str) -> u64 {
    search(store, text, Some(&meaning(text)))[0]
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

/// What the file has of an item's vector.
fn stored_vector(path: &Path, id: u64) -> Vec<u8> {
    let database = redb::Database::open(path).unwrap();
    let rows = database.begin_read().unwrap().open_table(TableDefinition::<u64, &[u8]>::new("vectors.rows")).unwrap();
    rows.get(id).unwrap().unwrap().value()[8..].to_vec()
}

#[test]
fn items_are_found_by_words_and_by_meaning_until_they_are_erased_and_then_not_a_byte_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    let store = Store::open(&path, with(&index())).unwrap();
    let slow = store.put(knowledge("notebook", "sluggish zebrafish")).unwrap();
    let fan = store.put(goal("oil the fan", Status::Active)).unwrap();
    let noise = store.put(event("the fan hums")).unwrap();
    assert_eq!(by_words(&store, "zebrafish"), [slow], "before there are vectors");
    embed(&store).unwrap();
    let check = |store: &Store| {
        assert_eq!(by_words(store, "ZEBRAFISH"), [slow]);
        assert_eq!(BTreeSet::from_iter(by_words(store, "fan")), [fan, noise].into());
        assert!(by_words(store, "laptop slow").is_empty());
        assert_eq!(by_meaning(store, "slow laptop"), slow, "no word of the query is in the item");
        let goals = store.read(|view| view.nearest(&meaning("slow laptop"), Kind::Goal, 5)).unwrap();
        assert_eq!(goals.iter().map(|(item, _)| item.id).collect::<Vec<_>>(), [fan], "of this kind alone");
        assert_eq!(store.read(|view| view.unembedded_count()).unwrap(), 0);
    };
    check(&store);
    store.close().unwrap();
    let vector = stored_vector(&path, slow);
    let store = Store::open(&path, with(&index())).unwrap();
    check(&store);
    assert!(holds(&path, &vector) && holds(&path, b"zebrafish"));
    assert_eq!(store.erase(Selector::Agent("learning".into())).unwrap(), 1);
    assert!(!holds(&path, &vector) && !holds(&path, b"zebrafish"));
    assert!(by_words(&store, "zebrafish").is_empty());
    assert!(!search(&store, "slow laptop", Some(&meaning("slow laptop"))).contains(&slow));
    assert_eq!(by_meaning(&store, "oil the fan"), fan, "the others are still found");
    let again = store.put(knowledge("notebook", "sluggish")).unwrap();
    embed(&store).unwrap();
    assert_eq!(by_meaning(&store, "slow laptop"), again, "and new ones are");
}

#[test]
fn the_best_of_what_has_nothing_to_do_with_a_query_is_told_from_what_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("memory.redb"), with(&index())).unwrap();
    let items = ["oil the fan", "restart nginx"].map(|text| store.put(goal(text, Status::Active)).unwrap());
    let waiting = store.read(|view| view.unembedded(9)).unwrap();
    let embedded = |item: &aios_memory::Item| Embedded { id: item.id, updated: item.updated, vector: vec![1.0, 0.0] };
    store.write(Write::Vectors(waiting.iter().map(embedded).collect())).unwrap();
    let related = |text: &str, vector: &[f32]| -> Vec<(u64, bool)> {
        let query = Query { text, vector: Some(vector), limit: 5 };
        let found = store.read(|view| view.search(&query, &|_| true)).unwrap();
        found.into_iter().map(|(item, found)| (item.id, found.is_related)).collect()
    };
    let [fan, nginx] = items;
    assert_eq!(related("invoices", &[0.05, 1.0]), [(fan, false), (nginx, false)]);
    assert_eq!(related("invoices of the fan", &[0.05, 1.0]), [(fan, true), (nginx, false)], "by a word");
    assert_eq!(related("invoices", &[0.2, 1.0]), [(fan, true), (nginx, true)], "by their vectors");
}

#[test]
fn an_item_with_other_words_is_not_found_by_its_old_vector() {
    let folder = tempfile::tempdir().unwrap();
    let index = index();
    let store = Store::open(&folder.path().join("memory.redb"), with(&index)).unwrap();
    let goal = store.put(goal("oil the fan", Status::Active)).unwrap();
    embed(&store).unwrap();
    assert_eq!(index.vectors().unwrap().vectors, 1);
    let result = aios_memory::GoalUpdate {
        id: goal,
        result: Some("bought another".into()),
        ..aios_memory::GoalUpdate::default()
    };
    store.write(Write::UpdateGoal(result)).unwrap();
    assert_eq!(index.vectors().unwrap().vectors, 0);
    assert_eq!(by_words(&store, "bought"), [goal]);
    embed(&store).unwrap();
    assert_eq!(index.vectors().unwrap().vectors, 1);
}

#[test]
fn a_graph_is_built_part_by_part_and_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    let first = index();
    let store = Store::open(&path, with(&first)).unwrap();
    let ids: Vec<u64> =
        (0..300).map(|n| store.put(knowledge(&format!("topic{n}"), &format!("word{n}"))).unwrap()).collect();
    assert!(!store.work_on_index().unwrap(), "without vectors there is nothing to do");
    embed(&store).unwrap();
    let mut parts = 0;
    while store.work_on_index().unwrap() {
        parts += 1;
    }
    assert!(parts > 1, "{parts}");
    let built = first.vectors().unwrap();
    assert_eq!((built.linked, built.to_link), (300, 0));
    store.close().unwrap();
    let second = index();
    let store = Store::open(&path, with(&second)).unwrap();
    assert_eq!(second.vectors().unwrap(), built);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(by_meaning(&store, &format!("topic{n} word{n}")), *id);
    }
}

#[test]
fn a_file_with_vectors_of_another_model_gets_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    let store = Store::open(&path, with(&index())).unwrap();
    let id = store.put(knowledge("notebook", "sluggish")).unwrap();
    store.put(event("events get none")).unwrap();
    embed(&store).unwrap();
    store.close().unwrap();
    let other = Arc::new(HybridIndex::new("another"));
    let store = Store::open(&path, with(&other)).unwrap();
    assert_eq!(by_words(&store, "sluggish"), [id]);
    assert_eq!((other.vectors(), store.read(|view| view.unembedded_count()).unwrap()), (None, 1));
    // Its vectors may have another length.
    let vector = vec![0.5; 7];
    let updated = store.read(|view| view.item(id)).unwrap().unwrap().updated;
    store.write(Write::Vectors(vec![Embedded { id, updated, vector: vector.clone() }])).unwrap();
    store.close().unwrap();
    let store = Store::open(&path, with(&Arc::new(HybridIndex::new("another")))).unwrap();
    assert_eq!(search(&store, "unheard", Some(&vector)), [id]);
}

/// Writes, links and erases until the end; tells which items were acknowledged, and which of them have a vector.
fn life(disk: &Disk) -> (Vec<u64>, Vec<u64>) {
    let (mut told, mut with_vector) = (Vec::new(), Vec::new());
    let Ok(store) = Store::open_on(Box::new(disk.clone()), with(&index())) else { return (told, with_vector) };
    for round in 0..3 {
        let texts = (0..6).map(|n| format!("round{round} number{n}"));
        let before = told.len();
        told.extend(texts.filter_map(|text| store.put(knowledge("k", &text)).ok()));
        if embed(&store).is_ok() {
            with_vector.extend(&told[before..]);
        }
        let _ = store.work_on_index();
    }
    let _ = store.erase(Selector::Agent("nobody".into()));
    let _ = store.put(event("at last")).map(|id| told.push(id));
    // What this life sees is what there is, whatever failed before.
    if store.state() == aios_memory::State::Writable {
        check(&store, &told, &[], "in the same life");
    }
    (told, with_vector)
}

/// What was acknowledged is found by its words, and by its vector without making one again.
fn check(store: &Store, told: &[u64], with_vector: &[u64], what: &str) {
    let waiting = store.read(|view| view.unembedded(1000)).unwrap();
    let waiting: BTreeSet<u64> = waiting.iter().map(|item| item.id).collect();
    for id in told {
        let item = store.read(|view| view.item(*id)).unwrap().unwrap_or_else(|| panic!("{what}: item {id}"));
        let text = item.content.body.text();
        assert!(by_words(store, &text).contains(id), "{what}: item {id} by its words");
        let found = item.kind() == Kind::Event || waiting.contains(id) || by_meaning(store, &text) == *id;
        assert!(found, "{what}: item {id} by its vector");
    }
    assert!(
        with_vector.iter().all(|id| !waiting.contains(id)),
        "{what}: {with_vector:?} have vectors, not {waiting:?}"
    );
}

fn check_disk(disk: &Disk, (told, with_vector): &(Vec<u64>, Vec<u64>), what: &str) {
    let store = Store::open_on(Box::new(disk.after_power_cut()), with(&index()));
    let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&store, told, with_vector, what);
    let id = store.put(knowledge("k", "goes on")).unwrap();
    embed(&store).unwrap();
    while store.work_on_index().unwrap() {}
    check(&store, &[id], &[id], what);
}

#[test]
fn wherever_the_power_goes_or_the_disk_fails_the_index_fits_the_items() {
    let whole = Disk::new(Plan::Nothing);
    let told = life(&whole);
    assert_eq!((told.0.len(), told.1.len()), (19, 18));
    check_disk(&whole, &told, "without a failure");
    let operations = whole.operations();
    // A step without a common divisor with the few operations of a commit meets each of them.
    for number in (1..=operations).step_by(23) {
        let plans = [
            Plan::Cut(number, Survivors::None),
            Plan::Cut(number + 7, Survivors::All),
            Plan::Cut(number + 13, Survivors::Some(number)),
            Plan::Fail(number + 19),
        ];
        for plan in plans {
            let disk = Disk::new(plan);
            let told = life(&disk);
            check_disk(&disk, &told, &format!("{plan:?}"));
        }
    }
}
