//! Models of 100 kB with random weights, of architectures that candle computes with layers of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};

use crate::tiny_model;

pub const ARCHITECTURES: [&str; 3] = ["phi3", "glm4", "phi2"];
pub const VOCABULARY: usize = 261;
const EMBEDDING: usize = 64;
const FEED_FORWARD: usize = 96;
const LAYERS: usize = 2;
const HEADS: usize = 4;

/// Name, outputs, inputs.
type Matrix = (&'static str, usize, usize);
/// Name, length.
type Vector = (&'static str, usize);

/// Writes a model of `architecture` after `change` to its metadata and tensors.
pub fn write_with(
    path: &Path,
    architecture: &str,
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, QTensor)>),
) {
    tiny_model::write_with(path, |metadata, tensors| {
        metadata.retain(|(key, _)| !key.starts_with("llama.") && key != "general.architecture");
        metadata.push(("general.architecture".to_owned(), Value::String(architecture.to_owned())));
        metadata.extend(parameters(architecture));
        *tensors = weights(architecture);
        change(metadata, tensors);
    });
}

fn parameters(architecture: &str) -> Vec<(String, Value)> {
    let key_heads = if architecture == "phi2" { HEADS } else { 2 };
    let size = |size: usize| Value::U32(size as u32);
    let mut parameters = vec![
        ("context_length", size(512)),
        ("embedding_length", size(EMBEDDING)),
        ("feed_forward_length", size(FEED_FORWARD)),
        ("block_count", size(LAYERS)),
        ("attention.head_count", size(HEADS)),
        ("attention.head_count_kv", size(key_heads)),
        ("rope.freq_base", Value::F32(10_000.0)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    parameters.extend(match architecture {
        "glm4" => vec![("attention.key_length", size(16))],
        "phi2" => vec![("rope.dimension_count", size(8)), ("attention.layer_norm_epsilon", Value::F32(1e-5))],
        _ => vec![("rope.dimension_count", size(16)), ("attention.sliding_window", size(300))],
    });
    parameters.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value)).collect()
}

fn weights(architecture: &str) -> Vec<(String, QTensor)> {
    let [e, f, keys] = [EMBEDDING, FEED_FORWARD, 32];
    let (matrices, vectors): (&[Matrix], &[Vector]) = match architecture {
        "glm4" => (
            &[
                ("attn_q", e, e),
                ("attn_k", keys, e),
                ("attn_v", keys, e),
                ("attn_output", e, e),
                ("ffn_up", 2 * f, e),
                ("ffn_down", e, f),
            ],
            &[
                ("attn_q.bias", e),
                ("attn_norm.weight", e),
                ("ffn_norm.weight", e),
                ("post_attention_norm.weight", e),
                ("post_ffw_norm.weight", e),
            ],
        ),
        "phi2" => (
            &[("attn_qkv", 3 * e, e), ("attn_output", e, e), ("ffn_up", f, e), ("ffn_down", e, f)],
            &[
                ("attn_qkv.bias", 3 * e),
                ("attn_output.bias", e),
                ("ffn_up.bias", f),
                ("ffn_down.bias", e),
                ("attn_norm.weight", e),
                ("attn_norm.bias", e),
            ],
        ),
        _ => (
            &[("attn_qkv", e + 2 * keys, e), ("attn_output", e, e), ("ffn_up", 2 * f, e), ("ffn_down", e, f)],
            &[("attn_norm.weight", e), ("ffn_norm.weight", e)],
        ),
    };
    let mut state = 0x5EED_u64;
    let mut random = |scale: f32, count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            })
            .collect()
    };
    let vector = |values: Vec<f32>| {
        let length = values.len();
        tiny_model::quantized(values, &[length], GgmlDType::F32)
    };
    let mut tensors = Vec::new();
    for layer in 0..LAYERS {
        for &(name, outputs, inputs) in matrices {
            let matrix = tiny_model::quantized(random(0.3, outputs * inputs), &[outputs, inputs], GgmlDType::Q8_0);
            tensors.push((format!("blk.{layer}.{name}.weight"), matrix));
        }
        for &(name, length) in vectors {
            let values = random(0.2, length).into_iter().map(|value| value + f32::from(name.ends_with("weight")));
            tensors.push((format!("blk.{layer}.{name}"), vector(values.collect())));
        }
    }
    for name in ["token_embd.weight", "output.weight"] {
        let values = random(1.0, VOCABULARY * EMBEDDING);
        tensors.push((name.to_owned(), tiny_model::quantized(values, &[VOCABULARY, EMBEDDING], GgmlDType::Q8_0)));
    }
    tensors.push(("output_norm.weight".to_owned(), vector(vec![1.0; EMBEDDING])));
    if architecture == "phi2" {
        tensors.push(("output_norm.bias".to_owned(), vector(random(0.1, EMBEDDING))));
        tensors.push(("output.bias".to_owned(), vector(random(0.1, VOCABULARY))));
    }
    tensors
}
