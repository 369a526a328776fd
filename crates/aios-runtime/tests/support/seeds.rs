//! Valid files for a fuzzer to damage: every family and architecture, every tokenizer, and the optional metadata of each.

use std::path::Path;

use aios_runtime::gguf::Gguf;
use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};

use crate::vocabularies::{Metadata, byte_level, sentencepiece, set};
use crate::{tiny_foreign, tiny_model};

/// A pre-tokenizer of each kind (`tokenizer.ggml.pre`).
const WORDS: [&str; 17] = [
    "default",
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "stablelm2",
    "qwen35",
    "tekken",
    "gpt-4o",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "seed-coder",
    "bailingmoe",
    "bloom",
    "viking",
];

/// What a fuzzer begins with.
pub struct Seed {
    /// Architecture and tokenizer.
    pub name: String,
    pub bytes: Vec<u8>,
    /// How many of them come before the weights; the vocabulary is most of these.
    pub header: usize,
    /// How many come before the vocabulary.
    pub parameters: usize,
}

impl Seed {
    fn read(name: String, path: &Path) -> Self {
        let header = Gguf::open(path).unwrap().tensors().values().map(|tensor| tensor.start).min().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let key = b"tokenizer.ggml.tokens";
        let parameters = bytes.windows(key.len()).position(|place| place == key).unwrap();
        Self { name, bytes, header: header as usize, parameters }
    }
}

/// Each architecture with SentencePiece and with some of the pre-tokenizers; all of these among them. Written to `path` one
/// by one.
pub fn all(path: &Path) -> Vec<Seed> {
    let architectures: Vec<&str> =
        ["llama"].into_iter().chain(tiny_model::OTHER_FAMILIES).chain(tiny_foreign::ARCHITECTURES).collect();
    let with_pieces = architectures.iter().map(|&architecture| (architecture, "sentencepiece", sentencepiece()));
    let with_words =
        architectures.iter().cycle().zip(WORDS).map(|(&architecture, pre)| (architecture, pre, byte_level(pre)));
    let seed = |(architecture, tokenizer, vocabulary): (&str, &str, Metadata)| {
        let change = |metadata: &mut Metadata, tensors: &mut Vec<(String, QTensor)>| {
            metadata.retain(|(key, _)| !key.starts_with("tokenizer.ggml."));
            add_optional(architecture, metadata, tensors);
            let rows = tokens(&vocabulary);
            metadata.extend(vocabulary.into_iter().filter(|(key, _)| key.starts_with("tokenizer.ggml.")));
            fit(tensors, rows);
        };
        if tiny_foreign::ARCHITECTURES.contains(&architecture) {
            tiny_foreign::write_with(path, architecture, change);
        } else {
            tiny_model::write_family(path, architecture, change);
        }
        Seed::read(format!("{architecture} with {tokenizer}"), path)
    };
    with_pieces.chain(with_words).map(seed).collect()
}

fn tokens(vocabulary: &Metadata) -> usize {
    let (_, tokens) = vocabulary.iter().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
    tokens.to_vec().unwrap().len()
}

/// Makes the tensors those of a vocabulary of `rows` tokens.
fn fit(tensors: &mut [(String, QTensor)], rows: usize) {
    let of_vocabulary = ["token_embd.weight", "output.weight", "output.bias"];
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| of_vocabulary.contains(&name.as_str())) {
        let mut shape = tensor.shape().dims().to_vec();
        shape[0] = rows;
        let values = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = values.into_iter().cycle().take(shape.iter().product()).collect();
        *tensor = tiny_model::quantized(values, &shape, tensor.dtype());
    }
}

/// Adds what files of the architecture may say, and what a fuzzer would never come upon.
fn add_optional(architecture: &str, metadata: &mut Metadata, tensors: &mut Vec<(String, QTensor)>) {
    let text = |text: &str| Value::String(text.to_owned());
    let linear = [("rope.scaling.type", text("linear")), ("rope.scaling.factor", Value::F32(8.0))];
    let without = ("expert_count", Value::U32(0));
    let more = match architecture {
        "llama" => {
            let factors = tiny_model::quantized(vec![1.5; 8], &[8], GgmlDType::F32);
            tensors.push(("rope_freqs.weight".to_owned(), factors));
            [vec![without], linear.into()].concat()
        }
        "gemma3" => {
            let local =
                [("attention.sliding_window_pattern", Value::U32(3)), ("rope.freq_base_swa", Value::F32(10_000.0))];
            let bounds = ["attn_logit_softcapping", "final_logit_softcapping"].map(|key| (key, Value::F32(0.0)));
            [linear, local, bounds].concat()
        }
        "qwen2" | "qwen3" => [vec![without], linear.into()].concat(),
        "glm4" => vec![("rope.dimension_count", Value::U32(8)), ("rope.scaling.type", text("none"))],
        _ => vec![("rope.scaling.type", text("none"))],
    };
    for (key, value) in more {
        set(metadata, &format!("{architecture}.{key}"), value);
    }
    for key in ["add_bos_token", "add_space_prefix"] {
        set(metadata, &format!("tokenizer.ggml.{key}"), Value::Bool(true));
    }
    for key in ["unknown_token_id", "eot_token_id", "eom_token_id"] {
        set(metadata, &format!("tokenizer.ggml.{key}"), Value::U32(0));
    }
}
