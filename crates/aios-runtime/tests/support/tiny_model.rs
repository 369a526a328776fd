//! A model of 100 kB with random weights, of the `llama` family or of another one: everything around the arithmetic can be
//! tried on it in milliseconds.
//!
//! Its vocabulary is the 256 bytes, two merges and three control tokens. Embedding rows of other tokens than printable
//! ASCII are near zero, so it answers readable nonsense, never ends its turn by itself, and is the same on every machine.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

/// Tokens that a context holds.
pub const CONTEXT: usize = 512;
const EMBEDDING: usize = 64;
const FEED_FORWARD: usize = 128;
/// Positions that local layers see.
pub const WINDOW: usize = 32;
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] \
    + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The families besides `llama`.
pub const OTHER_FAMILIES: [&str; 3] = ["qwen2", "qwen3", "gemma3"];

/// How the layers of a family's model are made.
struct Layers {
    count: usize,
    heads: usize,
    key_heads: usize,
    head_size: usize,
    /// Vectors besides the two norms, and their length.
    vectors: Vec<(&'static str, usize)>,
}

impl Layers {
    fn of(family: &str) -> Self {
        match family {
            "llama" => Self { count: 2, heads: 4, key_heads: 2, head_size: 16, vectors: vec![] },
            "qwen2" => {
                let vectors = vec![("attn_q.bias", 64), ("attn_k.bias", 32), ("attn_v.bias", 32)];
                Self { count: 2, heads: 2, key_heads: 1, head_size: 32, vectors }
            }
            "qwen3" => {
                let vectors = vec![("attn_q_norm.weight", 32), ("attn_k_norm.weight", 32)];
                Self { count: 2, heads: 4, key_heads: 2, head_size: 32, vectors }
            }
            // The sixth layer is global.
            "gemma3" => {
                let mut vectors = vec![("attn_q_norm.weight", 32), ("attn_k_norm.weight", 32)];
                vectors.extend([("post_attention_norm.weight", EMBEDDING), ("post_ffw_norm.weight", EMBEDDING)]);
                Self { count: 7, heads: 4, key_heads: 1, head_size: 32, vectors }
            }
            other => panic!("no family {other}"),
        }
    }
}

/// Writes the model to `path`.
pub fn write(path: &Path) {
    write_with(path, |_, _| {});
}

/// Writes the model to `path`, as one that was trained for `tokens`.
pub fn write_for_context(path: &Path, tokens: usize) {
    write_with(path, |metadata, _| {
        let length = metadata.iter_mut().find(|(key, _)| key == "llama.context_length").unwrap();
        length.1 = Value::U32(u32::try_from(tokens).unwrap());
    });
}

/// Writes the model to `path` after `change` to its metadata and tensors.
pub fn write_with(path: &Path, change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, QTensor)>)) {
    write_family(path, "llama", change);
}

/// Writes the model of another family to `path` after `change` to its metadata and tensors.
pub fn write_family(
    path: &Path,
    family: &str,
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, QTensor)>),
) {
    let mut metadata = metadata(family);
    let mut tensors = tensors(family, token_texts().len());
    change(&mut metadata, &mut tensors);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// Control tokens, then the bytes in the order of the byte-level alphabet's code points, then the merged tokens.
fn token_texts() -> Vec<String> {
    let printable = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF);
    let bytes = printable.chain(0x100..0x144).map(|code| char::from_u32(code).unwrap().to_string());
    CONTROL.iter().map(|&text| text.to_owned()).chain(bytes).chain(["th", "the"].map(str::to_owned)).collect()
}

