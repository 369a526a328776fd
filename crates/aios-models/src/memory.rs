//! The memory that a model will need, from its header alone.

use aios_kernels::Shape;
use candle_core::quantized::GgmlDType;

use crate::{
    formats::{by_candle, kernel, obstacle},
    gguf::Gguf,
};

/// Tokens that go through the layers together.
const BATCH: u64 = 128;
/// Rows of logits: those that a context hands out, those of the tokens that the head takes together, and one on its way.
const LOGITS: u64 = 1 + 8 + 1;
/// A vocabulary takes so many times the room in memory, with its merges and indices, that it takes in the file.
const VOCABULARY_FACTOR: u64 = 12;

/// The memory that a model needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Weights, in the form that they are computed with.
    pub weights: u64,
    /// Tokenizer and chat template.
    pub tokenizer: u64,
    /// Keys and values of one context.
    pub cache: u64,
    /// Values on their way through the layers, of one context.
    pub scratch: u64,
}

impl Needs {
    /// The needs of a file, for contexts of at most `context` tokens. What a header does not say counts as nothing: the
    /// model will be refused for it.
    pub fn of(gguf: &Gguf, context: usize) -> Needs {
        let architecture = gguf.string("general.architecture").ok().flatten().unwrap_or_default();
        let optional = |key: &str| {
            let count = gguf.count(&format!("{architecture}.{key}")).ok().flatten();
            count.map(|count| count as u64)
        };
        let size = |key: &str| optional(key).unwrap_or(0);
        let (embedding, heads, feed_forward) =
            (size("embedding_length"), size("attention.head_count"), size("feed_forward_length"));
        let head_size = optional("attention.key_length").or_else(|| embedding.checked_div(heads)).unwrap_or(0);
        let key_heads = optional("attention.head_count_kv").unwrap_or(heads);
        let tokens = size("context_length").min(context as u64);

        let native = obstacle(gguf).is_none();
        // The kernels keep 16-bit values, candle 32-bit ones.
        let value = if native { 2 } else { 4 };
        let product = |factors: &[u64]| factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor));
        let cache = product(&[size("block_count"), 2, key_heads, head_size, tokens, value]);
        let row = product(&[6, embedding])
            .saturating_add(product(&[3, feed_forward]))
            .saturating_add(product(&[4, heads, head_size]));
        let vocabulary = gguf.tensors().get("token_embd.weight").map_or(0, |tensor| tensor.shape[0] as u64);
        let scratch = product(&[BATCH, 4, row]).saturating_add(product(&[LOGITS, 4, vocabulary]));
        let header = &gguf.header().entries;
        let tokenizer = product(&[VOCABULARY_FACTOR, header.end - header.start]);
        Needs { weights: weights(gguf, native), tokenizer, cache, scratch }
    }

    /// What it takes to have the model in memory and to work on `slots` requests at once.
    pub fn total(&self, slots: usize) -> u64 {
        let slot = self.cache.saturating_add(self.scratch).saturating_mul(slots as u64);
        self.weights.saturating_add(self.tokenizer).saturating_add(slot)
    }
}

fn weights(gguf: &Gguf, native: bool) -> u64 {
    if by_candle(gguf).is_some() {
        return weights_of_candle(gguf);
    }
    let bytes = gguf.tensors().values().map(|tensor| {
        let panels = || {
            let [rows, columns] = tensor.shape[..] else { return None };
            Shape::new(kernel(tensor.dtype)?, rows, columns).ok().map(|shape| shape.bytes() as u64)
        };
        let values = || match tensor.shape.len() {
            // Vectors are expanded to 32 bits.
            1 => tensor.shape[0] as u64 * 4,
            _ => tensor.bytes as u64,
        };
        if native { panels().unwrap_or_else(values) } else { values() }
    });
    bytes.fold(0, u64::saturating_add)
}

/// candle's own layers expand the embedding, vectors and matrices of 16 bits to 32.
fn weights_of_candle(gguf: &Gguf) -> u64 {
    let bytes = gguf.tensors().iter().map(|(name, tensor)| {
        let expanded = tensor.shape.iter().fold(4u64, |bytes, &length| bytes.saturating_mul(length as u64));
        let blocks = tensor.bytes as u64;
        match tensor.dtype {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => expanded,
            // Its blocks stay where it is the head too.
            _ if name == "token_embd.weight" => expanded.saturating_add(blocks),
            _ => blocks,
        }
    });
    bytes.fold(0, u64::saturating_add)
}
