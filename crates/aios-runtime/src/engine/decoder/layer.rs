//! The tensors of a layer.

use candle_core::Device;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::family::Family;
use super::parameters::Parameters;
use crate::engine::EngineError;
use crate::gguf::{Gguf, GgufError, TensorInfo};

/// What the names of a layer's tensors end with.
pub(super) fn tensors(family: &Family) -> impl Iterator<Item = &'static str> {
    const ALWAYS: [&str; 9] = [
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
    let where_there = |there: bool, names: &'static [&str]| if there { names } else { &[] };
    let biases = where_there(family.biases, &["attn_q.bias", "attn_k.bias", "attn_v.bias"]);
    let head_norms = where_there(family.head_norms, &["attn_q_norm.weight", "attn_k_norm.weight"]);
    let post_norms = where_there(family.post_norms, &["post_attention_norm.weight", "post_ffw_norm.weight"]);
    ALWAYS.iter().chain(biases).chain(head_norms).chain(post_norms).copied()
}

/// One transformer block. Matrices are `(outputs, inputs)`.
pub(super) struct Layer<Matrix, Vector> {
    pub(super) attention_norm: Vector,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    /// Of queries, keys and values.
    pub(super) biases: Option<[Vector; 3]>,
    /// Of queries and keys.
    pub(super) head_norms: Option<[Vector; 2]>,
    pub(super) attention_output: Matrix,
    pub(super) feed_forward_norm: Vector,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    /// Of what attention and feed-forward network add.
    pub(super) post_norms: Option<[Vector; 2]>,
}

impl<Matrix, Vector> Layer<Matrix, Vector> {
    /// Layer `index`: `matrix(name, outputs, inputs)` and `vector(name, length)` read its tensors.
    pub(super) fn load(
        index: usize,
        parameters: &Parameters,
        matrix: impl Fn(&str, usize, usize) -> Result<Matrix, EngineError>,
        vector: impl Fn(&str, usize) -> Result<Vector, EngineError>,
    ) -> Result<Self, EngineError> {
        let matrix = |name: &str, outputs, inputs| matrix(&format!("blk.{index}.{name}.weight"), outputs, inputs);
        let vector = |name: &str, length| vector(&format!("blk.{index}.{name}"), length);
        let Parameters { family, embedding, feed_forward, head_size, .. } = *parameters;
        let (queries, keys) = (parameters.heads * head_size, parameters.key_heads * head_size);
        let biases = || {
            Ok::<_, EngineError>([
                vector("attn_q.bias", queries)?,
                vector("attn_k.bias", keys)?,
                vector("attn_v.bias", keys)?,
            ])
        };
        let head_norms = || {
            Ok::<_, EngineError>([vector("attn_q_norm.weight", head_size)?, vector("attn_k_norm.weight", head_size)?])
        };
        let post_norms = || {
            Ok::<_, EngineError>([
                vector("post_attention_norm.weight", embedding)?,
                vector("post_ffw_norm.weight", embedding)?,
            ])
        };
        Ok(Self {
            attention_norm: vector("attn_norm.weight", embedding)?,
            query: matrix("attn_q", queries, embedding)?,
            key: matrix("attn_k", keys, embedding)?,
            value: matrix("attn_v", keys, embedding)?,
            biases: family.biases.then(biases).transpose()?,
            head_norms: family.head_norms.then(head_norms).transpose()?,
            attention_output: matrix("attn_output", embedding, queries)?,
            feed_forward_norm: vector("ffn_norm.weight", embedding)?,
            gate: matrix("ffn_gate", feed_forward, embedding)?,
            up: matrix("ffn_up", feed_forward, embedding)?,
            down: matrix("ffn_down", embedding, feed_forward)?,
            post_norms: family.post_norms.then(post_norms).transpose()?,
        })
    }

    pub(super) fn matrices(&self) -> [&Matrix; 7] {
        [&self.query, &self.key, &self.value, &self.attention_output, &self.gate, &self.up, &self.down]
    }
}

/// Reads tensors and checks that they have the shape that the metadata promises.
pub(super) struct Loader<'a> {
    pub(super) gguf: &'a Gguf,
}

impl Loader<'_> {
    pub(super) fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<QTensor, EngineError> {
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

    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Tensor, EngineError> {
        Ok(self.tensor(name, &[length])?.dequantize(&Device::Cpu)?)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<QTensor, EngineError> {
        self.info(name, shape)?;
        let (tensor, blocks) = self.gguf.read_tensor(name)?;
        let storage = QStorage::from_data(blocks.into(), &Device::Cpu, tensor.dtype)?;
        Ok(QTensor::new(storage, shape)?)
    }

    /// A tensor of the shape that the metadata promises.
    pub(super) fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, GgufError> {
        let tensor = self.gguf.tensor(name)?;
        if tensor.shape != shape {
            let reason = format!("tensor {name} has shape {:?}, the metadata needs {shape:?}", tensor.shape);
            return Err(self.gguf.error(reason));
        }
        Ok(tensor)
    }
}