fn metadata(family: &str) -> Vec<(String, Value)> {
    let texts = token_texts();
    let strings = |items: &[String]| Value::Array(items.iter().cloned().map(Value::String).collect());
    let types = (0..texts.len()).map(|id| Value::I32(if id < CONTROL.len() { 3 } else { 1 })).collect();
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: usize| Value::U32(u32::try_from(size).unwrap());
    let layers = Layers::of(family);
    let mut sizes = vec![
        ("context_length", size(CONTEXT)),
        ("embedding_length", size(EMBEDDING)),
        ("block_count", size(layers.count)),
        ("feed_forward_length", size(FEED_FORWARD)),
        ("attention.head_count", size(layers.heads)),
        ("attention.head_count_kv", size(layers.key_heads)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("rope.freq_base", Value::F32(if family == "gemma3" { 1_000_000.0 } else { 10_000.0 })),
    ];
    match family {
        "llama" => sizes.push(("rope.dimension_count", size(layers.head_size))),
        "qwen2" => {}
        _ => sizes.extend(["attention.key_length", "attention.value_length"].map(|key| (key, size(layers.head_size)))),
    }
    if family == "gemma3" {
        sizes.push(("attention.sliding_window", size(WINDOW)));
    }
    let entries = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", strings(&texts)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", strings(&["t h".to_owned(), "th e".to_owned()])),
        ("tokenizer.ggml.bos_token_id", size(1)),
        ("tokenizer.ggml.eos_token_id", size(2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ];
    let architecture = [("general.architecture".to_owned(), text(family))];
    let sizes = sizes.into_iter().map(|(key, value)| (format!("{family}.{key}"), value));
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
    architecture.into_iter().chain(sizes).chain(entries).collect()
}

fn tensors(family: &str, vocabulary: usize) -> Vec<(String, QTensor)> {
    let mut random = Random(0x5EED);
    let layers = Layers::of(family);
    // Larger weights would make much of what keys and values are rounded by.
    let scale = if family == "llama" { 0.3 } else { 0.1 };
    let (queries, keys) = (layers.heads * layers.head_size, layers.key_heads * layers.head_size);
    let mut tensors = vec![("token_embd.weight".to_owned(), embedding(vocabulary, &mut random))];
    for layer in 0..layers.count {
        for (name, outputs, inputs) in [
            ("attn_q", queries, EMBEDDING),
            ("attn_k", keys, EMBEDDING),
            ("attn_v", keys, EMBEDDING),
            ("attn_output", EMBEDDING, queries),
            ("ffn_gate", FEED_FORWARD, EMBEDDING),
            ("ffn_up", FEED_FORWARD, EMBEDDING),
            ("ffn_down", EMBEDDING, FEED_FORWARD),
        ] {
            let values = (0..outputs * inputs).map(|_| scale * random.next()).collect();
            tensors
                .push((format!("blk.{layer}.{name}.weight"), quantized(values, &[outputs, inputs], GgmlDType::Q4_1)));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{name}.weight"), ones(EMBEDDING)));
        }
        for (name, length) in &layers.vectors {
            let values = (0..*length).map(|_| 1.0 + 0.5 * random.next()).collect();
            tensors.push((format!("blk.{layer}.{name}"), quantized(values, &[*length], GgmlDType::F32)));
        }
    }
    tensors.push(("output_norm.weight".to_owned(), ones(EMBEDDING)));
    tensors
}

fn embedding(vocabulary: usize, random: &mut Random) -> QTensor {
    // Behind the control tokens come the 94 printable characters.
    let printable = CONTROL.len()..CONTROL.len() + 94;
    let scale = |row: usize| if printable.contains(&row) { 1.0 } else { 0.01 };
    let values = (0..vocabulary * EMBEDDING).map(|index| scale(index / EMBEDDING) * random.next()).collect();
    quantized(values, &[vocabulary, EMBEDDING], GgmlDType::Q8_0)
}

fn ones(length: usize) -> QTensor {
    quantized(vec![1.0; length], &[length], GgmlDType::F32)
}

/// Quantizes `values`.
pub fn quantized(values: Vec<f32>, shape: &[usize], dtype: GgmlDType) -> QTensor {
    QTensor::quantize(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), dtype).unwrap()
}

/// A linear congruential generator (Knuth's constants).
struct Random(u64);

impl Random {
    /// From -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
