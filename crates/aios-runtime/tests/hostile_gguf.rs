//! Files that are cut short, damaged or made to harm: each is refused with the path and a reason, and none takes the
//! process down or makes it take memory that the file does not justify.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::path::{Path, PathBuf};

use aios_runtime::engine::Cancel;
use aios_runtime::model::{LoadOptions, LoadedModel};
use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use proptest::prelude::*;

const FAMILIES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    /// The reason for which `bytes` are refused; checks that it names the file.
    fn refusal(&self, bytes: &[u8]) -> String {
        std::fs::write(self.path(), bytes).unwrap();
        refusal(&self.path())
    }

    /// The reason for which the tiny model is refused after a change.
    fn refusal_of_changed(
        &self,
        change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, candle_core::quantized::QTensor)>),
    ) -> String {
        self.refusal_of_family("llama", change)
    }

    /// The reason for which a family's tiny model is refused after a change.
    fn refusal_of_family(
        &self,
        family: &str,
        change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, candle_core::quantized::QTensor)>),
    ) -> String {
        tiny_model::write_family(&self.path(), family, change);
        refusal(&self.path())
    }
}

fn load(path: &Path) -> Result<LoadedModel, String> {
    LoadedModel::load("sample", path, &LoadOptions::new(64)).map_err(|error| error.to_string())
}

fn refusal(path: &Path) -> String {
    let reason = load(path).map(|_| ()).unwrap_err();
    let start = format!("model file {}: ", path.display());
    reason.strip_prefix(&start).unwrap_or_else(|| panic!("{reason:?} does not begin with {start:?}")).to_owned()
}

fn valid(family: &str) -> Vec<u8> {
    let sample = Sample::new();
    tiny_model::write_family(&sample.path(), family, |_, _| {});
    std::fs::read(sample.path()).unwrap()
}

