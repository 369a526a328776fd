//! One context of a llama model.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_i;

use super::Weights;
use crate::engine::decoder::layer::Layer;
use crate::engine::pool_guard::{PoolGuard, has_block_products};
use crate::engine::{Cancel, EngineError, Session, check_tokens, common};

/// Tokens that go through the layers together. Cancelling takes effect after one layer of so many tokens; larger batches
/// gain little.
const BATCH: usize = 64;
/// Rows from which on expanding a matrix costs less than it saves.
const EXPAND_FROM: usize = 8;

/// Keys and values of the tokens so far.
///
/// The cache is allocated whole and written in place. The system hands out its pages as they are first written, so a
/// context that stays short takes little memory.
pub(super) struct LlamaSession {
    weights: Arc<Weights>,
    /// Per layer, `(key_heads, context, head_size)`; what lies beyond `history` is meaningless.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// The tokens so far.
    history: Vec<u32>,
    logits: Vec<f32>,
}

impl LlamaSession {
    pub(super) fn new(weights: Arc<Weights>) -> Result<Self> {
        let parameters = &weights.parameters;
        let shape = (parameters.key_heads, parameters.context, parameters.head_size);
        let cache = || (0..parameters.layers).map(|_| Tensor::zeros(shape, DType::F32, &Device::Cpu)).collect();
        let (keys, values): (Result<_>, Result<_>) = (cache(), cache());
        Ok(Self { keys: keys?, values: values?, history: Vec::new(), logits: Vec::new(), weights })
    }

    /// Runs one batch behind the first `start` tokens and returns its hidden states, `(tokens, embedding)`.
    fn batch(&self, tokens: &[u32], start: usize, cancel: &Cancel) -> std::result::Result<Tensor, EngineError> {
        let mask = causal_mask(tokens.len(), start)?;
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut hidden = self.weights.embedding.embedding(&ids)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let input = rms_norm(&hidden, &layer.attention_norm, self.weights.parameters.norm_epsilon)?;
            hidden = (hidden + self.attention(index, layer, &input, start, mask.as_ref())?)?;
            let input = rms_norm(&hidden, &layer.feed_forward_norm, self.weights.parameters.norm_epsilon)?;
            hidden = (hidden + feed_forward(layer, &input)?)?;
        }
        Ok(hidden)
    }

    /// Attention of `input` over all tokens so far and itself; its keys and values go into the cache.
    fn attention(
        &self,
        index: usize,
        layer: &Layer<QTensor, Tensor>,
        input: &Tensor,
        start: usize,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let parameters = &self.weights.parameters;
        let (heads, key_heads, head_size) = (parameters.heads, parameters.key_heads, parameters.head_size);
        let count = input.dim(0)?;
        let end = start + count;

        let query = self.rotate(&split_heads(&multiply(&layer.query, input)?, heads)?, start)?;
        let key = self.rotate(&split_heads(&multiply(&layer.key, input)?, key_heads)?, start)?;
        let value = split_heads(&multiply(&layer.value, input)?, key_heads)?;
        self.keys[index].slice_set(&key, 1, start)?;
        self.values[index].slice_set(&value, 1, start)?;
        let keys = self.keys[index].narrow(1, 0, end)?;
        let values = self.values[index].narrow(1, 0, end)?;

        // Query heads that share a key head become rows of one product, so that no key is copied.
        let group = heads / key_heads;
        let query = (query * (head_size as f64).powf(-0.5))?.reshape((key_heads, group * count, head_size))?;
        let mut scores = query.matmul(&keys.transpose(D::Minus1, D::Minus2)?)?;
        if let Some(mask) = mask {
            let by_token = scores.reshape((key_heads, group, count, end))?;
            scores = by_token.broadcast_add(mask)?.reshape((key_heads, group * count, end))?;
        }
        let mixed = softmax_last_dim(&scores)?.matmul(&values)?;
        let joined = mixed.reshape((heads, count, head_size))?.transpose(0, 1)?.contiguous()?;
        multiply(&layer.attention_output, &joined.reshape((count, heads * head_size))?)
    }

    /// Rotates pairs of neighbouring values, which is the order in which GGUF stores the llama architecture's heads.
    fn rotate(&self, heads: &Tensor, start: usize) -> Result<Tensor> {
        let count = heads.dim(1)?;
        let (cosines, sines) = &self.weights.rope;
        let rotated = rope_i(&heads.unsqueeze(0)?, &cosines.narrow(0, start, count)?, &sines.narrow(0, start, count)?)?;
        rotated.squeeze(0)
    }

    /// Logits after the last `outputs` of the hidden states.
    fn head(&self, hidden: &Tensor, outputs: usize) -> Result<Vec<f32>> {
        let last = hidden.narrow(0, hidden.dim(0)? - outputs, outputs)?.contiguous()?;
        let last = rms_norm(&last, &self.weights.norm, self.weights.parameters.norm_epsilon)?;
        multiply(&self.weights.head, &last)?.flatten_all()?.to_vec1()
    }
}

