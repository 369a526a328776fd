//! How much of what memory gives generation reads: each token needs every weight, so that is where it ends.

use std::path::Path;
use std::time::Instant;

use aios_kernels::{Bandwidth, Isa};
use anyhow::{Context, Result};
use serde::Serialize;

use super::{BenchArgs, likeliest};
use crate::engine::{Cancel, Session, read_bandwidth};
use crate::gguf::Gguf;

/// Memory that is read to see how fast it is: more than caches hold.
const MEMORY: usize = 256 << 20;

/// Tokens between two looks at how fast memory is. On a machine that others use as well that changes from one moment to the
/// next, so both are measured in turn, and summed up.
const TURN: usize = 8;

/// What the threads read together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MemoryRates {
    /// Bytes per second, where they read alone.
    pub bytes_per_second: f64,
    /// Bytes of weights per second, where they generate.
    pub weights_per_second: f64,
    /// Bytes of weights that each token reads.
    pub token_bytes: usize,
}

/// Generates `arguments.decode` tokens behind `prompt` as often as asked for, and reads memory in between.
pub(super) fn measure(session: &mut dyn Session, prompt: &[u32], arguments: &BenchArgs) -> Result<MemoryRates> {
    let isa = arguments.isa.unwrap_or_else(Isa::detect);
    let memory = Bandwidth::new(isa, MEMORY).context("memory to read")?;
    let token_bytes = token_bytes(&arguments.model)?;
    let (mut reading, mut generating, mut reads, mut tokens) = (0.0, 0.0, 0, 0);
    for _ in 0..arguments.repeat {
        session.truncate(0);
        let mut next = likeliest(session.forward(prompt, 1, &Cancel::default())?);
        for token in 0..arguments.decode {
            if token % TURN == 0 {
                reading += 1.0 / read_bandwidth(&memory);
                reads += 1;
            }
            let started = Instant::now();
            next = likeliest(session.forward(&[next], 1, &Cancel::default())?);
            generating += started.elapsed().as_secs_f64();
            tokens += 1;
        }
    }
    Ok(MemoryRates {
        bytes_per_second: f64::from(reads) / reading,
        weights_per_second: (tokens * token_bytes) as f64 / generating,
        token_bytes,
    })
}

/// Bytes that each token reads: all tensors, but for an embedding that is not the head as well.
fn token_bytes(model: &Path) -> Result<usize> {
    let gguf = Gguf::open(model)?;
    let separate = gguf.tensors().contains_key("output.weight");
    let read = gguf.tensors().iter().filter(|(name, _)| !separate || name.as_str() != "token_embd.weight");
    Ok(read.map(|(_, tensor)| tensor.bytes).sum())
}
