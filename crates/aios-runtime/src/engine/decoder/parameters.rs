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
    /// What embeddings are multiplied by.
    pub(super) embedding_scale: f32,
    /// What products of queries and keys are multiplied by.
    pub(super) attention_scale: f32,
    pub(super) rope_base: f64,
    /// Linear stretching of positions; 1 without. Local layers have none.
    pub(super) rope_divisor: f64,
    /// What local layers have; `None` where all are global.
    pub(super) local: Option<Local>,
}

/// Layers in which a token sees only those next to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Local {
    /// How many positions, its own included, a token sees.
    pub(super) window: usize,
    /// The last of each so many layers is global; 0 where none is.
    period: usize,
    pub(super) rope_base: f64,
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
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if keys.float(key)?.is_some_and(|bound| bound != 0.0) {
                return refuse(format!("has {}, which is not supported", keys.name(key)));
            }
        }
        let epsilon_key = "attention.layer_norm_rms_epsilon";
        let norm_epsilon = gguf.require(&keys.name(epsilon_key), keys.float(epsilon_key)?)? as f32;
        let rope_base = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
        if norm_epsilon.is_nan() || norm_epsilon <= 0.0 || rope_base <= 0.0 {
            return refuse("has a norm epsilon or rope base that is not above 0".to_owned());
        }
        let scaled_head = match family.scale_of_shared {
            Some(depth) if depth == layers => embedding / heads,
            _ => head_size,
        };
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
            embedding_scale: if family.scaled_embedding { (embedding as f32).sqrt() } else { 1.0 },
            attention_scale: (scaled_head as f32).powf(-0.5),
            rope_base,
            rope_divisor: keys.rope_divisor()?,
            local: keys.local()?,
        })
    }

    /// What layer `index` has where it is a local one.
    pub(super) fn local_at(&self, index: usize) -> Option<&Local> {
        self.local.as_ref().filter(|local| !(index + 1).is_multiple_of(local.period))
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
            Some("none") => Ok(1.0),
            None | Some("linear") => match self.float("rope.scaling.factor")?.unwrap_or(1.0) {
                factor if factor > 0.0 => Ok(factor),
                factor => Err(self.gguf.error(format!("{} is {factor}", self.name("rope.scaling.factor")))),
            },
            Some(other) => {
                Err(self.gguf.error(format!("rope scaling {other:?} is not supported; supported is \"linear\"")))
            }
        }
    }

    fn local(&self) -> Result<Option<Local>, GgufError> {
        let window = self.count("attention.sliding_window")?.filter(|&window| window > 0);
        let (Some(family), Some(window)) = (self.family.local, window) else { return Ok(None) };
        let period = self.count("attention.sliding_window_pattern")?.unwrap_or(family.period);
        let base_key = "rope.freq_base_swa";
        let rope_base = self.float(base_key)?.unwrap_or(family.rope_base);
        if rope_base <= 0.0 {
            return Err(self.gguf.error(format!("{} is {rope_base}", self.name(base_key))));
        }
        Ok(Some(Local { window, period, rope_base }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::gguf_file::{self, Value};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device, Tensor};

    use super::*;

    /// The parameters of a Gemma with so many layers and with what a test adds.
    fn gemma(layers: u32, more: &[(&str, Value)]) -> Parameters {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        let table = Tensor::zeros((8, 32), DType::F32, &Device::Cpu).expect("a tensor");
        let table = QTensor::quantize(&table, GgmlDType::F32).expect("a tensor of the file");
        let sizes = [
            ("context_length", 131_072),
            ("embedding_length", 5376),
            ("feed_forward_length", 21_504),
            ("block_count", layers),
            ("attention.head_count", 32),
            ("attention.head_count_kv", 16),
            ("attention.key_length", 128),
        ];
        let sizes = sizes.map(|(key, size)| (format!("gemma3.{key}"), Value::U32(size)));
        let floats = [("attention.layer_norm_rms_epsilon", 1e-6), ("rope.freq_base", 1e6)];
        let floats = floats.map(|(key, number)| (format!("gemma3.{key}"), Value::F32(number)));
        let more = more.iter().map(|(key, value)| (format!("gemma3.{key}"), value.clone()));
        let metadata: Vec<(String, Value)> = sizes.into_iter().chain(floats).chain(more).collect();
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut file = std::fs::File::create(&path).expect("a file");
        gguf_file::write(&mut file, &metadata, &[("token_embd.weight", &table)]).expect("it is written");
        let gguf = Gguf::open(&path).expect("it is valid");
        let family = Family::of("gemma3").expect("a family");
        Parameters::from_gguf(&gguf, family, 4096).expect("its parameters")
    }

    #[test]
    fn each_sixth_layer_is_global_unless_the_file_says_otherwise() {
        let window = ("attention.sliding_window", Value::U32(1024));
        let global = |parameters: &Parameters| -> Vec<usize> {
            (0..parameters.layers).filter(|&index| parameters.local_at(index).is_none()).collect()
        };
        let parameters = gemma(18, std::slice::from_ref(&window));
        assert_eq!(global(&parameters), [5, 11, 17]);
        let local = parameters.local_at(0).expect("a local layer");
        assert_eq!((local.window, local.rope_base), (1024, 10_000.0));
        assert_eq!(global(&gemma(18, &[])).len(), 18);
        let pattern = |period: u32| ("attention.sliding_window_pattern", Value::U32(period));
        assert_eq!(global(&gemma(5, &[window.clone(), pattern(2)])), [1, 3]);
        assert!(global(&gemma(5, &[window, pattern(0)])).is_empty());
    }

    #[test]
    fn global_layers_alone_are_stretched() {
        let parameters = gemma(
            18,
            &[
                ("attention.sliding_window", Value::U32(1024)),
                ("rope.scaling.type", Value::String("linear".into())),
                ("rope.scaling.factor", Value::F32(8.0)),
            ],
        );
        assert_eq!((parameters.rope_base, parameters.rope_divisor), (1e6, 8.0));
        let local = super::super::local_rope_frequencies(&parameters).expect("local layers");
        assert_eq!((local.len(), local[0]), (64, 1.0));
        assert!((local[32] - 0.01).abs() < 1e-9);
    }

    #[test]
    fn the_largest_divides_scores_by_what_its_heads_share() {
        assert_eq!(gemma(62, &[]).attention_scale, 168f32.powf(-0.5));
        assert_eq!(gemma(48, &[]).attention_scale, 128f32.powf(-0.5));
        assert_eq!(gemma(48, &[]).embedding_scale, 5376f32.sqrt());
    }
}
