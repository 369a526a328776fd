//! How fast the ledger is: appends by one thread and by several, verification, selection, opening after a crash.
//!
//! `cargo run --release -p aios-ledger --example bench -- [FOLDER [ENTRIES]]`. On a folder in memory (`/dev/shm`, the
//! default) syncs cost nothing and the figures are the ledger's own; on a disk they are mostly the disk's.

use std::{
    error::Error,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aios_keys::{note::Signer, seed::Seed};
use aios_ledger::{CheckpointEvery, Entry, Filter, Ledger, Options, Order, Reader, export, verify, verify_export};
use serde_json::json;

/// An entry as a tool's call makes it: some hundred bytes.
fn entry(number: u64) -> Result<Entry, Box<dyn Error>> {
    let body = json!({
        "arguments": {"path": format!("/var/lib/aios/tools/files/report-{number}.txt"), "content": "sha256:\
            9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "mode": 420},
        "decision": "allow",
        "grants": ["fs:write:/var/lib/aios/tools/files/**"],
        "risk": "low",
        "tool": if number.is_multiple_of(10) { "net.address.add" } else { "fs.write" },
    });
    Ok(Entry::new("decision", "operator", &body)?)
}

fn quantile(sorted: &[Duration], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3
}

/// Appends `each` entries from each of `threads` threads, and prints the rate and the time of one append.
fn append(ledger: &Ledger, threads: u64, each: u64) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let run = |thread: u64| {
        let once = |number| {
            let begin = Instant::now();
            let receipt = ledger.append(entry(thread * each + number).map_err(|error| error.to_string())?);
            receipt.map(|_| begin.elapsed()).map_err(|error| error.to_string())
        };
        (0..each).map(once).collect::<Result<Vec<_>, String>>()
    };
    let mut times = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let joined =
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())));
        joined.collect::<Result<Vec<_>, String>>().map(|times| times.concat())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    println!(
        "append, {threads} threads: {:.0} a second; p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, most {:.3} ms",
        times.len() as f64 / seconds,
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        quantile(&times, 0.999),
        quantile(&times, 1.0),
    );
    Ok(())
}

/// Prints how many of `entries` a second `work` does.
fn timed<T>(what: &str, entries: u64, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let begin = Instant::now();
    let done = work()?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what}: {:.0} entries a second, {:.1} ms in all", entries as f64 / seconds, seconds * 1e3);
    Ok(done)
}

fn bench(path: &Path, entries: u64) -> Result<(), Box<dyn Error>> {
    let signer = || Signer::new("aios/ledger/bench", &Seed::from_bytes([7; 32]));
    let every = NonZeroU64::new(1024).ok_or("0")?;
    let options =
        || Options { checkpoints: CheckpointEvery::Entries(every, Duration::from_secs(60)), ..Options::default() };
    let ledger = Ledger::open(path, signer()?, options())?;
    for threads in [1, 8] {
        append(&ledger, threads, entries / threads / 2)?;
    }
    ledger.close()?;
    let bytes = std::fs::metadata(path)?.len();
    let keys = signer()?.verifier();
    let snapshot = Reader::open(path)?.snapshot()?;
    println!("file: {:.1} MB, {:.0} bytes an entry", bytes as f64 / 1e6, bytes as f64 / snapshot.size() as f64);
    let report = timed("verify", snapshot.size(), || Ok(verify(&snapshot, &keys, &[])?))?;
    if let Some(fault) = report.fault {
        return Err(fault.to_string().into());
    }
    println!("checkpoints: {}", report.checkpoints);
    let filter = Filter { tool: Some("net.address.add".into()), ..Filter::default() };
    let found = timed("select", snapshot.size(), || {
        Ok(snapshot.select(0..u64::MAX, Order::OldestFirst, filter)?.filter(Result::is_ok).count())
    })?;
    println!("found: {found}");
    let mut text = Vec::new();
    timed("export", snapshot.size(), || Ok(export(&snapshot, 0, &mut text)?))?;
    timed("verify export", snapshot.size(), || Ok(verify_export(&mut &text[..], &keys, &[])?))?;
    drop(snapshot);

    // As a crash leaves it: a copy of the file while it is written.
    let crashed = path.with_extension("crashed");
    let ledger = Ledger::open(path, signer()?, options())?;
    ledger.append(entry(0)?)?;
    std::fs::copy(path, &crashed)?;
    timed("open after a crash", entries, || Ok(Ledger::open(&crashed, signer()?, options())?.close()?))?;
    ledger.close()?;
    timed("open after closing", entries, || Ok(Ledger::open(path, signer()?, options())?.close()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/dev/shm".into()));
    let entries = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let dir = tempfile::tempdir_in(folder)?;
    bench(&dir.path().join("ledger.redb"), entries)
}
