//! What the tests of the ledger share.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{path::Path, sync::Arc, time::Duration};

use aios_keys::{note::Signer, seed::Seed};
use aios_ledger::{CheckpointEvery, Clock, Entry, Ledger, Options};
use jiff::Timestamp;
use serde_json::json;

/// The key of the device that the tests are about.
pub fn signer() -> Signer {
    Signer::new("aios/ledger/test", &Seed::from_bytes([1; 32])).unwrap()
}

/// A clock that goes on a millisecond with each look.
pub fn clock() -> Clock {
    let now = std::sync::atomic::AtomicI64::new(1_795_300_000_000_000);
    Arc::new(move || Timestamp::from_microsecond(now.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed)).unwrap())
}

/// Checkpoints on demand, and no waiting after failures.
pub fn options() -> Options {
    Options { checkpoints: CheckpointEvery::Call, retry_after: Duration::ZERO, clock: clock() }
}

pub fn open(path: &Path) -> Ledger {
    Ledger::open(path, signer(), options()).unwrap()
}

/// An entry that is recognised by its number.
pub fn entry(number: u64) -> Entry {
    let body = json!({"tool": format!("fs.{}", number % 3), "arguments": {"number": number, "text": "ä \"quoted\"\n"}});
    Entry::new(if number.is_multiple_of(2) { "decision" } else { "result" }, &format!("agent-{}", number % 4), &body)
        .unwrap()
}

/// Appends the entries of these numbers.
pub fn fill(ledger: &Ledger, numbers: std::ops::Range<u64>) {
    for number in numbers {
        ledger.append(entry(number)).unwrap();
    }
}
