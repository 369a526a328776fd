//! The `llama` architecture on the kernels of `aios-kernels`: weights in panels, a batch of tokens through all layers,
//! no memory taken on the way.

mod session;

use std::sync::Arc;

use aios_kernels::{BLOCK, Format, Isa, LANES, Matrix};
use candle_core::quantized::GgmlDType;

use super::parameters::Parameters;
use super::{Loader, info, rope_frequencies};
use crate::engine::{Engine, EngineError, EngineInfo, Session};
use crate::gguf::Gguf;

/// A model loaded into panels.
pub(super) struct Native {
    info: EngineInfo,
    weights: Arc<Weights>,
}

/// Everything that sessions read.
struct Weights {
    isa: Isa,
    parameters: Parameters,
    embedding: Arc<Matrix>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Arc<Matrix>,
    frequencies: Vec<f64>,
}

/// One transformer block. Matrices are `(outputs, inputs)`.
struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    feed_forward_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// The kernels' name of a format; `None` for those that they don't know.
fn format(dtype: GgmlDType) -> Option<Format> {
    match dtype {
        GgmlDType::Q4_0 => Some(Format::Q4_0),
        GgmlDType::Q4_1 => Some(Format::Q4_1),
        GgmlDType::Q5_0 => Some(Format::Q5_0),
        GgmlDType::Q5_1 => Some(Format::Q5_1),
        GgmlDType::Q8_0 => Some(Format::Q8_0),
        GgmlDType::Q4K => Some(Format::Q4K),
        GgmlDType::Q5K => Some(Format::Q5K),
        GgmlDType::Q6K => Some(Format::Q6K),
        _ => None,
    }
}

/// Whether all matrices have formats, and all rows lengths, that the kernels know.
pub(super) fn supports(gguf: &Gguf, parameters: &Parameters) -> bool {
    let whole = |size: usize, step: usize| size.is_multiple_of(step);
    let queries = parameters.heads * parameters.head_size;
    whole(parameters.embedding, BLOCK)
        && whole(parameters.feed_forward, BLOCK)
        && whole(queries, BLOCK)
        && whole(parameters.head_size, LANES)
        && gguf
            .tensors()
            .values()
            .filter(|tensor| tensor.shape.len() == 2)
            .all(|tensor| format(tensor.dtype).is_some_and(|format| whole(tensor.shape[1], format.block_values())))
}

impl Native {
    pub(super) fn load(gguf: &Gguf, parameters: Parameters, isa: Isa) -> Result<Self, EngineError> {
        let loader = Loader { gguf };
        let embedding = Arc::new(matrix(&loader, "token_embd.weight", parameters.vocabulary, parameters.embedding)?);
        let head = match gguf.tensors().contains_key("output.weight") {
            true => Arc::new(matrix(&loader, "output.weight", parameters.vocabulary, parameters.embedding)?),
            false => Arc::clone(&embedding),
        };
        let layers =
            (0..parameters.layers).map(|index| layer(&loader, index, &parameters)).collect::<Result<_, _>>()?;
        let norm = vector(&loader, "output_norm.weight", parameters.embedding)?;
        let frequencies = rope_frequencies(gguf, &parameters)?;
        let info = info(gguf, &parameters, isa.name());
        let weights = Weights { isa, parameters, embedding, layers, norm, head, frequencies };
        Ok(Self { info, weights: Arc::new(weights) })
    }
}

impl Engine for Native {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::NativeSession::new(Arc::clone(&self.weights))))
    }
}

fn layer(loader: &Loader<'_>, index: usize, parameters: &Parameters) -> Result<Layer, EngineError> {
    let matrix = |name: &str, outputs, inputs| matrix(loader, &format!("blk.{index}.{name}.weight"), outputs, inputs);
    let vector = |name: &str| vector(loader, &format!("blk.{index}.{name}.weight"), parameters.embedding);
    let (embedding, feed_forward) = (parameters.embedding, parameters.feed_forward);
    let queries = parameters.heads * parameters.head_size;
    let keys = parameters.key_heads * parameters.head_size;
    Ok(Layer {
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

fn matrix(loader: &Loader<'_>, name: &str, rows: usize, columns: usize) -> Result<Matrix, EngineError> {
    let (tensor, blocks) = loader.blocks(name, &[rows, columns])?;
    let refuse = |reason: String| loader.gguf.error(format!("tensor {name} ({:?}) {reason}", tensor.dtype));
    let format = format(tensor.dtype).ok_or_else(|| refuse("has a format without kernels".to_owned()))?;
    Ok(Matrix::pack(format, rows, columns, &blocks).map_err(|error| refuse(error.to_string()))?)
}

fn vector(loader: &Loader<'_>, name: &str, length: usize) -> Result<Vec<f32>, EngineError> {
    Ok(loader.vector(name, length)?.to_vec1()?)
}
