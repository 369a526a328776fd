//! What the tests of the memory share.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aios_memory::{
    AfterCommit, Body, Change, Content, Found, Index, Metric, Options, Provenance, Query,
    item::{Event, Goal, Knowledge, Pattern, Status, Step, Task, ToolCall},
};
use aios_policy::Origin;
use aios_tables::copy_table;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use sha2::{Digest as _, Sha256};

/// A clock that stands still until it is set.
#[derive(Clone)]
pub struct Time(Arc<AtomicI64>);

/// A day in milliseconds.
pub const DAY: i64 = 24 * 3600 * 1000;

impl Time {
    pub fn new() -> Time {
        Time(Arc::new(AtomicI64::new(1_795_300_000_000)))
    }

    pub fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Options with this clock, and no waiting after failures.
    pub fn options(&self) -> Options {
        let time = self.clone();
        Options { retry_after: Duration::ZERO, clock: Arc::new(move || time.now()), ..Options::default() }
    }
}

/// A clock that stands at some time.
pub fn options() -> Options {
    Time::new().options()
}

pub fn by(agent: &str, body: Body) -> Content {
    let provenance = Provenance { agent: agent.into(), source: String::new(), origins: [Origin::Model].into() };
    Content { provenance, body }
}

pub fn event(message: &str) -> Content {
    by("monitor", Body::Event(Event { category: "test".into(), message: message.into(), ..Event::default() }))
}

pub fn goal(text: &str, status: Status) -> Content {
    by("task", Body::Goal(Goal { text: text.into(), status, ..Goal::default() }))
}

pub fn task(goal: u64, description: &str) -> Content {
    by("task", Body::Task(Task { goal, description: description.into(), ..Task::default() }))
}

pub fn call(goal: u64, tool: &str) -> Content {
    by("task", Body::ToolCall(ToolCall { goal, tool: tool.into(), arguments: "{}".into(), ..ToolCall::default() }))
}

pub fn knowledge(title: &str, text: &str) -> Content {
    by("learning", Body::Knowledge(Knowledge { title: title.into(), text: text.into(), tags: Vec::new() }))
}

pub fn pattern(goal: &str) -> Content {
    let steps = vec![Step { tool: "fs.read".into(), arguments: "{\"path\":\"{path}\"}".into() }];
    by("learning", Body::Pattern(Pattern { goal: goal.into(), steps, ..Pattern::default() }))
}

pub fn metric(name: &str, value: f64) -> Metric {
    let provenance = by("monitor", Body::Event(Event::default())).provenance;
    Metric { name: name.into(), value, unit: "bytes".into(), updated: 0, provenance }
}

/// A vector of what a text is about: words of one meaning count as one.
pub fn meaning(text: &str) -> Vec<f32> {
    let mut sum = vec![0.0; 32];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = match word {
            "notebook" => "laptop",
            "sluggish" => "slow",
            word => word,
        };
        let hash = Sha256::digest(word.as_bytes());
        sum.iter_mut().zip(hash).for_each(|(number, byte)| *number += f32::from(byte) - 127.5);
    }
    sum
}

const WORDS: TableDefinition<(u64, &str), ()> = TableDefinition::new("test-words");
const VECTORS: TableDefinition<u64, &[u8]> = TableDefinition::new("test-vectors");

/// An index of whole words, and of vectors that it only keeps. Like a real one it is wrong for ever if it misses a change.
#[derive(Default)]
pub struct WordIndex {
    pub version: u64,
    /// What `apply` was given, in order.
    pub followed: Mutex<Vec<Change>>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

impl WordIndex {
    /// Items that have a vector.
    pub fn with_vector(transaction: &ReadTransaction) -> Vec<u64> {
        let table = transaction.open_table(VECTORS).unwrap();
        table.iter().unwrap().map(|row| row.unwrap().0.value()).collect()
    }
}

impl Index for WordIndex {
    fn version(&self) -> u64 {
        self.version
    }

    fn begin(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.open_table(WORDS)?;
        transaction.open_table(VECTORS)?;
        Ok(())
    }

    fn open(&self, _: &ReadTransaction) -> Result<(), redb::Error> {
        Ok(())
    }

    fn clear(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.delete_table(WORDS)?;
        transaction.delete_table(VECTORS)?;
        self.begin(transaction)
    }

    fn apply(&self, transaction: &WriteTransaction, changes: &[Change]) -> Result<AfterCommit, redb::Error> {
        self.followed.lock().unwrap().extend_from_slice(changes);
        let mut table = transaction.open_table(WORDS)?;
        let mut vectors = transaction.open_table(VECTORS)?;
        for change in changes {
            match change {
                Change::Words { id, text, before } => {
                    for word in words(before.as_deref().unwrap_or_default()) {
                        table.remove((*id, &*word))?;
                    }
                    for word in words(text) {
                        table.insert((*id, &*word), ())?;
                    }
                    vectors.remove(id)?;
                }
                Change::Vector { id, vector } => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                    vectors.insert(id, &bytes[..])?;
                }
                Change::Removed { id, text } => {
                    for word in words(text) {
                        table.remove((*id, &*word))?;
                    }
                    vectors.remove(id)?;
                }
            }
        }
        Ok(None)
    }

    fn nearest(&self, _: &[f32], _: usize, _: &dyn Fn(u64) -> bool) -> Vec<Found> {
        Vec::new()
    }

    fn search(
        &self,
        transaction: &ReadTransaction,
        query: &Query<'_>,
        accept: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<Found>, redb::Error> {
        let mut found = std::collections::BTreeMap::<u64, f64>::new();
        for row in transaction.open_table(WORDS)?.iter()? {
            let (key, _) = row?;
            let (id, word) = key.value();
            if words(query.text).iter().any(|wanted| wanted == word) && accept(id) {
                *found.entry(id).or_default() += 1.0;
            }
        }
        let mut found: Vec<Found> =
            found.into_iter().map(|(id, score)| Found { id, score, is_related: true }).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        found.truncate(query.limit);
        Ok(found)
    }

    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
        copy_table(WORDS, from, to)?;
        copy_table(VECTORS, from, to)
    }
}
