//! The `llama` family on candle, for CPUs without vector instructions that the kernels have code for, and for files with
//! formats that they don't know.
//!
//! candle brings the block formats and the products with them; the layers, the cache and the order of work are here.
//! Weights are read once, from the file straight into candle's blocks, and stay in the file's own format: rows of the
//! embedding are expanded one at a time, and a model without a head of its own uses the embedding for it.

mod session;

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::layer::{Layer, Loader};
use super::parameters::Parameters;
use super::{info, rope_frequencies};
use crate::engine::{Engine, EngineError, EngineInfo, Session};
use crate::gguf::Gguf;

/// A model loaded into candle.
pub(super) struct Llama {
    info: EngineInfo,
    weights: Arc<Weights>,
}

/// Everything that sessions read.
struct Weights {
    parameters: Parameters,
    embedding: Arc<QTensor>,
    layers: Vec<Layer<QTensor, Tensor>>,
    norm: Tensor,
    head: Arc<QTensor>,
    /// Cosines and sines by position: `(context, head_size / 2)` each.
    rope: (Tensor, Tensor),
}

impl Llama {
    pub(super) fn load(gguf: &Gguf, parameters: Parameters) -> Result<Self, EngineError> {
        let rope = rope_tables(gguf, &parameters)?;
        let loader = Loader { gguf };

        // The largest first: what is read passes through a buffer, so the peak is reached while little else is there.
        let embedding = Arc::new(loader.matrix("token_embd.weight", parameters.vocabulary, parameters.embedding)?);
        let head = match gguf.tensors().contains_key("output.weight") {
            true => Arc::new(loader.matrix("output.weight", parameters.vocabulary, parameters.embedding)?),
            false => Arc::clone(&embedding),
        };
        let layers = (0..parameters.layers)
            .map(|index| {
                let matrix = |name: &str, outputs, inputs| loader.matrix(name, outputs, inputs);
                Layer::load(index, &parameters, matrix, |name, length| loader.vector(name, length))
            })
            .collect::<Result<_, _>>()?;
        let norm = loader.vector("output_norm.weight", parameters.embedding)?;

        let info = info(gguf, &parameters, "candle");
        Ok(Self { info, weights: Arc::new(Weights { parameters, embedding, layers, norm, head, rope }) })
    }
}

impl Engine for Llama {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::LlamaSession::new(Arc::clone(&self.weights))?))
    }
}

/// Cosines and sines of every position's angles, in double precision until the end: angles grow to thousands.
fn rope_tables(gguf: &Gguf, parameters: &Parameters) -> Result<(Tensor, Tensor), EngineError> {
    let frequencies = rope_frequencies(gguf, parameters)?;
    let pairs = frequencies.len();
    let table = |function: fn(f64) -> f64| {
        let positions = 0..parameters.context;
        let values =
            positions.flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
        Tensor::from_vec(
            values.map(|angle| function(angle) as f32).collect(),
            (parameters.context, pairs),
            &Device::Cpu,
        )
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}
