//! The `llama` architecture: SmolLM2, Llama 2 and 3, Mistral, and what else has their layers; in `native` on the kernels,
//! in this file and `session` on candle.
//!
//! candle brings the block formats and the products with them; the layers, the cache and the order of work are here.
//! Weights are read once, from the file straight into candle's blocks, and stay in the file's own format: rows of the
//! embedding are expanded one at a time, and a model without a head of its own uses the embedding for it.

mod native;
mod parameters;
mod session;

use std::sync::Arc;

use aios_kernels::Isa;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

use super::{Engine, EngineError, EngineInfo, Session};
use crate::gguf::{Gguf, GgufError, TensorInfo};
use crate::model::LoadOptions;
use parameters::Parameters;

/// Loads `gguf`: into panels where the kernels know all of its formats and sizes and have vector instructions for this CPU
/// (or are told which to use), else into candle.
pub(super) fn load(gguf: &Gguf, options: &LoadOptions) -> Result<Box<dyn Engine>, EngineError> {
    let parameters = Parameters::from_gguf(gguf, options.context)?;
    refuse_unknown_tensors(gguf, &parameters)?;
    let isa = options.isa.or_else(|| Some(Isa::detect()).filter(|isa| !isa.is_portable()));
    match isa.filter(|_| native::supports(gguf, &parameters)) {
        Some(isa) => Ok(Box::new(native::Native::load(gguf, parameters, isa, options.prefix_cache)?)),
        None => Ok(Box::new(Llama::load(gguf, parameters)?)),
    }
}

/// A model loaded into candle.
struct Llama {
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

/// One transformer block. Matrices are `(outputs, inputs)`.
struct Layer<Matrix, Vector> {
    attention_norm: Vector,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    feed_forward_norm: Vector,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl<Matrix, Vector> Layer<Matrix, Vector> {
    /// Layer `index`: `matrix(name, outputs, inputs)` and `vector(name, length)` read its tensors.
    fn load(
        index: usize,
        parameters: &Parameters,
        matrix: impl Fn(&str, usize, usize) -> Result<Matrix, EngineError>,
        vector: impl Fn(&str, usize) -> Result<Vector, EngineError>,
    ) -> Result<Self, EngineError> {
        let matrix = |name: &str, outputs, inputs| matrix(&format!("blk.{index}.{name}.weight"), outputs, inputs);
        let vector = |name: &str| vector(&format!("blk.{index}.{name}.weight"), parameters.embedding);
        let (embedding, feed_forward) = (parameters.embedding, parameters.feed_forward);
        let queries = parameters.heads * parameters.head_size;
        let keys = parameters.key_heads * parameters.head_size;
        Ok(Self {
            attention_norm: vector("attn_norm")?,
            query: matrix("attn_q", queries, embedding)?,
            key: matrix("attn_k", keys, embedding)?,
            value: matrix("attn_v", keys, embedding)?,
            attention_output: matrix("attn_output", embedding, queries)?,
            feed_forward_norm: vector("ffn_norm")?,
            gate: matrix("ffn_gate", feed_forward, embedding)?,
            up: matrix("ffn_up", feed_forward, embedding)?,
            down: matrix("ffn_down", embedding, feed_forward)?,
        })
    }

    fn matrices(&self) -> [&Matrix; 7] {
        [&self.query, &self.key, &self.value, &self.attention_output, &self.gate, &self.up, &self.down]
    }
}

impl Llama {
    fn load(gguf: &Gguf, parameters: Parameters) -> Result<Self, EngineError> {
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

fn info(gguf: &Gguf, parameters: &Parameters, arithmetic: &'static str) -> EngineInfo {
    let weights = gguf.tensors().values().map(|tensor| tensor.shape.iter().product::<usize>() as u64);
    EngineInfo {
        architecture: "llama".to_owned(),
        arithmetic,
        parameters: weights.sum(),
        vocabulary: parameters.vocabulary,
        context_length: parameters.context,
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

/// Reads tensors and checks that they have the shape that the metadata promises.
struct Loader<'a> {
    gguf: &'a Gguf,
}

impl Loader<'_> {
    fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<QTensor, EngineError> {
        let matrix = self.tensor(name, &[outputs, inputs])?;
        // candle's kernels take these formats two blocks at a time, and would panic on an odd one.
        let step = match matrix.dtype() {
            GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 => 64,
            _ => 32,
        };
        if !inputs.is_multiple_of(step) {
            let reason =
                format!("tensor {name} ({:?}) has rows of {inputs} values, no multiple of {step}", matrix.dtype());
            return Err(self.gguf.error(reason).into());
        }
        Ok(matrix)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor, EngineError> {
        Ok(self.tensor(name, &[length])?.dequantize(&Device::Cpu)?)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<QTensor, EngineError> {
        self.info(name, shape)?;
        let (tensor, blocks) = self.gguf.read_tensor(name)?;
        let storage = QStorage::from_data(blocks.into(), &Device::Cpu, tensor.dtype)?;
        Ok(QTensor::new(storage, shape)?)
    }

    /// A tensor of the shape that the metadata promises.
    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, GgufError> {
        let tensor = self.gguf.tensor(name)?;
        if tensor.shape != shape {
            let reason = format!("tensor {name} has shape {:?}, the metadata needs {shape:?}", tensor.shape);
            return Err(self.gguf.error(reason));
        }
        Ok(tensor)
    }
}

/// A tensor that nothing here would use (a bias, experts) means a model that would silently answer nonsense.
fn refuse_unknown_tensors(gguf: &Gguf, parameters: &Parameters) -> Result<(), GgufError> {
    const LAYER: [&str; 9] = [
        "attn_norm.weight",
        "attn_q.weight",
        "attn_k.weight",
        "attn_v.weight",
        "attn_output.weight",
        "ffn_norm.weight",
        "ffn_gate.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    ];
    let known = |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((index, part)) => {
            LAYER.contains(&part) && index.parse::<usize>().is_ok_and(|index| index < parameters.layers)
        }
        None => matches!(name, "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight"),
    };
    match gguf.tensors().keys().filter(|name| !known(name)).min() {
        None => Ok(()),
        Some(name) => Err(gguf.error(format!(
            "tensor {name} is not part of the llama architecture as it is supported here (no biases, no experts)"
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
