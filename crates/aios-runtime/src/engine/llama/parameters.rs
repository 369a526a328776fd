//! The sizes of a model, from its metadata.

use crate::gguf::{Gguf, GgufError};

/// Layers of the deepest known models: about 130.
const MAX_LAYERS: usize = 512;

/// Sizes and constants of the layers. All sizes are above 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameters {
    pub(super) vocabulary: usize,
    pub(super) embedding: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// Heads of keys and values; each serves `heads / key_heads` query heads.
    pub(super) key_heads: usize,
    /// Even.
    pub(super) head_size: usize,
    pub(super) feed_forward: usize,
    /// Tokens that a session holds.
    pub(super) context: usize,
    pub(super) norm_epsilon: f32,
    pub(super) rope_base: f64,
    /// Linear stretching of positions; 1 without.
    pub(super) rope_divisor: f64,
}

impl Parameters {
    /// Reads the parameters; the context is the trained one, or `context` where that is shorter.
    pub(super) fn from_gguf(gguf: &Gguf, context: usize) -> Result<Self, GgufError> {
        let optional = |key: &str| gguf.count(&format!("llama.{key}"));
        let size = |key: &str| {
            let key = format!("llama.{key}");
            match gguf.require(&key, gguf.count(&key)?)? {
                0 => Err(gguf.error(format!("metadata key {key} is 0"))),
                size => Ok(size),
            }
        };
        let float = |key: &str| gguf.float(&format!("llama.{key}"));

        if optional("expert_count")?.is_some_and(|experts| experts > 0) {
            return Err(gguf.error("is a mixture of experts, which is not supported"));
        }
        let embedding = size("embedding_length")?;
        let heads = size("attention.head_count")?;
        let key_heads = optional("attention.head_count_kv")?.unwrap_or(heads);
        let head_size = optional("attention.key_length")?.unwrap_or(embedding / heads);
        let layers = size("block_count")?;
        let table = gguf.tensors().get("token_embd.weight");
        let vocabulary = gguf.require("token_embd.weight (tensor)", table)?.shape[0];
        let trained = size("context_length")?;

        let refuse = |reason: String| Err(gguf.error(reason));
        if layers > MAX_LAYERS {
            return refuse(format!("claims {layers} layers; at most {MAX_LAYERS} are accepted"));
        }
        if key_heads == 0 || !heads.is_multiple_of(key_heads) {
            return refuse(format!("has {heads} query heads for {key_heads} key heads, which does not divide"));
        }
        if head_size == 0 || head_size % 2 == 1 || heads.checked_mul(head_size).is_none() {
            return refuse(format!("has heads of size {head_size}, which can't be rotated in pairs"));
        }
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = optional(key)?.filter(|&other| other != head_size) {
                return refuse(format!("llama.{key} is {other}; only the head size {head_size} is supported"));
            }
        }
        if context == 0 {
            return refuse("can't be loaded with a context of 0 tokens".to_owned());
        }
        let epsilon_key = "attention.layer_norm_rms_epsilon";
        let norm_epsilon = gguf.require(&format!("llama.{epsilon_key}"), float(epsilon_key)?)? as f32;
        let rope_base = float("rope.freq_base")?.unwrap_or(10_000.0);
        if norm_epsilon.is_nan() || norm_epsilon <= 0.0 || rope_base <= 0.0 {
            return refuse("has a norm epsilon or rope base that is not above 0".to_owned());
        }
        Ok(Self {
            vocabulary,
            embedding,
            layers,
            heads,
            key_heads,
            head_size,
            feed_forward: size("feed_forward_length")?,
            context: context.min(trained),
            norm_epsilon,
            rope_base,
            rope_divisor: rope_divisor(gguf)?,
        })
    }
}

fn rope_divisor(gguf: &Gguf) -> Result<f64, GgufError> {
    match gguf.string("llama.rope.scaling.type")? {
        None | Some("none") => Ok(1.0),
        Some("linear") => match gguf.float("llama.rope.scaling.factor")?.unwrap_or(1.0) {
            factor if factor > 0.0 => Ok(factor),
            factor => Err(gguf.error(format!("llama.rope.scaling.factor is {factor}"))),
        },
        Some(other) => Err(gguf.error(format!("rope scaling {other:?} is not supported; supported is \"linear\""))),
    }
}