/// Magic, version, tensor count, metadata count.
fn header(version: u32, tensors: u64, entries: u64) -> Vec<u8> {
    [b"GGUF".as_slice(), &version.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn set(metadata: &mut [(String, Value)], key: &str, value: Value) {
    metadata.iter_mut().find(|(name, _)| name == key).unwrap().1 = value;
}

#[test]
fn files_that_are_no_gguf_are_named_as_such() {
    let sample = Sample::new();
    assert_eq!(sample.refusal(b""), "is not a GGUF file: it has only 0 bytes");
    assert_eq!(sample.refusal(b"<!DOCTYPE html>"), "is not a GGUF file: it begins with \"<!DO\", not \"GGUF\"");
    assert_eq!(sample.refusal(&header(1, 0, 0)), "has GGUF version 1; versions 2 and 3 are supported");
    assert!(sample.refusal(&header(3 << 24, 0, 0)).contains("big-endian"));
    assert!(refusal(sample.folder.path()).starts_with("is not a file"));
    assert!(refusal(&sample.folder.path().join("absent.gguf")).starts_with("can't be opened: No such file"));
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused_before_memory_is_taken() {
    let sample = Sample::new();
    assert_eq!(
        sample.refusal(&header(3, u64::MAX, 0)),
        "claims 18446744073709551615 tensors; at most 65536 are accepted"
    );
    assert!(sample.refusal(&header(3, 0, 60_000)).contains("more than its remaining 0 bytes can hold"));
    let padding = vec![0; 4096];
    let entry = |value_type: u32, value: &[u8]| {
        [header(3, 0, 1), text("key"), value_type.to_le_bytes().to_vec(), value.to_vec(), padding.clone()].concat()
    };
    assert!(sample.refusal(&entry(8, &(1u64 << 62).to_le_bytes())).contains("a text of 4611686018427387904 bytes"));
    let array =
        |element_type: u32, count: u64| [element_type.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat();
    assert!(sample.refusal(&entry(9, &array(4, u64::MAX))).contains("array elements"));
    assert!(sample.refusal(&entry(9, &array(8, 100_000))).contains("array elements"));
    assert!(sample.refusal(&entry(99, &[])).contains("unknown type 99"));
    let nested = [array(9, 1), array(9, 1), array(9, 1), array(9, 1), array(0, 0)].concat();
    assert!(sample.refusal(&entry(9, &nested)).contains("nests arrays too deep"));
}

#[test]
fn a_file_cut_short_at_any_place_is_refused() {
    let sample = Sample::new();
    let bytes = valid("llama");
    for end in (0..bytes.len() - 32).step_by(bytes.len() / 97) {
        sample.refusal(&bytes[..end]);
    }
}

#[test]
fn tensors_outside_of_the_file_or_of_impossible_size_are_refused() {
    let sample = Sample::new();
    let tensor = |dimensions: &[u64], dtype: u32, offset: u64| {
        let dimensions: Vec<u8> = dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()).collect();
        let rank = (dimensions.len() / 8) as u32;
        let entry =
            [rank.to_le_bytes().to_vec(), dimensions, dtype.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()];
        [header(3, 1, 0), text("weight"), entry.concat(), vec![0; 256]].concat()
    };
    for (bytes, reason) in [
        (tensor(&[64, u64::MAX], 0, 0), "impossible dimensions"),
        (tensor(&[1 << 32, 1 << 32], 0, 0), "impossible dimensions"),
        (tensor(&[0], 0, 0), "a dimension of 0"),
        (tensor(&[1; 5], 0, 0), "has 5 dimensions"),
        (tensor(&[], 0, 0), "has 0 dimensions"),
        (tensor(&[33], 8, 0), "has rows of 33 values"),
        (tensor(&[32], 0, 7), "no multiple of the alignment"),
        (tensor(&[32], 0, u64::MAX - 31), "beyond the end of the file"),
        (tensor(&[1 << 20], 0, 0), "beyond the end of the file"),
        (tensor(&[32], 9, 0), "has format 9"),
    ] {
        let found = sample.refusal(&bytes);
        assert!(found.contains(reason), "{found:?} does not contain {reason:?}");
    }
}

#[test]
fn metadata_that_is_missing_or_contradicts_the_tensors_is_refused() {
    let sample = Sample::new();
    for key in ["general.architecture", "llama.block_count", "llama.context_length", "tokenizer.ggml.tokens"] {
        let reason = sample.refusal_of_changed(|metadata, _| metadata.retain(|(name, _)| name != key));
        assert_eq!(reason, format!("metadata key {key} is missing"));
    }
    for (key, value, reason) in [
        (
            "general.architecture",
            Value::String("mamba".into()),
            "architecture \"mamba\" is not supported; supported are",
        ),
        ("llama.block_count", Value::String("two".into()), "llama.block_count is not a count"),
        ("llama.block_count", Value::I32(-1), "llama.block_count is not a count"),
        ("llama.block_count", Value::U32(0), "llama.block_count is 0"),
        ("llama.block_count", Value::U32(u32::MAX), "claims 4294967295 layers"),
        ("llama.block_count", Value::U32(3), "tensor blk.2.attn_norm.weight is missing"),
        ("llama.block_count", Value::U32(1), "is not part of the llama architecture"),
        ("llama.attention.head_count", Value::U32(0), "llama.attention.head_count is 0"),
        ("llama.attention.head_count", Value::U32(u32::MAX), "heads"),
        ("llama.attention.head_count_kv", Value::U32(3), "which does not divide"),
        ("llama.feed_forward_length", Value::U32(u32::MAX), "tensor blk.0.ffn_gate.weight has shape [128, 64]"),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), "is not a finite number"),
        ("tokenizer.ggml.model", Value::String("t5".into()), "tokenizer \"t5\" is not supported"),
        ("tokenizer.ggml.model", Value::String("llama".into()), "metadata key tokenizer.ggml.scores is missing"),
        ("tokenizer.ggml.pre", Value::String("other".into()), "pre-tokenizer \"other\" is not supported"),
        ("tokenizer.ggml.eos_token_id", Value::U32(1 << 20), "there are only 261 tokens"),
        (
            "tokenizer.ggml.merges",
            Value::Array(vec![Value::String("the the".into())]),
            "merge \"the the\" is not made of",
        ),
        ("tokenizer.chat_template", Value::String("{% if %}".into()), "chat template is broken"),
    ] {
        let found = sample.refusal_of_changed(|metadata, _| set(metadata, key, value));
        assert!(found.contains(reason), "{key}: {found:?} does not contain {reason:?}");
    }
}

#[test]
fn tensors_that_are_missing_or_of_another_kind_are_refused() {
    let sample = Sample::new();
    let reason = sample.refusal_of_changed(|_, tensors| tensors.retain(|(name, _)| name != "output_norm.weight"));
    assert_eq!(reason, "tensor output_norm.weight is missing");
    let bias = || tiny_model::quantized(vec![0.0; 64], &[64], GgmlDType::F32);
    let reason = sample.refusal_of_changed(|_, tensors| tensors.push(("blk.0.attn_q.bias".to_owned(), bias())));
    assert!(reason.starts_with("tensor blk.0.attn_q.bias is not part of the llama architecture"), "{reason}");
    // Rows of three blocks, in a model of which one matrix is for candle alone.
    let odd = sample.refusal_of_changed(|metadata, tensors| {
        let values = tensors[0].1.dequantize(&Device::Cpu).unwrap();
        tensors[0].1 = QTensor::quantize(&values, GgmlDType::F32).unwrap();
        set(metadata, "llama.feed_forward_length", Value::U32(96));
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("ffn_") && !name.contains("norm")) {
            let shape = if name.contains("down") { [64, 96] } else { [96, 64] };
            *tensor = tiny_model::quantized(vec![0.5; 64 * 96], &shape, GgmlDType::Q4_1);
        }
    });
    assert_eq!(odd, "tensor blk.0.ffn_down.weight (Q4_1) has rows of 96 values, no multiple of 64");
    let reason = sample.refusal_of_changed(|_, tensors| {
        tensors.iter_mut().find(|(name, _)| name == "blk.1.ffn_down.weight").unwrap().1 = bias();
    });
    assert_eq!(reason, "tensor blk.1.ffn_down.weight has shape [64], the metadata needs [64, 128]");
}

