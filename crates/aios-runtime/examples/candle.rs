//! Stock candle on a GGUF file: the peer of `make bench-inference`. It prints the keys of `aios-runtime bench --json`.
//!
//! The models are candle-transformers' own, through their public interface and with candle's own choice of arithmetic.
//! It is no part of an image.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Instant,
};

use aios_runtime::engine::use_threads;
use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::{quantized_gemma3, quantized_llama, quantized_qwen2, quantized_qwen3};
use clap::Parser;
use serde_json::{Value, json};

/// Tokens of the untimed first run, as many as in `aios-runtime bench`.
const WARM_UP: usize = 8;

#[derive(Parser)]
struct Arguments {
    /// GGUF file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Lengths of prompts to time, in tokens.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [128, 512])]
    prefill: Vec<usize>,
    /// Number of tokens to generate one by one.
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,
    /// Tokens that are in the context when the timed generation begins.
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: usize,
    /// Threads to compute with; 0 takes one for each CPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// The model of one architecture.
enum Model {
    Llama(quantized_llama::ModelWeights),
    Gemma3(quantized_gemma3::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

impl Model {
    fn load(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let device = &Device::Cpu;
        let architecture = content.metadata.get("general.architecture").context("no general.architecture")?;
        Ok(match architecture.to_string()?.as_str() {
            "llama" => Self::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, device)?),
            "gemma3" => Self::Gemma3(quantized_gemma3::ModelWeights::from_gguf(content, &mut file, device)?),
            "qwen2" => Self::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, &mut file, device)?),
            "qwen3" => Self::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, &mut file, device)?),
            other => bail!("no model of candle's is measured for the architecture {other}"),
        })
    }

    /// The likeliest token behind `tokens`, the first of which stands at `position`. At position 0 a new context begins.
    fn next(&mut self, tokens: &[u32], position: usize) -> Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Llama(model) => model.forward(&input, position)?,
            Self::Gemma3(model) => model.forward(&input, position)?,
            Self::Qwen2(model) => model.forward(&input, position)?,
            Self::Qwen3(model) => {
                if position == 0 {
                    model.clear_kv_cache();
                }
                model.forward(&input, position)?
            }
        };
        Ok(logits.flatten_all()?.argmax(0)?.to_scalar()?)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    println!("{}", measure(&arguments).with_context(|| arguments.model.display().to_string())?);
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Value> {
    ensure!(arguments.decode > 0 && arguments.depth > 0, "--decode and --depth must be above 0");
    let started = Instant::now();
    let mut model = Model::load(&arguments.model)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    model.next(&prompt(WARM_UP), 0)?;

    let mut prefill = Vec::new();
    for &length in &arguments.prefill {
        let prompt = prompt(length);
        let started = Instant::now();
        model.next(&prompt, 0)?;
        prefill.push(rate(length, started));
    }
    let mut next = model.next(&prompt(arguments.depth), 0)?;
    let started = Instant::now();
    for generated in 0..arguments.decode {
        next = model.next(&[next], arguments.depth + generated)?;
    }
    let decode = rate(arguments.decode, started);
    Ok(json!({
        "model": arguments.model,
        "size_bytes": arguments.model.metadata()?.len(),
        "arithmetic": "candle",
        "load_ms": load_ms,
        "prefill": prefill,
        "decode": decode,
    }))
}

fn rate(tokens: usize, started: Instant) -> Value {
    json!({"tokens": tokens, "tokens_per_second": tokens as f64 / started.elapsed().as_secs_f64()})
}

/// Different tokens that mean nothing, below any model's vocabulary.
fn prompt(count: usize) -> Vec<u32> {
    (0..count).map(|index| ((1000 + index * 37) % 32_000) as u32).collect()
}
