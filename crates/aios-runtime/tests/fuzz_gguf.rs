//! Damaged GGUF files, as many as fit into `FUZZ_SECONDS` (a few in a normal test run, for long by `make fuzz`).
//!
//! Each input is made by random damage of a valid file, of which there is one for each family and architecture with each
//! kind of tokenizer. Reading its header, and loading, converting and asking it as a model where the header passes, must
//! not panic, not take memory that the file doesn't justify, and not take long. An input that does is left in `FUZZ_OUT`;
//! `FUZZ_SEED` makes a run again.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/seeds.rs"]
mod seeds;
#[path = "support/tiny_foreign.rs"]
mod tiny_foreign;
#[path = "support/tiny_model.rs"]
mod tiny_model;
#[path = "support/vocabularies.rs"]
mod vocabularies;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use aios_models::{convert, formats, gguf, memory::Needs};
use aios_runtime::{
    constraint::Form,
    engine::Cancel,
    gguf::Gguf,
    model::{LoadOptions, LoadedModel},
    template::ChatMessage,
};
use candle_core::quantized::GgmlDType;
use seeds::Seed;

/// Memory for the header of a file: what its entries become in memory is some times as large as they are in the file, and
/// each list may have as much again in reserve.
fn header_bound(length: usize) -> usize {
    (1 << 20) + 64 * length
}

/// Memory for a model of a file of 200 kB: the weights in panels, tokenizer, template, a context.
const LOAD_BOUND: usize = 16 << 20;

/// A header of 2 MB takes some 20 ms; the rest is for a machine that has other work.
const TIME_BOUND: Duration = Duration::from_secs(5);

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What [`measured_once`] tells, of a second try where the first took long: the process may have been stopped meanwhile.
fn measured<T>(work: impl Fn() -> T) -> (T, usize, Duration) {
    let first = measured_once(&work);
    if first.2 > TIME_BOUND { measured_once(work) } else { first }
}

/// The most memory that `work` had beyond what there was, and how long it took.
fn measured_once<T>(work: impl FnOnce() -> T) -> (T, usize, Duration) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let started = Instant::now();
    let result = work();
    (result, PEAK.load(Relaxed).saturating_sub(before), started.elapsed())
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next().is_multiple_of(one_in)
    }
}

/// Values at which counts and lengths go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    0x7F,
    0xFF,
    0xFFFF,
    0x1_0000,
    0x1_0001,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x1_0000_0000,
    1 << 40,
    (1 << 62) + 1,
    i64::MAX as u64,
    u64::MAX - 31,
    u64::MAX,
];

/// One to four kinds of damage, nearly all of it within the first `header` bytes.
fn damage(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let within = if random.chance(16) { bytes.len() } else { header.min(bytes.len()) };
        let place = random.below(within);
        let room = bytes.len() - place;
        match random.below(8) {
            0 | 1 if room > 0 => bytes[place] = random.next() as u8,
            2 if room > 0 => bytes[place] ^= 1 << random.below(8),
            3 if room >= 8 => {
                let edge = EDGES[random.below(EDGES.len())];
                bytes[place..place + 8].copy_from_slice(&edge.to_le_bytes());
            }
            4 if room >= 4 => {
                let edge = EDGES[random.below(EDGES.len())] as u32;
                bytes[place..place + 4].copy_from_slice(&edge.to_le_bytes());
            }
            5 => bytes.truncate(place),
            6 => {
                let piece = bytes[place..place + random.below(room.min(64) + 1)].to_vec();
                let to = random.below(within);
                bytes.splice(to..to, piece);
            }
            7 => drop(bytes.drain(place..place + random.below(room.min(64) + 1))),
            _ => {}
        }
    }
}

struct Fuzzer {
    random: Random,
    seed: u64,
    /// Where inputs lie that went wrong.
    out: PathBuf,
    executions: u64,
    loads: u64,
    answered: u64,
    peak: usize,
    slowest: Duration,
}

impl Fuzzer {
    fn fail(&self, input: &[u8], what: &str) -> ! {
        std::fs::create_dir_all(&self.out).unwrap();
        let path = self.out.join(format!("gguf-{:016x}-{}", self.seed, self.executions));
        std::fs::write(&path, input).unwrap();
        panic!("{what} (seed {}, execution {}): the input is {}", self.seed, self.executions, path.display());
    }

    /// `claimed` is the length of the file of which `input` is the beginning.
    fn header(&mut self, input: &[u8], claimed: u64) -> bool {
        self.executions += 1;
        let run = || gguf::header::read(&mut &input[..], claimed).is_ok();
        let (result, memory, time) = measured(|| catch_unwind(AssertUnwindSafe(run)));
        self.judge(input, result.is_err(), memory, header_bound(input.len()), time);
        result.unwrap_or(false)
    }

    fn load(&mut self, input: &[u8], file: &Path) {
        self.loads += 1;
        std::fs::write(file, input).unwrap();
        let form = self.random.chance(16);
        let (result, memory, time) = measured(|| catch_unwind(AssertUnwindSafe(|| try_out(file, form).is_ok())));
        self.judge(input, result.is_err(), memory, LOAD_BOUND + header_bound(input.len()), time);
        self.answered += u64::from(result.unwrap_or(false));
    }

