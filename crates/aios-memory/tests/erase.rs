//! What is erased, or dropped by retention, leaves nothing behind: no text, no id, no vector, no name of a metric.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aios_memory::{
    Aged, Body, Content, Embedded, HybridIndex, Item, Kind, Options, Query, Selector, Store, Tier, Write,
    item::{AgentState, Status},
};
use fixture::*;
use redb::{Database, ReadableDatabase as _, TableDefinition};

/// Ids that no other bytes of the file are by chance.
const LAST_ID: u64 = 0x513d_772b_a9c4_e100;
/// Where what is erased comes from.
const SOURCE: &str = "https://example.com/leaked";

struct Memory {
    path: PathBuf,
    time: Time,
    store: Option<Store>,
    _folder: tempfile::TempDir,
}

/// A memory that keeps nothing longer than a year.
fn options(time: &Time) -> Options {
    Options {
        index: Some(Arc::new(HybridIndex::with_graph_from("test", 12))),
        long_term_retention: Duration::from_secs(365 * 24 * 3600),
        ..time.options()
    }
}

impl Memory {
    /// An empty one, whose ids begin high.
    fn new() -> Memory {
        let folder = tempfile::tempdir().unwrap();
        let (path, time) = (folder.path().join("memory.redb"), Time::new());
        Store::open(&path, options(&time)).unwrap().close().unwrap();
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let counters = TableDefinition::<&str, u64>::new("counters");
        transaction.open_table(counters).unwrap().insert("last-id", LAST_ID).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let store = Some(Store::open(&path, options(&time)).unwrap());
        Memory { path, time, store, _folder: folder }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(Store::open(&self.path, options(&self.time)).unwrap());
    }

    fn put(&self, content: Content) -> Item {
        let id = self.store().put(content).unwrap();
        assert!(id > LAST_ID);
        self.store().read(|view| view.item(id)).unwrap().unwrap()
    }

    /// Gives all that waits its vector, and links them.
    fn embed(&self) {
        let waiting = self.store().read(|view| view.unembedded(1000)).unwrap();
        let vector =
            |item: &Item| Embedded { id: item.id, updated: item.updated, vector: meaning(&item.content.body.text()) };
        self.store().write(Write::Vectors(waiting.iter().map(vector).collect())).unwrap();
        while self.store().work_on_index().unwrap() {}
    }

    /// What of these items is in the file, as bytes.
    fn traces(&mut self, items: &[Item]) -> Vec<Vec<u8>> {
        self.store.take().unwrap().close().unwrap();
        let database = Database::open(&self.path).unwrap();
        let read = database.begin_read().unwrap();
        let rows = read.open_table(TableDefinition::<u64, &[u8]>::new("vectors.rows")).unwrap();
        let mut traces = Vec::new();
        for item in items {
            traces.extend([item.id.to_le_bytes().to_vec(), item.id.to_be_bytes().to_vec()]);
            traces.extend(rows.get(item.id).unwrap().map(|row| row.value()[8..].to_vec()));
        }
        drop((rows, read, database));
        self.store = Some(Store::open(&self.path, options(&self.time)).unwrap());
        traces
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        holds(&self.path, bytes)
    }

