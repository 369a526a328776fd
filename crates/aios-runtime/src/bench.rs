//! Speed and memory of the engine alone, without a server.

mod first;
mod form;
mod memory;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use aios_kernels::Isa;
use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

pub use form::FormRates;
pub use memory::MemoryRates;

use crate::engine::{Cancel, EngineError, Session, use_threads};
use crate::model::{LoadOptions, LoadedModel};
use crate::sampling;

/// Tokens of the untimed first run, which starts threads and touches the weights.
const WARM_UP: usize = 8;

/// Memory for the beginnings of prompts, where these are measured.
const PREFIX_CACHE: usize = 1 << 30;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// GGUF file.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Lengths of prompts to time, in tokens.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [128, 512])]
    pub prefill: Vec<usize>,
    /// Number of tokens to generate one by one.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub decode: usize,
    /// Tokens that are in the context when the timed generation begins.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub depth: usize,
    /// Contexts that generate at the same time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub streams: usize,
    /// Times that each case runs; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeat: usize,
    /// Measure how long the first token of a prompt of so many tokens takes: of one that was never seen, and of one that
    /// begins as an earlier one did.
    #[arg(long, value_name = "N")]
    pub first_token: Option<usize>,
    /// Measure how fast the same threads read memory, on huge pages and asked for ahead, and in turn with that how fast
    /// generation reads weights.
    #[arg(long)]
    pub memory: bool,
    /// Threads to compute with; 0 takes one for each CPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Instructions for the kernels to compute with, of those that this CPU has (portable; avx2, avxvnni, avx512; neon,
    /// dotprod, i8mm); if not given, what is fastest.
    #[arg(long, value_name = "NAME")]
    pub isa: Option<Isa>,
    /// JSON schema, a file, to time generation in this form beside free generation. Take one whose documents are long:
    /// a document that ends is begun again.
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Print one JSON object instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// File that was measured.
    pub model: String,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// What computed: instructions that the kernels used, or `candle`.
    pub arithmetic: String,
    /// Time from opening the file until it can be used, in milliseconds.
    pub load_ms: f64,
    /// Prompts, in the order asked for.
    pub prefill: Vec<Rate>,
    /// Generation: all streams together.
    pub decode: Rate,
    /// Contexts that generated at the same time.
    pub streams: usize,
    /// Generation in a form, where asked for.
    pub form: Option<FormRates>,
    /// Largest resident memory of the process (`VmHWM`), in bytes.
    pub peak_rss_bytes: u64,
    /// Time to the first token, where asked for.
    pub first_token: Option<FirstToken>,
    /// What generation reads of what memory gives, where asked for.
    pub memory: Option<MemoryRates>,
}

/// How long a prompt takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FirstToken {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Median time, in milliseconds, where none of it was seen before.
    pub cold_ms: f64,
    /// Median time, in milliseconds, where all whole blocks of it but the last were.
    pub warm_ms: f64,
    /// Median time, in milliseconds, where these were kept on disk by an earlier process; `None` where the engine keeps
    /// nothing.
    pub kept_ms: Option<f64>,
}

/// A number of tokens and how fast they went.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Tokens in one run.
    pub tokens: usize,
    /// Median of the runs, in tokens per second.
    pub tokens_per_second: f64,
}

impl Rate {
    fn new(tokens: usize, times: Vec<Duration>) -> Self {
        Self { tokens, tokens_per_second: tokens as f64 / median(times).as_secs_f64() }
    }
}

