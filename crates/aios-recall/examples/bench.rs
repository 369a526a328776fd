//! `bench FOLDER [TEXTS]`: how fast texts get into the index on that disk, and how fast ten words find them.
#![allow(clippy::unwrap_used, reason = "a program for measurements: it stops where the disk fails")]

use std::time::{Duration, Instant};

use aios_recall::text::TextIndex;
use redb::{Database, ReadableDatabase};

/// Different words of all texts.
const WORDS: u64 = 50_000;
/// Texts of a transaction.
const BATCH: u64 = 1000;
const QUERIES: usize = 200;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("usage: bench FOLDER [TEXTS]");
    let count: u64 = arguments.next().map_or(100_000, |count| count.parse().unwrap());
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    let database = Database::create(file.path()).unwrap();
    let index = TextIndex::new("bench");
    let mut chance = Chance(1);

    let start = Instant::now();
    for first in (0..count).step_by(BATCH as usize) {
        let transaction = database.begin_write().unwrap();
        let mut writer = index.writer(&transaction).unwrap();
        for id in first..count.min(first + BATCH) {
            let length = 10 + chance.next() % 70;
            writer.insert(id, &chance.text(length)).unwrap();
        }
        drop(writer);
        transaction.commit().unwrap();
    }
    let took = start.elapsed();
    println!("{count} texts of 45 words on average: {:.0} texts/s", count as f64 / took.as_secs_f64());
    println!("file: {} MiB", file.path().metadata().unwrap().len() >> 20);

    let read = database.begin_read().unwrap();
    for words in [3, 10] {
        let mut times: Vec<Duration> = (0..QUERIES)
            .map(|_| {
                let query = chance.text(words);
                let start = Instant::now();
                let hits = index.search(&read, &query, 10, |_| true).unwrap();
                let took = start.elapsed();
                assert!(!hits.is_empty(), "{query}");
                took
            })
            .collect();
        times.sort_unstable();
        println!("query of {words} words: p50 {:.2?}, p99 {:.2?}", times[QUERIES / 2], times[QUERIES * 99 / 100]);
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Words of Zipf's law: the chance of the word of rank r is about as 1 / r, as in any language.
    fn text(&mut self, words: u64) -> String {
        let word = |chance: u64| {
            let share = (chance >> 11) as f64 / (1_u64 << 53) as f64;
            format!("w{}", (WORDS as f64).powf(share) as u64)
        };
        (0..words).map(|_| word(self.next())).collect::<Vec<_>>().join(" ")
    }
}