    fn found(&self, text: &str) -> Vec<u64> {
        let vector = meaning(text);
        let query = Query { text, vector: Some(&vector), limit: 1000 };
        let found = self.store().read(|view| view.search(&query, &|_| true)).unwrap();
        found.iter().map(|(item, _)| item.id).collect()
    }
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

/// `content` of an agent and a source, with a word in it that nothing else has.
fn of(agent: &str, source: &str, mut content: Content) -> Content {
    content.provenance.agent = agent.into();
    content.provenance.source = source.into();
    content
}

/// One of each sort, with `word` wherever there is a text. Tasks and calls belong to the goal.
fn one_of_each(memory: &Memory, agent: &str, source: &str, word: &str) -> Vec<Item> {
    let put = |content| memory.put(of(agent, source, content));
    let goal = put(goal(&format!("{word} goal"), Status::Completed));
    let mut items = vec![
        put(event(&format!("{word} event"))),
        put(task(goal.id, &format!("{word} task"))),
        put(call(goal.id, &format!("{word}.call"))),
        put(pattern(&format!("{word} pattern"))),
        put(Content {
            provenance: goal.content.provenance.clone(),
            body: Body::AgentState(AgentState { agent: agent.into(), key: word.into(), value: word.into() }),
        }),
        goal,
    ];
    items.extend((0..30).map(|n| put(knowledge(&format!("{word} title {n}"), &format!("{word} text{n}")))));
    let mut measured = metric(&format!("{word}.metric"), 7.0);
    measured.provenance = items[0].content.provenance.clone();
    memory.store().write(Write::Metric(measured)).unwrap();
    items
}

/// Erases in a memory where `word` is in everything of agent `learning` from [`SOURCE`], and `other` in the rest.
fn erase_leaves_nothing(selector: &Selector, spares_others: bool) {
    let mut memory = Memory::new();
    let erased = one_of_each(&memory, "learning", SOURCE, "zebrafish");
    let others = one_of_each(&memory, "task", "elsewhere", "hedgehog");
    memory.embed();
    let traces = memory.traces(&erased);
    assert!(traces.len() > 2 * erased.len() && traces.iter().step_by(2).any(|trace| memory.holds(trace)));
    for text in [&b"zebrafish"[..], SOURCE.as_bytes()] {
        assert!(memory.holds(text));
    }
    let old = memory.path.with_extension("old");
    std::fs::hard_link(&memory.path, &old).unwrap();

    let expected = (erased.len() + 1) * if spares_others { 1 } else { 2 };
    assert_eq!(memory.store().erase(selector.clone()).unwrap(), expected as u64);

    let check = |memory: &Memory| {
        let left: Vec<&Vec<u8>> = traces.iter().filter(|trace| memory.holds(trace)).collect();
        assert!(left.is_empty(), "{left:x?} of {selector:?}");
        assert!(!memory.holds(b"zebrafish") && !memory.holds(SOURCE.as_bytes()), "{selector:?}");
        assert!(erased.iter().all(|item| memory.store().read(|view| view.item(item.id)).unwrap().is_none()));
        let found = memory.found("zebrafish hedgehog");
        assert!(erased.iter().all(|item| !found.contains(&item.id)), "{selector:?}");
        for item in &others {
            let kept = memory.store().read(|view| view.item(item.id)).unwrap();
            assert_eq!(kept.as_ref(), spares_others.then_some(item));
            assert_eq!(found.contains(&item.id), spares_others && item.kind() != Kind::AgentState);
        }
        assert_eq!(memory.store().read(|view| view.metric("hedgehog.metric")).is_ok(), spares_others);
    };
    check(&memory);
    memory.reopen();
    check(&memory);
    // Closing it writes a header again, and nothing of the rows.
    assert!(!holds(&old, b"zebrafish") && !holds(&old, b"hedgehog"), "the blocks of the old file are overwritten");
    assert!(!traces.iter().any(|trace| holds(&old, trace)));
}

#[test]
fn erasing_by_agent_leaves_no_byte_of_what_it_wrote() {
    erase_leaves_nothing(&Selector::Agent("learning".into()), true);
}

#[test]
fn erasing_by_source_leaves_no_byte_of_what_came_from_it() {
    erase_leaves_nothing(&Selector::Source(SOURCE.into()), true);
}

#[test]
fn erasing_everything_leaves_no_byte_of_anything() {
    erase_leaves_nothing(&Selector::All, false);
}

#[test]
fn what_retention_drops_leaves_no_byte_and_what_is_younger_stays() {
    let mut memory = Memory::new();
    let old: Vec<Item> = (0..30).map(|n| memory.put(knowledge("old", &format!("zebrafish text{n}")))).collect();
    memory.time.pass(300 * DAY);
    let young: Vec<Item> = (0..30).map(|n| memory.put(knowledge("young", &format!("hedgehog text{n}")))).collect();
    memory.embed();
    let traces = memory.traces(&old);
    memory.time.pass(66 * DAY);
    assert_eq!(memory.store().age().unwrap(), Aged { moved: 0, dropped: 30 });
    assert!(!memory.holds(b"zebrafish") && !traces.iter().any(|trace| memory.holds(trace)));
    assert_eq!(memory.store().read(|view| view.items(Tier::LongTerm)).unwrap(), young);
    let found = memory.found("zebrafish hedgehog");
    assert!(young.iter().all(|item| found.contains(&item.id)) && found.len() == young.len());
}
