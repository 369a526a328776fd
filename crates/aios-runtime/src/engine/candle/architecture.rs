//! The architectures, and what candle relies on without looking.

use candle_core::quantized::GgmlDType;

use crate::gguf::{Gguf, GgufError};

/// Layers of the deepest known models: about 130.
const MAX_LAYERS: usize = 512;
/// Positions that candle's phi2 has angles for.
const PHI2_POSITIONS: usize = 4096;

/// An architecture that candle computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Architecture {
    Glm4,
    Phi2,
    Phi3,
}

/// Sizes of a model. All are above 0.
pub(super) struct Sizes {
    pub(super) vocabulary: usize,
    /// Tokens of the longest context that candle computes as the model was trained.
    pub(super) context: usize,
    layers: usize,
    embedding: usize,
    feed_forward: usize,
    heads: usize,
    key_heads: usize,
    head_size: usize,
}

impl Architecture {
    /// The architecture that `general.architecture` names.
    pub(in crate::engine) fn named(name: &str) -> Option<Self> {
        [Self::Glm4, Self::Phi2, Self::Phi3].into_iter().find(|architecture| architecture.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Glm4 => "glm4",
            Self::Phi2 => "phi2",
            Self::Phi3 => "phi3",
        }
    }

    /// The metadata key of one of its parameters.
    pub(super) fn key(self, parameter: &str) -> String {
        format!("{}.{parameter}", self.name())
    }