#[test]
fn a_family_that_lacks_what_it_needs_or_has_what_it_does_not_know_is_refused() {
    let sample = Sample::new();
    for (family, name) in [
        ("qwen2", "blk.1.attn_k.bias"),
        ("qwen3", "blk.0.attn_q_norm.weight"),
        ("gemma3", "blk.6.attn_k_norm.weight"),
        ("gemma3", "blk.2.post_attention_norm.weight"),
        ("gemma3", "blk.5.post_ffw_norm.weight"),
    ] {
        let reason = sample.refusal_of_family(family, |_, tensors| tensors.retain(|(other, _)| other != name));
        assert_eq!(reason, format!("tensor {name} is missing"));
        let reason = sample.refusal_of_family(family, |_, tensors| {
            tensors.iter_mut().find(|(other, _)| other == name).unwrap().1 =
                tiny_model::quantized(vec![0.0; 16], &[16], GgmlDType::F32);
        });
        assert!(reason.starts_with(&format!("tensor {name} has shape [16], the metadata needs [")), "{reason}");
    }
    for (family, name) in [
        ("qwen2", "blk.0.attn_q_norm.weight"),
        ("qwen2", "rope_freqs.weight"),
        ("qwen3", "blk.0.attn_q.bias"),
        ("qwen3", "blk.0.ffn_gate_inp.weight"),
        ("gemma3", "blk.7.ffn_norm.weight"),
        ("llama", "blk.0.post_ffw_norm.weight"),
    ] {
        let more = || tiny_model::quantized(vec![0.0; 64], &[64], GgmlDType::F32);
        let reason = sample.refusal_of_family(family, |_, tensors| tensors.push((name.to_owned(), more())));
        let expected = format!("tensor {name} is not part of the {family} architecture as it is supported here");
        assert!(reason.starts_with(&expected), "{reason}");
    }
}

#[test]
fn sizes_and_formats_that_a_family_can_not_be_computed_in_are_refused() {
    let sample = Sample::new();
    for (key, value, reason) in [
        ("gemma3.attention.key_length", Value::U32(16), "gemma3.attention.value_length is 32; only the head size 16"),
        ("gemma3.attention.head_count_kv", Value::U32(3), "which does not divide"),
        ("gemma3.attention.sliding_window", Value::I32(-1), "gemma3.attention.sliding_window is not a count"),
        ("gemma3.attention.sliding_window_pattern", Value::Bool(true), "is not a count"),
        ("gemma3.rope.freq_base_swa", Value::F32(0.0), "gemma3.rope.freq_base_swa is 0"),
        ("gemma3.rope.scaling.type", Value::String("yarn".into()), "rope scaling \"yarn\" is not supported"),
        ("gemma3.rope.scaling.factor", Value::F32(-8.0), "gemma3.rope.scaling.factor is -8"),
        (
            "gemma3.final_logit_softcapping",
            Value::F32(30.0),
            "has gemma3.final_logit_softcapping, which is not supported",
        ),
    ] {
        let found = sample.refusal_of_family("gemma3", |metadata, _| {
            metadata.retain(|(name, _)| name != key);
            metadata.push((key.to_owned(), value));
        });
        assert!(found.contains(reason), "{key}: {found:?} does not contain {reason:?}");
    }
    let heads = sample.refusal_of_family("qwen2", |metadata, _| {
        set(metadata, "qwen2.attention.head_count", Value::U32(4));
        set(metadata, "qwen2.attention.head_count_kv", Value::U32(2));
    });
    assert!(heads.starts_with("it has heads of 16 values, no multiple of 32, and models of the qwen2"), "{heads}");
    let format = sample.refusal_of_family("qwen3", |_, tensors| {
        let tensor = &mut tensors.iter_mut().find(|(name, _)| name == "blk.1.attn_v.weight").unwrap().1;
        *tensor = QTensor::quantize(&tensor.dequantize(&Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
    });
    assert!(format.starts_with("matrix blk.1.attn_v.weight is in F32, which has no kernel, and models"), "{format}");
    assert!(format.ends_with("make one with `aios model convert --format q8_0`"), "{format}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_loading_or_inference_panic(
        family in prop::sample::select(&FAMILIES),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let sample = Sample::new();
        let mut bytes = valid(family);
        // The header is a tenth of the file, and the part where damage matters.
        let header = bytes.len() / 8;
        for (place, value, anywhere) in damage {
            let place = place.index(if anywhere { bytes.len() } else { header });
            bytes[place] = value;
        }
        std::fs::write(sample.path(), &bytes).unwrap();
        if let Ok(model) = load(&sample.path()) {
            let tokens = model.text_tokens("the quick brown fox").unwrap();
            let mut session = model.engine.session().unwrap();
            if tokens.len() < model.engine.info().context_length {
                session.forward(&tokens, 1, &Cancel::default()).unwrap();
            }
        }
    }
}
