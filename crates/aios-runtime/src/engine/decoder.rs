//! Decoders: models that predict the next token by layers of attention and of a gated feed-forward network.
//!
//! [`Family`] says what such models have that others have not, `parameters` how large one is, `layer` which tensors its
//! layers are made of. `native` computes all families on the kernels; `candle` computes the `llama` family where these
//! can't.

mod candle;
mod family;
mod layer;
mod native;
mod parameters;

use aios_kernels::Isa;

pub(super) use self::family::Family;
use self::layer::Loader;
use self::parameters::Parameters;
use super::{Engine, EngineError, EngineInfo};
use crate::gguf::{Gguf, GgufError};
use crate::model::LoadOptions;

/// Loads `gguf`, a model of `family`: into panels where the kernels know all of its formats and sizes. candle computes the
/// others of its families, and those on a CPU without vector instructions, unless the options say which to use.
pub(super) fn load(
    gguf: &Gguf,
    family: &'static Family,
    options: &LoadOptions,
) -> Result<Box<dyn Engine>, EngineError> {
    let parameters = Parameters::from_gguf(gguf, family, options.context)?;
    refuse_unknown_tensors(gguf, &parameters)?;
    let isa = options.isa.unwrap_or_else(Isa::detect);
    let slow = isa.is_portable() && options.isa.is_none();
    match native::obstacle(gguf, &parameters) {
        None if !(slow && family.candle) => {
            Ok(Box::new(native::Native::load(gguf, parameters, isa, options)?))
        }
        Some(obstacle) if !family.candle => Err(gguf
            .error(format!(
                "{obstacle}, and models of the {} architecture are computed by kernels alone: use a file in Q4_1, Q8_0 or \
                 Q4_K, or make one with `aios model convert --format q8_0`",
                family.name
            ))
            .into()),
        _ => Ok(Box::new(candle::Llama::load(gguf, parameters)?)),
    }
}

fn info(gguf: &Gguf, parameters: &Parameters, arithmetic: &'static str) -> EngineInfo {
    let weights = gguf.tensors().values().map(|tensor| tensor.shape.iter().product::<usize>() as u64);
    EngineInfo {
        architecture: parameters.family.name.to_owned(),
        arithmetic,
        parameters: weights.sum(),
        vocabulary: parameters.vocabulary,
        context_length: parameters.context,
    }
}

/// A tensor that nothing here would use (a bias, experts) means a model that would silently answer nonsense.
fn refuse_unknown_tensors(gguf: &Gguf, parameters: &Parameters) -> Result<(), GgufError> {
    let family = parameters.family;
    let known = |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((index, part)) => {
            layer::tensors(family).any(|tensor| tensor == part)
                && index.parse::<usize>().is_ok_and(|index| index < parameters.layers)
        }
        None => {
            matches!(name, "token_embd.weight" | "output_norm.weight" | "output.weight")
                || family.rope_factors && name == "rope_freqs.weight"
        }
    };
    match gguf.tensors().keys().filter(|name| !known(name)).min() {
        None => Ok(()),
        Some(name) => Err(gguf.error(format!(
            "tensor {name} is not part of the {} architecture as it is supported here{}",
            family.name,
            if family.biases { " (no experts)" } else { " (no biases, no experts)" }
        ))),
    }
}

/// What each pair of a head's values turns by from one position to the next, in radians.
fn rope_frequencies(gguf: &Gguf, parameters: &Parameters) -> Result<Vec<f64>, EngineError> {
    let mut frequencies = frequencies(parameters.head_size, parameters.rope_base, parameters.rope_divisor);
    // Llama 3.1 and later divide each frequency by a factor of its own.
    if parameters.family.rope_factors && gguf.tensors().contains_key("rope_freqs.weight") {
        let factors = Loader { gguf }.vector("rope_freqs.weight", frequencies.len())?.to_vec1::<f32>()?;
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(factor);
        }
    }
    Ok(frequencies)
}

/// The same for local layers.
fn local_rope_frequencies(parameters: &Parameters) -> Option<Vec<f64>> {
    parameters.local.map(|local| frequencies(parameters.head_size, local.rope_base, 1.0))
}

fn frequencies(head_size: usize, base: f64, divisor: f64) -> Vec<f64> {
    (0..head_size / 2).map(|pair| base.powf(-2.0 * pair as f64 / head_size as f64) / divisor).collect()
}
