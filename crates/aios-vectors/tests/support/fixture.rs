//! What the tests of the index share.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use aios_vectors::{Hit, Index, Options, Staged};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, backends::InMemoryBackend};

pub const DIMENSIONS: usize = 48;

pub const LINKS: TableDefinition<u32, &[u8]> = TableDefinition::new("vectors.links");
pub const CHANGES: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.changes");

/// Slots in a row of [`LINKS`].
pub const TOGETHER: u32 = 16;

/// Few vectors get a graph.
pub fn options(graph_from: usize) -> Options {
    Options { dimensions: DIMENSIONS, graph_from, ..Options::default() }
}

pub fn memory() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

pub fn open(database: &Database, options: Options) -> Index {
    Index::open(&database.begin_read().unwrap(), options).unwrap()
}

/// Numbers without a pattern, the same for the same seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// About normally distributed.
    pub fn number(&mut self) -> f32 {
        let twelfth = |_| (self.next() >> 40) as f32 / (1 << 24) as f32;
        (0..12).map(twelfth).sum::<f32>() - 6.0
    }
}

/// A vector as a text's embedding is: near to one of some topics, and all of them on one side.
pub fn vector(seed: u64) -> Vec<f32> {
    let mut own = Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut topic = Chance(own.next() % 20);
    (0..DIMENSIONS).map(|index| 0.5 * (index % 3) as f32 + topic.number() + 0.8 * own.number()).collect()
}

/// Changes an index, and waits until that is durable.
pub fn change(database: &Database, index: &Index, changes: &[(u64, Option<Vec<f32>>)], link: usize) -> (usize, usize) {
    let write = database.begin_write().unwrap();
    let mut batch = index.batch(&write);
    for (id, vector) in changes {
        match vector {
            Some(vector) => batch.insert(*id, vector).unwrap(),
            None => batch.remove(*id),
        }
    }
    batch.link(link);
    let staged: Staged = batch.finish().unwrap();
    let counts = (staged.removed(), staged.linked());
    write.commit().unwrap();
    index.publish(staged).unwrap();
    counts
}

/// Adds the vectors of these seeds under their numbers.
pub fn fill(database: &Database, index: &Index, ids: std::ops::Range<u64>) {
    let changes: Vec<_> = ids.map(|id| (id, Some(vector(id)))).collect();
    change(database, index, &changes, 0);
}

/// Links all that there is to link.
pub fn link_all(database: &Database, index: &Index) {
    while index.stats().to_link > 0 {
        change(database, index, &[], 50);
    }
}

/// The node that a row begins with, level by level, as the format's page draws it, and the rest of the row.
pub fn node(row: &[u8]) -> (Vec<Vec<u32>>, &[u8]) {
    let (levels, mut rest) = row.split_first().unwrap();
    let mut node = Vec::new();
    for _ in 0..*levels {
        let (links, after) = rest[1..].split_at(usize::from(rest[0]) * 4);
        node.push(links.chunks(4).map(|link| u32::from_le_bytes(link.try_into().unwrap())).collect());
        rest = after;
    }
    (node, rest)
}

/// By slot, the nodes of a row of [`CHANGES`].
pub fn changed(mut row: &[u8]) -> Vec<(u32, Vec<Vec<u32>>)> {
    let mut nodes = Vec::new();
    while !row.is_empty() {
        let (slot, rest) = row.split_at(4);
        let (node, rest) = node(rest);
        nodes.push((u32::from_le_bytes(slot.try_into().unwrap()), node));
        row = rest;
    }
    nodes
}

/// The graph as the tables have it: by slot, its neighbours, level by level.
pub fn graph(database: &Database) -> BTreeMap<u32, Vec<Vec<u32>>> {
    let read = database.begin_read().unwrap();
    let mut graph = BTreeMap::new();
    for row in read.open_table(LINKS).unwrap().iter().unwrap() {
        let (number, row) = row.unwrap();
        let mut rest = row.value();
        for slot in number.value() * TOGETHER..(number.value() + 1) * TOGETHER {
            let (node, after) = node(rest);
            graph.insert(slot, node);
            rest = after;
        }
    }
    for row in read.open_table(CHANGES).unwrap().iter().unwrap() {
        graph.extend(changed(row.unwrap().1.value()));
    }
    graph.retain(|_, node| !node.is_empty());
    graph
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The nearest `k` of `vectors`, computed one by one.
pub fn exact(vectors: &BTreeMap<u64, Vec<f32>>, query: &[f32], k: usize) -> Vec<(u64, f64)> {
    let mut all: Vec<_> = vectors.iter().map(|(id, vector)| (*id, cosine(query, vector))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(k);
    all
}

/// How many of the nearest were found, of how many.
pub fn recall(vectors: &BTreeMap<u64, Vec<f32>>, query: &[f32], found: &[Hit], k: usize) -> (usize, usize) {
    let expected = exact(vectors, query, k);
    assert_eq!(found.len(), expected.len(), "as many as there are");
    for pair in found.windows(2) {
        assert!(pair[0].score >= pair[1].score, "the nearest first: {found:?}");
    }
    for hit in found {
        let score = cosine(query, &vectors[&hit.id]);
        assert!((f64::from(hit.score) - score).abs() < 0.01, "{hit:?} is at {score}");
    }
    let hit = |(id, _): &&(u64, f64)| found.iter().any(|hit| hit.id == *id);
    (expected.iter().filter(hit).count(), expected.len())
}

/// Share of the nearest ten that an index finds of those that it should hold.
pub fn recall_of(index: &Index, vectors: &BTreeMap<u64, Vec<f32>>, queries: u64) -> f64 {
    let (mut found, mut of) = (0, 0);
    for seed in 0..queries {
        let query = vector(1_000_000 + seed);
        let hits = index.search(&query, 10, |_| true).unwrap();
        let (hit, expected) = recall(vectors, &query, &hits, 10);
        (found, of) = (found + hit, of + expected);
    }
    found as f64 / of.max(1) as f64
}
