//! GGUF files of a vocabulary alone.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::path::Path;

use aios_runtime::gguf::{Gguf, GgufError};
use aios_runtime::tokenizer::Tokenizer;
use candle_core::quantized::gguf_file::{self, Value};

pub type Metadata = Vec<(String, Value)>;

pub fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub fn texts(items: &[String]) -> Value {
    Value::Array(items.iter().cloned().map(Value::String).collect())
}

pub fn set(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.retain(|(other, _)| other != key);
    metadata.push((key.to_owned(), value));
}

/// Writes `metadata` to `path`.
pub fn write(path: &Path, metadata: &Metadata) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &[]).unwrap();
}

/// The tokenizer of such a file.
pub fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    write(&path, metadata);
    Tokenizer::from_gguf(&Gguf::open(&path).unwrap())
}

/// A vocabulary as Llama 2's: `<unk>`, `<s>`, `</s>`, the bytes, then pieces, the more wanted ones first.
pub fn sentencepiece() -> Metadata {
    let pieces = [
        "▁t",
        "he",
        "▁the",
        "er",
        "in",
        "▁a",
        "th",
        "▁▁",
        "▁▁▁▁",
        "▁w",
        "or",
        "ld",
        "world",
        "▁world",
        "wor",
        "▁wor",
        "re",
        "ere",
        "there",
        "▁there",
        "ll",
        "llo",
        "Hello",
        "▁Hello",
        "He",
        "ell",
        "Hell",
        "ло",
        "сло",
        "во",
        "слово",
        "\n\n",
    ];
    let letters = "▁abcdefghijklmnopqrstuvwxyzHW.,слов\n<>|_";
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(pieces.iter().map(|&piece| piece.to_owned()));
    tokens.extend(letters.chars().map(String::from));
    tokens.push("<tag>".to_owned());
    let last = tokens.len() - 1;
    let kind = |token: usize| match token {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        token if token == last => 4,
        _ => 1,
    };
    let score = |token: usize| if token < 259 { 0.0 } else { 259.0 - token as f32 };
    let types = (0..tokens.len()).map(|token| Value::I32(kind(token))).collect();
    let scores = (0..tokens.len()).map(|token| Value::F32(score(token))).collect();
    let entries = [
        ("general.architecture", text("llama")),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.scores", Value::Array(scores)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A vocabulary as GPT-2's, cut by the pre-tokenizer `pre`: three control tokens, the bytes, some merges.
pub fn byte_level(pre: &str) -> Metadata {
    let printable = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF);
    let bytes = printable.chain(0x100..0x144).map(|code| char::from_u32(code).unwrap().to_string());
    let merges = [
        "t h",
        "th e",
        "Ġ the",
        "Ġ a",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "1 2",
        "12 3",
        "' s",
        "' S",
        "Ċ Ċ",
        "! !",
        "o r",
        "Ġ w",
        "Ġw or",
        "l d",
        "Ġwor ld",
        "Ã ©",
        "! Ċ",
        ". .",
    ];
    let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let merged = merges.map(|merge| merge.replace(' ', ""));
    let mut tokens: Vec<String> = control.iter().map(|&token| token.to_owned()).chain(bytes).collect();
    tokens.extend(merged);
    // One that no merges lead to.
    tokens.push("whole".to_owned());
    let types = (0..tokens.len()).map(|token| Value::I32(if token < 3 { 3 } else { 1 })).collect();
    let entries = [
        ("general.architecture", text("llama")),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", texts(&merges.map(str::to_owned))),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
