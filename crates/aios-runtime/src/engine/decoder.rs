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

/// Loads `gguf`, a model of `family`: into panels where the kernels know all of its formats and sizes and have vector
/// instructions for this CPU (or are told which to use), else into candle.
pub(super) fn load(
    gguf: &Gguf,
    family: &'static Family,
    options: &LoadOptions,
) -> Result<Box<dyn Engine>, EngineError> {
    let parameters = Parameters::from_gguf(gguf, family, options.context)?;
    refuse_unknown_tensors(gguf, &parameters)?;
    let isa = options.isa.or_else(|| Some(Isa::detect()).filter(|isa| !isa.is_portable()));
    match isa.filter(|_| native::supports(gguf, &parameters)) {
        Some(isa) => Ok(Box::new(native::Native::load(gguf, parameters, isa, options.prefix_cache)?)),
        None => Ok(Box::new(candle::Llama::load(gguf, parameters)?)),
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
        None => matches!(name, "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight"),
    };
    match gguf.tensors().keys().filter(|name| !known(name)).min() {
        None => Ok(()),
        Some(name) => Err(gguf.error(format!(
            "tensor {name} is not part of the {} architecture as it is supported here (no biases, no experts)",
            family.name
        ))),
    }
}

/// What each pair of a head's values turns by from one position to the next, in radians.
fn rope_frequencies(gguf: &Gguf, parameters: &Parameters) -> Result<Vec<f64>, EngineError> {
    let pairs = parameters.head_size / 2;
    let mut frequencies: Vec<f64> = (0..pairs)
        .map(|pair| {
            parameters.rope_base.powf(-2.0 * pair as f64 / parameters.head_size as f64) / parameters.rope_divisor
        })
        .collect();
    // Llama 3.1 and later divide each frequency by a factor of its own.
    if gguf.tensors().contains_key("rope_freqs.weight") {
        let factors = Loader { gguf }.vector("rope_freqs.weight", pairs)?.to_vec1::<f32>()?;
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(factor);
        }
    }
    Ok(frequencies)
}