/// Measures and prints. Sets the number of threads, so call it while the process has one.
pub fn run(arguments: &BenchArgs) -> Result<()> {
    use_threads(arguments.threads)?;
    let report = measure(arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("load {:.0} ms, {:.1} MB, {}", report.load_ms, report.size_bytes as f64 / 1e6, report.arithmetic);
    for rate in &report.prefill {
        println!("prefill {} tokens: {:.1} tokens/s", rate.tokens, rate.tokens_per_second);
    }
    let streams = if report.streams == 1 { String::new() } else { format!(" in {} streams", report.streams) };
    println!("decode {} tokens{streams}: {:.1} tokens/s", report.decode.tokens, report.decode.tokens_per_second);
    if let Some(FirstToken { tokens, cold_ms, warm_ms, kept_ms }) = report.first_token {
        let kept = kept_ms.map(|kept| format!(", with one from disk {kept:.1} ms")).unwrap_or_default();
        println!("first token of {tokens}: {cold_ms:.1} ms, with a known beginning {warm_ms:.1} ms{kept}");
    }
    if let Some(MemoryRates { bytes_per_second, weights_per_second, .. }) = report.memory {
        let share = weights_per_second / bytes_per_second * 100.0;
        println!("memory {:.1} GB/s, of which generation reads {share:.0} %", bytes_per_second / 1e9);
    }
    if let Some(form) = &report.form {
        form.print();
    }
    println!("peak resident memory {:.1} MB", report.peak_rss_bytes as f64 / 1e6);
    Ok(())
}

/// Measures without printing.
pub fn measure(arguments: &BenchArgs) -> Result<BenchReport> {
    ensure!(arguments.repeat > 0 && arguments.decode > 0, "--repeat and --decode must be above 0");
    ensure!(arguments.streams > 0 && arguments.depth > 0, "--streams and --depth must be above 0");
    ensure!(!arguments.prefill.contains(&0), "--prefill lengths must be above 0");
    let first_token = arguments.first_token.unwrap_or(0);
    let longest = arguments.prefill.iter().copied().max().unwrap_or(0).max(first_token);
    let decoded = arguments.depth.max(form::PROMPT.len()) + arguments.decode;
    let context = longest.max(decoded).max(WARM_UP);
    let prefix_cache = if first_token > 0 { PREFIX_CACHE } else { 0 };
    let options = LoadOptions { isa: arguments.isa, prefix_cache, ..LoadOptions::new(context) };
    let model = LoadedModel::load("bench", &arguments.model, &options)?;
    ensure!(
        model.engine.info().context_length == context,
        "the model was trained for contexts of {} tokens, this asks for {context}",
        model.engine.info().context_length
    );
    let mut session = model.engine.session()?;
    let tokens = |count: usize| prompt(count, model.engine.info().vocabulary);
    time_prefill(session.as_mut(), &tokens(WARM_UP))?;

    let mut prefill = Vec::new();
    for &length in &arguments.prefill {
        let prompt = tokens(length);
        prefill.push(rate(length, arguments.repeat, || time_prefill(session.as_mut(), &prompt))?);
    }
    drop(session);
    let start = tokens(arguments.depth);
    let streams = (0..arguments.streams).map(|_| model.engine.session()).collect::<Result<Vec<_>, _>>();
    let mut streams = streams?;
    let generated = arguments.decode * arguments.streams;
    let decode = rate(generated, arguments.repeat, || time_decode(&mut streams, &start, arguments.decode))?;
    let form = arguments.schema.as_ref().map(|path| form::measure(&model, streams[0].as_mut(), path, arguments));
    Ok(BenchReport {
        model: arguments.model.display().to_string(),
        size_bytes: model.size_bytes,
        arithmetic: model.engine.info().arithmetic.to_owned(),
        load_ms: model.load_time.as_secs_f64() * 1e3,
        prefill,
        decode,
        streams: arguments.streams,
        form: form.transpose()?,
        peak_rss_bytes: peak_rss_bytes()?,
        first_token: arguments
            .first_token
            .map(|tokens| first::measure(&model, tokens, &options, arguments))
            .transpose()?,
        memory: arguments.memory.then(|| memory::measure(streams[0].as_mut(), &start, arguments)).transpose()?,
    })
}

/// Different tokens that mean nothing; speed does not depend on them.
fn prompt(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|index| ((1000 + index * 37) % vocabulary) as u32).collect()
}

fn time_prefill(session: &mut dyn Session, prompt: &[u32]) -> Result<Duration> {
    session.truncate(0);
    let started = Instant::now();
    session.forward(prompt, 1, &Cancel::default())?;
    Ok(started.elapsed())
}

/// The time in which all sessions generate `count` tokens each behind `prompt`, which is not timed.
fn time_decode(sessions: &mut [Box<dyn Session>], prompt: &[u32], count: usize) -> Result<Duration> {
    let start = Barrier::new(sessions.len() + 1);
    std::thread::scope(|scope| {
        let streams: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                let start = &start;
                scope.spawn(move || {
                    session.truncate(0);
                    let first = session.forward(prompt, 1, &Cancel::default()).map(likeliest);
                    start.wait();
                    let mut next = first?;
                    for _ in 0..count {
                        next = likeliest(session.forward(&[next], 1, &Cancel::default())?);
                    }
                    Ok::<(), EngineError>(())
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        for stream in streams {
            stream.join().map_err(|_| anyhow!("a stream panicked"))??;
        }
        Ok(started.elapsed())
    })
}

fn likeliest(logits: &[f32]) -> u32 {
    sampling::likeliest(logits).map_or(0, |(_, token)| token)
}

fn rate(tokens: usize, repeat: usize, mut run: impl FnMut() -> Result<Duration>) -> Result<Rate> {
    Ok(Rate::new(tokens, (0..repeat).map(|_| run()).collect::<Result<Vec<_>>>()?))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// `VmHWM` of this process.
fn peak_rss_bytes() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let status = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().strip_suffix("kB"))
        .with_context(|| format!("{}: no VmHWM", path.display()))?;
    Ok(kilobytes.trim().parse::<u64>()? * 1024)
}
