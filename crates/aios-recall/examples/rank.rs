//! `rank FILE`: what each way of ranking gives for the queries of a test collection. `benches/retrieval.py` calls it.
//!
//! FILE is JSON: `documents` (texts, numbered from 0 on), `queries` (texts) and `vectors` (for each query the nearest
//! documents as `[number, cosine]`, the best first). The answer, on standard output, is JSON: for each way its first ten
//! documents of every query.
#![allow(clippy::unwrap_used, reason = "a program for measurements: what it is given is right, or it stops")]

use std::{collections::BTreeMap, fs};

use aios_recall::{
    fuse::{Method, fuse},
    text::TextIndex,
};
use redb::{Database, ReadableDatabase, backends::InMemoryBackend};
use serde_json::{Value, json};

/// How many documents of each search are fused: as many as the memory takes for ten.
const DEPTH: usize = 100;
/// How many documents of a ranking are told.
const TOLD: usize = 10;

fn main() {
    let path = std::env::args().nth(1).expect("usage: rank FILE");
    let input: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let texts = |field: &str| -> Vec<String> { serde_json::from_value(input[field].clone()).unwrap() };
    let (documents, queries) = (texts("documents"), texts("queries"));
    let vectors: Vec<Vec<(u64, f64)>> = serde_json::from_value(input["vectors"].clone()).unwrap();

    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let index = TextIndex::new("documents");
    let transaction = database.begin_write().unwrap();
    {
        let mut writer = index.writer(&transaction).unwrap();
        (0..).zip(&documents).for_each(|(id, text)| writer.insert(id, text).unwrap());
    }
    transaction.commit().unwrap();

    let read = database.begin_read().unwrap();
    let mut rankings: BTreeMap<String, Vec<Vec<u64>>> = BTreeMap::new();
    for (query, near) in queries.iter().zip(&vectors) {
        let hits = index.search(&read, query, DEPTH, |_| true).unwrap();
        let words: Vec<(u64, f64)> = hits.iter().map(|hit| (hit.id, hit.score)).collect();
        let near = &near[..near.len().min(DEPTH)];
        for (name, method) in methods() {
            let ranking = fuse(near, &words, method);
            let ids = ranking.iter().take(TOLD).map(|fused| fused.id).collect();
            rankings.entry(name).or_default().push(ids);
        }
    }
    println!("{}", json!(rankings));
}

/// All ways that are compared, by name.
fn methods() -> Vec<(String, Method)> {
    let mut methods = vec![
        ("cosine".to_owned(), Method::WeightedSum { words: 0.0 }),
        ("bm25".to_owned(), Method::WeightedSum { words: 1.0 }),
    ];
    for words in [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5] {
        methods.push((format!("sum words={words}"), Method::WeightedSum { words }));
        for constant in [10.0, 60.0] {
            let method = Method::ReciprocalRank { constant, words };
            methods.push((format!("rrf constant={constant} words={words}"), method));
        }
    }
    methods
}
