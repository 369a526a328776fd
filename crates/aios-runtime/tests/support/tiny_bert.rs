//! A BERT encoder of 60 kB with random weights, in the files of sentence-transformers. Its word pieces are the letters.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::json;

/// Numbers in a vector.
pub const DIMENSIONS: usize = 24;
/// Tokens of a text at most.
pub const LONGEST: usize = 40;
/// Word pieces: four marks, the letters at a word's beginning and within one.
pub const VOCABULARY: usize = 4 + 2 * 26;
/// What marks a text's beginning and end.
pub const ENDS: [u32; 2] = [2, 3];
const WIDE: usize = 48;
const LAYERS: usize = 2;

/// `config.json`
pub fn config() -> serde_json::Value {
    json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": DIMENSIONS, "num_hidden_layers": LAYERS,
        "num_attention_heads": 3, "intermediate_size": WIDE, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "max_position_embeddings": 64, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    })
}

/// Writes the model's files into `dir`.
pub fn write(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), config().to_string()).unwrap();
    fs::write(dir.join("sentence_bert_config.json"), json!({"max_seq_length": LONGEST}).to_string()).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    candle_core::safetensors::save(&tensors(), dir.join("model.safetensors")).unwrap();
}

/// The word piece of a letter at a word's beginning.
pub fn letter(letter: char) -> u32 {
    4 + letter as u32 - 'a' as u32
}

fn tokenizer() -> serde_json::Value {
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
    let within = ('a'..='z').map(|letter| format!("##{letter}"));
    let pieces = marks.into_iter().chain(('a'..='z').map(String::from)).chain(within);
    let vocabulary: HashMap<String, usize> = pieces.zip(0..).collect();
    json!({
        "version": "1.0", "added_tokens": [],
        // As in the files of real models: these must not be followed.
        "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", ENDS[1]], "cls": ["[CLS]", ENDS[0]]},
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

/// The weights by their names.
pub fn tensors() -> HashMap<String, Tensor> {
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let seed = name.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let count: usize = shape.iter().product();
        let values = (0..count).map(|index| ((seed % 1009) as f32 + index as f32 * 1.618).sin() * 0.4).collect();
        tensors.insert(name, Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap());
    };
    for (name, rows) in [("word_embeddings", VOCABULARY), ("position_embeddings", 64), ("token_type_embeddings", 2)] {
        add(format!("embeddings.{name}.weight"), &[rows, DIMENSIONS]);
    }
    let mut part = |name: String, shape: &[usize]| {
        add(format!("{name}.weight"), shape);
        add(format!("{name}.bias"), &shape[..1]);
    };
    part("embeddings.LayerNorm".into(), &[DIMENSIONS]);
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("attention.self.query", &[DIMENSIONS, DIMENSIONS][..]),
            ("attention.self.key", &[DIMENSIONS, DIMENSIONS]),
            ("attention.self.value", &[DIMENSIONS, DIMENSIONS]),
            ("attention.output.dense", &[DIMENSIONS, DIMENSIONS]),
            ("attention.output.LayerNorm", &[DIMENSIONS]),
            ("intermediate.dense", &[WIDE, DIMENSIONS]),
            ("output.dense", &[DIMENSIONS, WIDE]),
            ("output.LayerNorm", &[DIMENSIONS]),
        ] {
            part(format!("encoder.layer.{layer}.{name}"), shape);
        }
    }
    tensors
}