    fn judge(&mut self, input: &[u8], panicked: bool, memory: usize, bound: usize, time: Duration) {
        (self.peak, self.slowest) = (self.peak.max(memory), self.slowest.max(time));
        if panicked {
            self.fail(input, "a panic");
        }
        if memory > bound {
            self.fail(input, &format!("{memory} bytes of memory for {} bytes of file", input.len()));
        }
        if time > TIME_BOUND {
            self.fail(input, &format!("{time:?} for {} bytes of file", input.len()));
        }
    }
}

/// Text that each pre-tokenizer cuts in another way.
const TEXT: &str = "I'LL pay 12345€, don't\n\n  x  \u{301}Ж漢!!\r\n\tthe world";

/// All that is done with a file on a device: what it needs and is told of it, another format, a prompt and a chat, some
/// tokens through the layers, and with `form` what a form asks of its vocabulary.
fn try_out(file: &Path, form: bool) -> Result<(), Box<dyn Error>> {
    let gguf = Gguf::open(file)?;
    let _ = (formats::shares(&gguf), formats::obstacle(&gguf), formats::advice(&gguf));
    let _ = Needs::of(&gguf, 64).total(2);
    let converted = convert::Plan::new(&gguf, GgmlDType::Q4_0).write(&mut std::io::sink());
    let model = LoadedModel::load("fuzz", file, &LoadOptions::new(64))?;
    let chat = model.chat_tokens(&[ChatMessage::new("user", TEXT)], &[])?;
    let tokens = model.text_tokens(TEXT)?;
    let _ = (model.tokenizer.decode(&tokens), model.tokenizer.decode(&chat));
    let mut session = model.engine.session()?;
    session.forward(&tokens[..tokens.len().min(20)], 2, &Cancel::default())?;
    session.forward(&[0], 1, &Cancel::default())?;
    if form {
        model.grammars.compile(&Form::Json)?.allowed()?;
    }
    Ok(converted?)
}

#[test]
fn no_damaged_file_makes_reading_it_panic_or_take_memory_or_time() {
    let variable = |name: &str| std::env::var(name).ok();
    let seconds = variable("FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    let seed = variable("FUZZ_SEED").map_or(0x5EED_0001, |seed| seed.parse().expect("FUZZ_SEED is a number"));
    let out = variable("FUZZ_OUT").map_or_else(|| std::env::temp_dir().join("fuzz"), PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    // With `RUST_BACKTRACE`, the text of candle's errors takes symbols, 60 MB of them, which stay in memory.
    let _ = Backtrace::force_capture().to_string();
    let seeds = seeds::all(&file);
    for Seed { name, bytes, .. } in &seeds {
        std::fs::write(&file, bytes).unwrap();
        try_out(&file, true).unwrap_or_else(|error| panic!("{name}, not damaged: {error}"));
    }
    let real = variable("AIOS_TEST_MODEL").map(|path| {
        let gguf = Gguf::open(Path::new(&path)).unwrap();
        let header = gguf.tensors().values().map(|tensor| tensor.start).min().unwrap() as usize;
        let mut bytes = vec![0; header];
        std::os::unix::fs::FileExt::read_exact_at(gguf.file(), &mut bytes, 0).unwrap();
        (bytes, gguf.size())
    });
    // What panics is told once, by `fail`.
    std::panic::set_hook(Box::new(|_| {}));
    let random = Random(seed | 1);
    let mut fuzzer =
        Fuzzer { random, seed, out, executions: 0, loads: 0, answered: 0, peak: 0, slowest: Duration::ZERO };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            if let Some((bytes, size)) = real.as_ref().filter(|_| fuzzer.random.chance(64)) {
                let mut input = bytes.clone();
                // The vocabulary is most of it, and the least of the ways to go wrong.
                let header = if fuzzer.random.chance(2) { 4096 } else { input.len() };
                damage(&mut input, header, &mut fuzzer.random);
                fuzzer.header(&input, *size);
            } else {
                let seed = &seeds[fuzzer.random.below(seeds.len())];
                let mut input = seed.bytes.clone();
                let within = if fuzzer.random.chance(3) { seed.parameters } else { seed.header };
                damage(&mut input, within, &mut fuzzer.random);
                let passes = fuzzer.header(&input, input.len() as u64);
                if passes && fuzzer.random.chance(4) {
                    fuzzer.load(&input, &file);
                }
            }
        }
    }));
    let _ = std::panic::take_hook();
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        panic!("{}", text.unwrap_or_else(|| "a panic of the fuzzer itself".to_owned()));
    }
    let Fuzzer { executions, loads, answered, peak, slowest, .. } = fuzzer;
    println!(
        "{} valid files, {executions} headers, {loads} loads ({answered} models still answered), at most {peak} bytes and \
         {slowest:?}, seed {seed}",
        seeds.len()
    );
    assert!(executions > 100 && loads > 5 && answered > 0, "the fuzzer did little: {executions} {loads} {answered}");
}