    /// Compares the file with what candle takes for granted: sizes, angles of the rope, and that there is every tensor that
    /// it uses, in the shape in which it uses it, and no other.
    pub(super) fn check(self, gguf: &Gguf) -> Result<Sizes, GgufError> {
        let sizes = self.sizes(gguf)?;
        self.check_rope(gguf, &sizes)?;
        let (of_model, of_layer) = self.tensors(&sizes);
        for tensor in &of_model {
            tensor.check(gguf, "")?;
        }
        for layer in 0..sizes.layers {
            for tensor in &of_layer {
                tensor.check(gguf, &format!("blk.{layer}."))?;
            }
        }
        let known = |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, part)) => {
                layer.parse::<usize>().is_ok_and(|layer| layer < sizes.layers)
                    && of_layer.iter().any(|tensor| tensor.name == part)
            }
            None => of_model.iter().any(|tensor| tensor.name == name),
        };
        match gguf.tensors().keys().filter(|name| !known(name)).min() {
            None => Ok(sizes),
            Some(name) => Err(gguf
                .error(format!("tensor {name} is not part of the {} architecture as candle computes it", self.name()))),
        }
    }

    fn sizes(self, gguf: &Gguf) -> Result<Sizes, GgufError> {
        let optional = |parameter: &str| gguf.count(&self.key(parameter));
        let size = |parameter: &str| match gguf.require(&self.key(parameter), optional(parameter)?)? {
            0 => Err(gguf.error(format!("metadata key {} is 0", self.key(parameter)))),
            size => Ok(size),
        };
        let (embedding, heads, layers) =
            (size("embedding_length")?, size("attention.head_count")?, size("block_count")?);
        let (key_heads, trained) = (size("attention.head_count_kv")?, size("context_length")?);
        let head_size = match self {
            Self::Glm4 => size("attention.key_length")?,
            Self::Phi2 | Self::Phi3 => embedding / heads,
        };
        if layers > MAX_LAYERS {
            return Err(gguf.error(format!("claims {layers} layers; at most {MAX_LAYERS} are accepted")));
        }
        let of_heads = match self {
            Self::Glm4 => heads.checked_mul(head_size).is_some(),
            Self::Phi2 => embedding.is_multiple_of(heads) && key_heads == heads,
            Self::Phi3 => embedding.is_multiple_of(heads),
        };
        if !of_heads || !heads.is_multiple_of(key_heads) || head_size % 2 == 1 {
            return Err(gguf.error(format!(
                "has {heads} query heads and {key_heads} key heads of size {head_size}, which candle can't compute"
            )));
        }
        let window = optional("attention.sliding_window")?.filter(|&window| window > 0);
        let context = match self {
            Self::Glm4 => trained,
            Self::Phi2 => trained.min(PHI2_POSITIONS),
            // candle sees beyond the window, which the model was not trained for.
            Self::Phi3 => trained.min(window.unwrap_or(trained)),
        };
        let table = gguf.require("token_embd.weight (tensor)", gguf.tensors().get("token_embd.weight"))?;
        let (vocabulary, feed_forward) = (table.shape[0], size("feed_forward_length")?);
        Ok(Sizes { vocabulary, context, layers, embedding, feed_forward, heads, key_heads, head_size })
    }

    fn check_rope(self, gguf: &Gguf, sizes: &Sizes) -> Result<(), GgufError> {
        let turned = gguf.count(&self.key("rope.dimension_count"))?;
        let wrong = match self {
            // Its files need not say it.
            Self::Glm4 => turned.is_some_and(|turned| turned != sizes.head_size / 2),
            Self::Phi2 => turned.is_none_or(|turned| turned == 0 || turned % 2 == 1 || turned > sizes.head_size),
            Self::Phi3 => turned != Some(sizes.head_size),
        };
        if wrong {
            let key = self.key("rope.dimension_count");
            let size = sizes.head_size;
            return Err(gguf.error(format!("{key} is {turned:?} for heads of {size}, which candle does not compute")));
        }
        let base = gguf.float(&self.key("rope.freq_base"))?;
        if self != Self::Glm4 && base.is_some_and(|base| base != 10_000.0) {
            let (key, base) = (self.key("rope.freq_base"), base.unwrap_or_default());
            return Err(gguf.error(format!("{key} is {base}; candle computes this architecture with 10000 alone")));
        }
        match gguf.string(&self.key("rope.scaling.type"))? {
            None | Some("none") => Ok(()),
            Some(other) => Err(gguf.error(format!("rope scaling {other:?} is not what candle computes"))),
        }
    }

    /// The tensors of the whole and those of each layer.
    fn tensors(self, sizes: &Sizes) -> (Vec<Expected>, Vec<Expected>) {
        let &Sizes { vocabulary, embedding, feed_forward, heads, key_heads, head_size, .. } = sizes;
        let (queries, keys) = (heads * head_size, key_heads * head_size);
        let matrix =
            |name: &'static str, outputs, inputs| Expected { name, shape: vec![outputs, inputs], optional: false };
        let vector = |name: &'static str, length| Expected { name, shape: vec![length], optional: false };
        let optional = |tensor: Expected| Expected { optional: true, ..tensor };
        let table = matrix("token_embd.weight", vocabulary, embedding);
        let head = matrix("output.weight", vocabulary, embedding);
        let norm = vector("output_norm.weight", embedding);
        match self {
            Self::Glm4 => (
                vec![table, optional(head), norm],
                vec![
                    matrix("attn_q.weight", queries, embedding),
                    matrix("attn_k.weight", keys, embedding),
                    matrix("attn_v.weight", keys, embedding),
                    matrix("attn_output.weight", embedding, queries),
                    optional(vector("attn_q.bias", queries)),
                    optional(vector("attn_k.bias", keys)),
                    optional(vector("attn_v.bias", keys)),
                    matrix("ffn_up.weight", 2 * feed_forward, embedding),
                    matrix("ffn_down.weight", embedding, feed_forward),
                    vector("attn_norm.weight", embedding),
                    vector("ffn_norm.weight", embedding),
                    vector("post_attention_norm.weight", embedding),
                    vector("post_ffw_norm.weight", embedding),
                ],
            ),
            Self::Phi2 => (
                vec![table, head, vector("output.bias", vocabulary), norm, vector("output_norm.bias", embedding)],
                vec![
                    matrix("attn_qkv.weight", 3 * queries, embedding),
                    vector("attn_qkv.bias", 3 * queries),
                    matrix("attn_output.weight", embedding, queries),
                    vector("attn_output.bias", embedding),
                    matrix("ffn_up.weight", feed_forward, embedding),
                    vector("ffn_up.bias", feed_forward),
                    matrix("ffn_down.weight", embedding, feed_forward),
                    vector("ffn_down.bias", embedding),
                    vector("attn_norm.weight", embedding),
                    vector("attn_norm.bias", embedding),
                ],
            ),
            Self::Phi3 => (
                vec![table, head, norm],
                vec![
                    matrix("attn_qkv.weight", queries + 2 * keys, embedding),
                    matrix("attn_output.weight", embedding, queries),
                    matrix("ffn_up.weight", 2 * feed_forward, embedding),
                    matrix("ffn_down.weight", embedding, feed_forward),
                    vector("attn_norm.weight", embedding),
                    vector("ffn_norm.weight", embedding),
                ],
            ),
        }
    }
}

/// A tensor as candle uses it.
struct Expected {
    name: &'static str,
    shape: Vec<usize>,
    optional: bool,
}

impl Expected {
    fn check(&self, gguf: &Gguf, prefix: &str) -> Result<(), GgufError> {
        let name = format!("{prefix}{}", self.name);
        if self.optional && !gguf.tensors().contains_key(&name) {
            return Ok(());
        }
        let tensor = gguf.tensor(&name)?;
        if tensor.shape != self.shape {
            let (found, needed) = (&tensor.shape, &self.shape);
            return Err(gguf.error(format!("tensor {name} has shape {found:?}, the metadata needs {needed:?}")));
        }
        // candle's products take these formats two blocks at a time, and would panic on an odd one.
        let step = match tensor.dtype {
            GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 => 64,
            _ => 1,
        };
        let row = self.shape.last().copied().unwrap_or(0);
        if !row.is_multiple_of(step) {
            let dtype = tensor.dtype;
            return Err(
                gguf.error(format!("tensor {name} ({dtype:?}) has rows of {row} values, no multiple of {step}"))
            );
        }
        Ok(())
    }
}
