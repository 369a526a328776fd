//! The index against a plain computation of BM25, after any inserts and removals in any number of transactions.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};

use aios_recall::text::{B, Hit, K1, Statistics, TextError, TextIndex, terms};
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, backends::InMemoryBackend};

/// Texts by number.
type Texts = BTreeMap<u64, String>;

fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

fn index() -> TextIndex {
    TextIndex::new("test")
}

fn write(database: &Database, work: impl FnOnce(&redb::WriteTransaction)) {
    let transaction = database.begin_write().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
}

fn search(database: &Database, query: &str, k: usize, filter: impl Fn(u64) -> bool) -> Vec<Hit> {
    index().search(&database.begin_read().unwrap(), query, k, filter).unwrap()
}

/// BM25 as the paper has it, over all texts.
fn plain(texts: &Texts, query: &str, k: usize, filter: impl Fn(u64) -> bool) -> Vec<Hit> {
    let all: BTreeMap<u64, Vec<String>> = texts.iter().map(|(id, text)| (*id, terms(text))).collect();
    let count = all.len() as f64;
    let mean = all.values().map(Vec::len).sum::<usize>() as f64 / count;
    let mut asked: BTreeMap<String, f64> = BTreeMap::new();
    terms(query).into_iter().for_each(|term| *asked.entry(term).or_default() += 1.0);
    let mut hits = Vec::new();
    for (id, of_text) in all.iter().filter(|(id, _)| filter(**id)) {
        let mut score = 0.0;
        for (term, times) in &asked {
            let with = all.values().filter(|other| other.contains(term)).count() as f64;
            let here = of_text.iter().filter(|other| *other == term).count() as f64;
            let rarity = (1.0 + (count - with + 0.5) / (with + 0.5)).ln();
            score += times * rarity * here * (K1 + 1.0) / (here + K1 * (1.0 - B + B * of_text.len() as f64 / mean));
        }
        if score > 0.0 {
            hits.push(Hit { id: *id, score });
        }
    }
    hits.sort_by(|one, other| other.score.total_cmp(&one.score).then(one.id.cmp(&other.id)));
    hits.truncate(k);
    hits
}

/// Equal up to the rounding of sums; hits of scores that are equal up to that may change places.
fn assert_alike(found: &[Hit], expected: &[Hit]) {
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (one, other) in found.iter().zip(expected) {
        assert!((one.score - other.score).abs() < 1e-9 * (1.0 + other.score), "{one:?} {other:?}");
    }
    let decided = |hits: &[Hit]| -> BTreeSet<u64> {
        let last = hits.last().map_or(0.0, |hit| hit.score);
        hits.iter().filter(|hit| hit.score > last * (1.0 + 1e-9)).map(|hit| hit.id).collect()
    };
    assert_eq!(decided(found), decided(expected));
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, String),
    Remove(u64),
    Commit,
    Abort,
}

fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]),
        4 => prop::sample::select(vec!["eth0", "foo_bar", "Disk", "10.0.0.1"]),
        1 => prop::sample::select(vec!["rare", "日本語", "größe", "x/y.z"]),
    ];
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop_oneof![0_u64..40, Just(u64::MAX), Just(u64::MAX - 1)];
    let step = prop_oneof![
        12 => (id.clone(), words()).prop_map(|(id, text)| Step::Insert(id, text)),
        5 => id.prop_map(Step::Remove),
        2 => Just(Step::Commit),
        1 => Just(Step::Abort),
    ];
    prop::collection::vec(step, 0..120)
}

