//! candle's own implementations of the families, to compare with.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use aios_runtime::engine::Cancel;
use aios_runtime::model::LoadedModel;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::{gemma3, quantized_llama, quantized_qwen2, quantized_qwen3};

pub enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
    /// candle's `quantized_gemma3` has another gate, and windows in a first prompt only; the one for full precision has
    /// what Gemma has, as long as it gets one token at a time.
    Gemma3(gemma3::Model),
}

/// Reads a file's blocks, or what they stand for where candle computes that alone.
pub fn read<R: Read + Seek>(file: &mut R) -> Model {
    let content = Content::read(file).unwrap();
    match content.metadata["general.architecture"].to_string().unwrap().as_str() {
        "llama" => Model::Llama(quantized_llama::ModelWeights::from_gguf(content, file, &Device::Cpu).unwrap()),
        "qwen2" => Model::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, file, &Device::Cpu).unwrap()),
        "qwen3" => Model::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, file, &Device::Cpu).unwrap()),
        "gemma3" => Model::Gemma3(gemma3(&content, file)),
        other => panic!("no implementation of {other}"),
    }
}

/// The model with all weights expanded.
pub fn in_full(path: &Path) -> Model {
    let mut file = File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    if content.metadata.contains_key("gemma3.block_count") {
        return Model::Gemma3(gemma3(&content, &mut file));
    }
    let names: Vec<&String> = content.tensor_infos.keys().collect();
    let expand = |name: &&String| {
        let values = content.tensor(&mut file, name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        QTensor::quantize(&values, GgmlDType::F32).unwrap()
    };
    let tensors: Vec<QTensor> = names.iter().map(expand).collect();
    let named: Vec<_> = names.iter().zip(&tensors).map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut expanded = Cursor::new(Vec::new());
    gguf_file::write(&mut expanded, &metadata, &named).unwrap();
    expanded.set_position(0);
    read(&mut expanded)
}

/// Logits after the last of `tokens`, the first of which stands at `position`.
pub fn logits(model: &mut Model, tokens: &[u32], position: usize) -> Vec<f32> {
    let input = |tokens: &[u32]| Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = match model {
        Model::Llama(model) => model.forward(&input(tokens), position),
        Model::Qwen2(model) => model.forward(&input(tokens), position),
        Model::Qwen3(model) => model.forward(&input(tokens), position),
        Model::Gemma3(model) => {
            let single = |(index, token): (usize, &u32)| model.forward(&input(&[*token]), position + index);
            tokens.iter().enumerate().map(single).last().unwrap()
        }
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Forgets all tokens.
pub fn clear(model: &mut Model) {
    match model {
        Model::Llama(model) => model.clear_kv_cache(),
        Model::Qwen2(model) => model.clear_kv_cache(),
        Model::Qwen3(model) => model.clear_kv_cache(),
        Model::Gemma3(model) => model.clear_kv_cache(),
    }
}

/// Compares the logits after `prompt`, and after each of 39 tokens that `reference` finds likeliest. `tolerance` is relative
/// to the largest logit.
pub fn assert_same_logits(model: &LoadedModel, mut reference: Model, prompt: &[u32], tolerance: f32) {
    let info = model.engine.info();
    let mut session = model.engine.session().unwrap();
    let mut tokens = prompt.to_vec();
    for step in 0..40 {
        let theirs = logits(&mut reference, &tokens, session.len());
        let ours = session.forward(&tokens, 1, &Cancel::default()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        let largest = theirs.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        for (token, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let (family, arithmetic) = (&info.architecture, info.arithmetic);
            let close = (a - b).abs() < tolerance * largest;
            assert!(close, "{family} by {arithmetic}, step {step}, token {token}: {a} and {b}");
        }
        let next = (0..theirs.len()).max_by(|&a, &b| theirs[a].total_cmp(&theirs[b])).unwrap();
        tokens = vec![next as u32];
    }
}

fn gemma3<R: Read + Seek>(content: &Content, file: &mut R) -> gemma3::Model {
    let value = |key: &str| content.metadata.get(&format!("gemma3.{key}"));
    let size = |key: &str| value(key).unwrap().to_u32().unwrap() as usize;
    let float = |key: &str| f64::from(value(key).map(Value::to_f32).unwrap().unwrap());
    let config = gemma3::Config {
        attention_bias: false,
        head_dim: size("attention.key_length"),
        hidden_activation: Activation::GeluPytorchTanh,
        hidden_size: size("embedding_length"),
        intermediate_size: size("feed_forward_length"),
        num_attention_heads: size("attention.head_count"),
        num_hidden_layers: size("block_count"),
        num_key_value_heads: size("attention.head_count_kv"),
        rms_norm_eps: float("attention.layer_norm_rms_epsilon"),
        rope_theta: float("rope.freq_base"),
        rope_local_base_freq: 10_000.0,
        vocab_size: content.tensor_infos["token_embd.weight"].shape.dims()[0],
        final_logit_softcapping: None,
        attn_logit_softcapping: None,
        query_pre_attn_scalar: size("attention.key_length"),
        sliding_window: size("attention.sliding_window"),
        sliding_window_pattern: 6,
        max_position_embeddings: size("context_length").min(1024),
    };
    let tensors: HashMap<String, Tensor> = content
        .tensor_infos
        .keys()
        .map(|name| {
            let values = content.tensor(file, name, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
            // Files have norms as they are multiplied with, candle adds 1 to them.
            (gemma3_name(name), if name.contains("norm") { (values - 1.0).unwrap() } else { values })
        })
        .collect();
    gemma3::Model::new(false, &config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap()
}

/// What candle calls a tensor.
fn gemma3_name(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        _ => {}
    }
    let (index, part) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
    let part = match part.strip_suffix(".weight").unwrap() {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" => "pre_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "post_ffw_norm" => "post_feedforward_layernorm",
        other => panic!("no tensor {other} in candle"),
    };
    format!("model.layers.{index}.{part}.weight")
}
