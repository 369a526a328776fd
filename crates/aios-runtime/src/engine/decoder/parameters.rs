//! The sizes of a model, from its metadata.

use super::family::Family;
use crate::gguf::{Gguf, GgufError};

/// Layers of the deepest known models: about 130.
const MAX_LAYERS: usize = 512;

/// Sizes and constants of the layers. All sizes are above 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameters {
    pub(super) family: &'static Family,
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
    pub(super) fn from_gguf(gguf: &Gguf, family: &'static Family, context: usize) -> Result<Self, GgufError> {
        let keys = Keys { gguf, family };
        if keys.count("expert_count")?.is_some_and(|experts| experts > 0) {
            return Err(gguf.error("is a mixture of experts, which is not supported"));
        }
        let embedding = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let key_heads = keys.count("attention.head_count_kv")?.unwrap_or(heads);
        let head_size = keys.count("attention.key_length")?.unwrap_or(embedding / heads);
        let layers = keys.size("block_count")?;
        let table = gguf.tensors().get("token_embd.weight");
        let vocabulary = gguf.require("token_embd.weight (tensor)", table)?.shape[0];
        let trained = keys.size("context_length")?;

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
            if let Some(other) = keys.count(key)?.filter(|&other| other != head_size) {
                let key = keys.name(key);
                return refuse(format!("{key} is {other}; only the head size {head_size} is supported"));
            }
        }
        if context == 0 {
            return refuse("can't be loaded with a context of 0 tokens".to_owned());
        }
        let epsilon_key = "attention.layer_norm_rms_epsilon";
        let norm_epsilon = gguf.require(&keys.name(epsilon_key), keys.float(epsilon_key)?)? as f32;
        let rope_base = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
        if norm_epsilon.is_nan() || norm_epsilon <= 0.0 || rope_base <= 0.0 {
            return refuse("has a norm epsilon or rope base that is not above 0".to_owned());
        }
        Ok(Self {
            family,
            vocabulary,
            embedding,
            layers,
            heads,
            key_heads,
            head_size,
            feed_forward: keys.size("feed_forward_length")?,
            context: context.min(trained),
            norm_epsilon,
            rope_base,
            rope_divisor: keys.rope_divisor()?,
        })
    }
}

/// The metadata keys of a family.
struct Keys<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family.name)
    }

    fn count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        self.gguf.count(&self.name(key))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.gguf.float(&self.name(key))
    }

    /// A count that has to be there and above 0.
    fn size(&self, key: &str) -> Result<usize, GgufError> {
        let name = self.name(key);
        match self.gguf.require(&name, self.count(key)?)? {
            0 => Err(self.gguf.error(format!("metadata key {name} is 0"))),
            size => Ok(size),
        }
    }

    fn rope_divisor(&self) -> Result<f64, GgufError> {
        match self.gguf.string(&self.name("rope.scaling.type"))? {
            None | Some("none") => Ok(1.0),
            Some("linear") => match self.float("rope.scaling.factor")?.unwrap_or(1.0) {
                factor if factor > 0.0 => Ok(factor),
                factor => Err(self.gguf.error(format!("{} is {factor}", self.name("rope.scaling.factor")))),
            },
            Some(other) => {
                Err(self.gguf.error(format!("rope scaling {other:?} is not supported; supported is \"linear\"")))
            }
        }
    }
}