/// Does the steps; what is in the index afterwards.
fn perform(database: &Database, steps: &[Step]) -> Texts {
    let (mut committed, mut texts) = (Texts::new(), Texts::new());
    let mut transaction = database.begin_write().unwrap();
    for step in steps {
        match step {
            Step::Insert(id, text) => {
                index().insert(&transaction, *id, text).unwrap();
                texts.insert(*id, text.clone());
            }
            Step::Remove(id) => {
                assert_eq!(index().remove(&transaction, *id).unwrap(), texts.remove(id).is_some());
            }
            Step::Commit => {
                transaction.commit().unwrap();
                committed = texts.clone();
                transaction = database.begin_write().unwrap();
            }
            Step::Abort => {
                transaction.abort().unwrap();
                texts = committed.clone();
                transaction = database.begin_write().unwrap();
            }
        }
    }
    transaction.commit().unwrap();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_those_of_a_plain_computation(
        steps in steps(),
        query in words(),
        k in 1_usize..12,
        modulus in 1_u64..4,
    ) {
        let database = database();
        let texts = perform(&database, &steps);
        let read = database.begin_read().unwrap();
        let expected = Statistics {
            texts: texts.len() as u64,
            terms: texts.values().map(|text| terms(text).len() as u64).sum(),
        };
        prop_assert_eq!(index().check(&read).unwrap(), expected);
        let filter = |id: u64| id.is_multiple_of(modulus);
        assert_alike(&search(&database, &query, k, filter), &plain(&texts, &query, k, filter));
        for id in 0..40 {
            prop_assert_eq!(index().contains(&read, id).unwrap(), texts.contains_key(&id));
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_removed(steps in steps()) {
        let database = database();
        let texts = perform(&database, &steps);
        write(&database, |transaction| {
            let mut writer = index().writer(transaction).unwrap();
            texts.keys().for_each(|id| assert!(writer.remove(*id).unwrap()));
        });
        let read = database.begin_read().unwrap();
        for table in read.list_tables().unwrap() {
            let rows = match table.name() {
                "test.text.statistics" => continue,
                "test.text.texts" => read.open_table(TableDefinition::<u64, &[u8]>::new(table.name())).unwrap().iter().unwrap().count(),
                _ => read.open_table(TableDefinition::<&[u8], &[u8]>::new(table.name())).unwrap().iter().unwrap().count(),
            };
            prop_assert_eq!(rows, 0, "{}", table.name());
        }
        prop_assert_eq!(index().statistics(&read).unwrap(), Statistics::default());
    }
}

#[test]
fn lists_of_many_blocks_are_searched_as_plainly_computed_ones() {
    let database = database();
    let mut texts = Texts::new();
    let mut chance = 7_u64;
    let mut next = move |most: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % most
    };
    // Odd numbers rise, even ones fall, so that blocks grow at both ends and split in the middle.
    for number in 0..1500_u64 {
        let id = if number.is_multiple_of(2) { 100_000 - number } else { number };
        let mut text = "common".to_owned();
        for _ in 0..next(12) {
            text.push_str(&format!(" w{}", next(4) * next(4) * next(40)));
        }
        texts.insert(id, text);
    }
    let ids: Vec<u64> =
        (0..1500).map(|number: u64| if number.is_multiple_of(2) { 100_000 - number } else { number }).collect();
    write(&database, |transaction| {
        let mut writer = index().writer(transaction).unwrap();
        ids.iter().for_each(|id| writer.insert(*id, &texts[id]).unwrap());
        for id in ids.iter().filter(|id| *id % 7 == 3) {
            assert!(writer.remove(*id).unwrap());
            texts.remove(id);
        }
    });
    index().check(&database.begin_read().unwrap()).unwrap();
    for query in ["common", "common w0 w1 w2", "w12 common common", "w0 w3 w9 w27", "w108 w1 common", "nothing of it"] {
        for k in [1, 10, 2000] {
            assert_alike(&search(&database, query, k, |_| true), &plain(&texts, query, k, |_| true));
            assert_alike(&search(&database, query, k, |id| id > 99_000), &plain(&texts, query, k, |id| id > 99_000));
        }
    }
}

#[test]
fn an_index_that_was_never_written_finds_nothing_and_an_erased_one_neither() {
    let database = database();
    assert_eq!(search(&database, "disk", 5, |_| true), []);
    write(&database, |transaction| {
        index().insert(transaction, 1, "disk").unwrap();
        TextIndex::new("other").insert(transaction, 2, "disk").unwrap();
    });
    assert_eq!(search(&database, "disk", 5, |_| true)[0].id, 1);
    assert_eq!(search(&database, "", 5, |_| true), []);
    assert_eq!(search(&database, "disk", 0, |_| true), []);
    write(&database, |transaction| index().erase(transaction).unwrap());
    assert_eq!(search(&database, "disk", 5, |_| true), []);
    let read = database.begin_read().unwrap();
    assert!(read.list_tables().unwrap().all(|table| table.name().starts_with("other.")));
    assert_eq!(TextIndex::new("other").search(&read, "disk", 5, |_| true).unwrap()[0].id, 2);
}

#[test]
fn names_of_machines_are_found_by_whole_and_part() {
    let database = database();
    let texts = [
        "Nov 22 10:00:01 web2 sshd[812]: Failed password for root from 10.0.0.7 port 22",
        "eth0: link down, see /var/log/nginx/error.log",
        "error E1234 in getUserName",
    ];
    write(&database, |transaction| {
        (0..).zip(texts).for_each(|(id, text)| index().insert(transaction, id, text).unwrap());
    });
    let asked = [
        ("10.0.0.7", 0),
        ("sshd", 0),
        ("ETH0", 1),
        ("eth", 1),
        ("error.log", 1),
        ("/var/log/nginx/error.log", 1),
        ("e1234", 2),
        ("1234", 2),
        ("user name", 2),
    ];
    for (query, id) in asked {
        assert_eq!(search(&database, query, 1, |_| true).first().map(|hit| hit.id), Some(id), "{query}");
    }
    assert_eq!(search(&database, "10.0.0.8", 9, |_| true).len(), 1, "only by the part that both have");
}

#[test]
fn damaged_tables_are_told_and_not_believed() {
    let postings = TableDefinition::<&[u8], &[u8]>::new("test.text.postings");
    let spoilt: [&[u8]; 4] = [&[], &[0], &[1, 0, 1, 1, 0, 1], &[200, 1, 5, 1, 1]];
    for bytes in spoilt {
        let database = database();
        write(&database, |transaction| {
            index().insert(transaction, 1, "disk").unwrap();
            let mut table = transaction.open_table(postings).unwrap();
            let key = table.first().unwrap().unwrap().0.value().to_vec();
            table.insert(key.as_slice(), bytes).unwrap();
        });
        let read = database.begin_read().unwrap();
        assert!(matches!(index().search(&read, "disk", 1, |_| true), Err(TextError::Damaged { .. })), "{bytes:?}");
        assert!(matches!(index().check(&read), Err(TextError::Damaged { .. })), "{bytes:?}");
    }
}
