//! Decoders on the kernels of `aios-kernels`: weights in panels, and batches of tokens, of one session or of several,
//! through all layers.
//!
//! ```text
//!  session::forward ─┐
//!  session::forward ─┼─▶ batcher: whoever leads runs what all of them want ─▶ pass: embed, layers, head
//!  session::forward ─┘
//! ```

mod batcher;
mod pass;
mod prefixes;
mod session;

use std::sync::Arc;

use aios_kernels::{BLOCK, Isa, LANES, Matrix, Packer, Shape};
use aios_models::formats;

use self::batcher::Batcher;
use self::pass::Context;
use self::prefixes::Prefixes;
use super::family::Pairs;
use super::layer::{Layer, Loader};
use super::parameters::Parameters;
use super::{info, local_rope_frequencies, rope_frequencies};
use crate::engine::threads::team;
use crate::engine::{Engine, EngineError, EngineInfo, Session};
use crate::gguf::{Gguf, TensorInfo};
use crate::model::LoadOptions;

/// A model loaded into panels.
pub(super) struct Native {
    info: EngineInfo,
    model: Arc<Model>,
}

/// What all sessions share.
struct Model {
    weights: Weights,
    batcher: Batcher,
    prefixes: Prefixes,
}

impl Model {
    /// Keeps the keys and values of a context's tokens for prompts that begin with them.
    fn keep(&self, context: &Context) {
        self.prefixes.keep(&context.history, |block| context.cache.block(block));
    }
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
    local_frequencies: Option<Vec<f64>>,
}

impl Weights {
    /// Whether a product takes values as they are, not rounded to eight bits.
    fn take_values(&self) -> bool {
        let layers = self.layers.iter().flat_map(Layer::matrices);
        layers.chain([&*self.head]).any(Matrix::takes_values)
    }
}

/// Why the kernels can't compute a model: the first matrix in a format, or of a size, that they don't know.
pub(super) fn obstacle(gguf: &Gguf, parameters: &Parameters) -> Option<String> {
    let queries = parameters.heads * parameters.head_size;
    // Pairs of both halves are in two registers.
    let head_step = match parameters.family.pairs {
        Pairs::Adjacent => LANES,
        Pairs::Halves => 2 * LANES,
    };
    let sizes = [
        ("embeddings", parameters.embedding, BLOCK),
        ("a feed-forward network", parameters.feed_forward, BLOCK),
        ("queries", queries, BLOCK),
        ("heads", parameters.head_size, head_step),
    ];
    let odd = sizes.into_iter().find(|(_, size, step)| !size.is_multiple_of(*step));
    odd.map(|(what, size, step)| format!("it has {what} of {size} values, no multiple of {step}"))
        .or_else(|| formats::obstacle(gguf))
}

/// A tensor's shape in the kernels' terms; `None` for formats and sizes that they don't know.
fn shape(tensor: &TensorInfo) -> Option<Shape> {
    let [rows, columns] = tensor.shape[..] else { return None };
    Shape::new(formats::kernel(tensor.dtype)?, rows, columns).ok()
}

impl Native {
    pub(super) fn load(
        gguf: &Gguf,
        parameters: Parameters,
        isa: Isa,
        options: &LoadOptions,
    ) -> Result<Self, EngineError> {
        let bytes = gguf.tensors().values().filter_map(shape).map(|shape| shape.bytes()).sum();
        let packer = Packer::new(team(), bytes)
            .map_err(|error| EngineError::Compute(format!("no memory for {bytes} bytes of weights: {error}")))?;
        let loader = Loader { gguf };
        let matrix = |name: &str, rows, columns| matrix(&loader, &packer, name, rows, columns);
        let vector =
            |name: &str, length| -> Result<Vec<f32>, EngineError> { Ok(loader.vector(name, length)?.to_vec1()?) };
        let layers = (0..parameters.layers)
            .map(|index| Layer::load(index, &parameters, matrix, vector))
            .collect::<Result<_, _>>()?;
        let norm = vector("output_norm.weight", parameters.embedding)?;
        let embedding = Arc::new(matrix("token_embd.weight", parameters.vocabulary, parameters.embedding)?);
        let head = match gguf.tensors().contains_key("output.weight") {
            true => Arc::new(matrix("output.weight", parameters.vocabulary, parameters.embedding)?),
            false => Arc::clone(&embedding),
        };
        let frequencies = rope_frequencies(gguf, &parameters)?;
        let local_frequencies = local_rope_frequencies(&parameters);
        let info = info(gguf, &parameters, isa.name());
        let weights = Weights { isa, parameters, embedding, layers, norm, head, frequencies, local_frequencies };
        let (batcher, prefixes) = (Batcher::default(), Prefixes::new(options, isa));
        Ok(Self { info, model: Arc::new(Model { weights, batcher, prefixes }) })
    }
}

/// Packs a matrix, in the order of its use: weights that follow each other lie behind each other.
fn matrix(
    loader: &Loader<'_>,
    packer: &Packer<'_>,
    name: &str,
    rows: usize,
    columns: usize,
) -> Result<Matrix, EngineError> {
    let tensor = loader.info(name, &[rows, columns])?;
    let unknown = || loader.gguf.error(format!("tensor {name} ({:?}) has a format without kernels", tensor.dtype));
    let shape = shape(tensor).ok_or_else(unknown)?;
    Ok(packer.pack(shape, |offset, bytes| loader.gguf.read_part(name, offset, bytes))?)
}

impl Engine for Native {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::NativeSession::new(Arc::clone(&self.model))))
    }
}
