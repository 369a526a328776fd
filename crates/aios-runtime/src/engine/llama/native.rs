//! The `llama` architecture on the kernels of `aios-kernels`: weights in panels, a batch of tokens through all layers. On
//! the way memory is taken only where a context grows longer than it has been: for the scores of its positions.

mod session;

use std::sync::Arc;

use aios_kernels::{BLOCK, Format, Isa, LANES, Matrix};
use candle_core::quantized::GgmlDType;

use super::parameters::Parameters;
use super::{Layer, Loader, info, rope_frequencies};
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
    layers: Vec<Layer<Matrix, Vec<f32>>>,
    norm: Vec<f32>,
    head: Arc<Matrix>,
    frequencies: Vec<f64>,
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
        let layers = (0..parameters.layers)
            .map(|index| {
                let matrix = |name: &str, outputs, inputs| matrix(&loader, name, outputs, inputs);
                Layer::load(index, &parameters, matrix, |name, length| vector(&loader, name, length))
            })
            .collect::<Result<_, _>>()?;
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

fn matrix(loader: &Loader<'_>, name: &str, rows: usize, columns: usize) -> Result<Matrix, EngineError> {
    let (tensor, blocks) = loader.blocks(name, &[rows, columns])?;
    let refuse = |reason: String| loader.gguf.error(format!("tensor {name} ({:?}) {reason}", tensor.dtype));
    let format = format(tensor.dtype).ok_or_else(|| refuse("has a format without kernels".to_owned()))?;
    Ok(Matrix::pack(format, rows, columns, &blocks).map_err(|error| refuse(error.to_string()))?)
}

fn vector(loader: &Loader<'_>, name: &str, length: usize) -> Result<Vec<f32>, EngineError> {
    Ok(loader.vector(name, length)?.to_vec1()?)
}