impl Session for LlamaSession {
    fn len(&self) -> usize {
        self.history.len()
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> std::result::Result<&[f32], EngineError> {
        let parameters = &self.weights.parameters;
        check_tokens(tokens, self.history.len(), parameters.context, parameters.vocabulary)?;
        let _guard = PoolGuard;
        let mut start = self.history.len();
        let first_output = start + tokens.len() - outputs.min(tokens.len());
        self.logits.clear();
        for batch in tokens.chunks(BATCH) {
            let hidden = self.batch(batch, start, cancel)?;
            start += batch.len();
            if start > first_output {
                self.logits.extend(self.head(&hidden, batch.len().min(start - first_output))?);
            }
        }
        self.history.extend_from_slice(tokens);
        Ok(&self.logits)
    }

    fn resume(&mut self, tokens: &[u32]) -> usize {
        self.history.truncate(common(&self.history, tokens));
        self.history.len()
    }

    fn truncate(&mut self, len: usize) {
        self.history.truncate(len);
    }
}

fn feed_forward(layer: &Layer<QTensor, Tensor>, input: &Tensor) -> Result<Tensor> {
    let gate = silu(&multiply(&layer.gate, input)?)?;
    multiply(&layer.down, &(gate * multiply(&layer.up, input)?)?)
}

/// `input` times the transposed matrix.
///
/// candle's products with blocks work row by row and round the input to 8 bits. Many rows are faster and more exact with
/// the matrix expanded for the moment: measured 8 times faster for 64 rows of Q4_1. The memory for it, four bytes for each
/// value of the largest matrix in a layer, is freed at once. Where the products with blocks do not run, every matrix is.
fn multiply(matrix: &QTensor, input: &Tensor) -> Result<Tensor> {
    if input.dim(0)? >= EXPAND_FROM || !has_block_products() {
        return input.matmul(&matrix.dequantize(&Device::Cpu)?.t()?);
    }
    input.apply_op1_no_bwd(matrix)
}

/// `(tokens, heads * head_size)` to `(heads, tokens, head_size)`.
fn split_heads(states: &Tensor, heads: usize) -> Result<Tensor> {
    let (count, width) = states.dims2()?;
    states.reshape((count, heads, width / heads))?.transpose(0, 1)?.contiguous()
}

/// What to add to the scores so that no token sees a later one; one token alone needs none.
fn causal_mask(count: usize, start: usize) -> Result<Option<Tensor>> {
    if count == 1 {
        return Ok(None);
    }
    let end = start + count;
    let visible = |row: usize, column: usize| if column <= start + row { 0.0 } else { f32::NEG_INFINITY };
    let mask = (0..count).flat_map(|row| (0..end).map(move |column| visible(row, column))).collect();
    Ok(Some(Tensor::from_vec(mask, (count, end), &Device::Cpu)?))
}
