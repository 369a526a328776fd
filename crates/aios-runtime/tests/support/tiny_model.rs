//! A llama model of 100 kB with random weights: everything around the arithmetic can be tried on it in milliseconds.
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
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const LAYERS: usize = 2;
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] \
    + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

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
    let mut metadata = metadata();
    let mut tensors = tensors(token_texts().len());
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

fn metadata() -> Vec<(String, Value)> {
    let texts = token_texts();
    let strings = |items: &[String]| Value::Array(items.iter().cloned().map(Value::String).collect());
    let types = (0..texts.len()).map(|id| Value::I32(if id < CONTROL.len() { 3 } else { 1 })).collect();
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: usize| Value::U32(u32::try_from(size).unwrap());
    let entries = [
        ("general.architecture", text("llama")),
        ("llama.context_length", size(CONTEXT)),
        ("llama.embedding_length", size(EMBEDDING)),
        ("llama.block_count", size(LAYERS)),
        ("llama.feed_forward_length", size(FEED_FORWARD)),
        ("llama.attention.head_count", size(HEADS)),
        ("llama.attention.head_count_kv", size(KEY_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.rope.dimension_count", size(EMBEDDING / HEADS)),
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
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn tensors(vocabulary: usize) -> Vec<(String, QTensor)> {
    let mut random = Random(0x5EED);
    let keys = EMBEDDING * KEY_HEADS / HEADS;
    let mut tensors = vec![("token_embd.weight".to_owned(), embedding(vocabulary, &mut random))];
    for layer in 0..LAYERS {
        for (name, outputs, inputs) in [
            ("attn_q", EMBEDDING, EMBEDDING),
            ("attn_k", keys, EMBEDDING),
            ("attn_v", keys, EMBEDDING),
            ("attn_output", EMBEDDING, EMBEDDING),
            ("ffn_gate", FEED_FORWARD, EMBEDDING),
            ("ffn_up", FEED_FORWARD, EMBEDDING),
            ("ffn_down", EMBEDDING, FEED_FORWARD),
        ] {
            let values = (0..outputs * inputs).map(|_| 0.3 * random.next()).collect();
            tensors
                .push((format!("blk.{layer}.{name}.weight"), quantized(values, &[outputs, inputs], GgmlDType::Q4_1)));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{name}.weight"), ones(EMBEDDING)));
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
