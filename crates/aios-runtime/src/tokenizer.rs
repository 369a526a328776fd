//! Text to tokens and back, as the GGUF's own metadata says.
//!
//! Control tokens (`<|im_start|>`, end of text, ...) are never recognised in plain text. They are recognised only in a
//! [`Prompt`], and there only in what the chat template itself wrote: see [`crate::template`].

mod markers;
mod stream;

use std::collections::{HashMap, HashSet};

use tokenizers::PreTokenizerWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use crate::gguf::{Gguf, GgufError};
use crate::template::Prompt;
use markers::{Markers, Piece};
pub use stream::StreamDecoder;

/// Token types of `tokenizer.ggml.token_type`.
const TYPE_CONTROL: i32 = 3;
const TYPE_USER_DEFINED: i32 = 4;

/// Control tokens that end an answer in the chat formats in use, beside the ones that the metadata names. llama.cpp
/// knows the same ones, as many files name only one of several.
const END_OF_TURN: [&str; 8] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>"];

/// The text could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
#[error("the text can't be turned into tokens: {0}")]
pub struct EncodeError(String);

/// A byte-level BPE tokenizer.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    control: Markers,
    user_defined: Markers,
    /// What each token stands for: `bytes[starts[token]..starts[token + 1]]`. Empty for control tokens.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    bos: Option<u32>,
    adds_bos: bool,
    ends: HashSet<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer that the file describes.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, GgufError> {
        let model = gguf.require("tokenizer.ggml.model", gguf.string("tokenizer.ggml.model")?)?;
        if model != "gpt2" {
            return Err(
                gguf.error(format!("tokenizer {model:?} is not supported; supported is \"gpt2\" (byte-level BPE)"))
            );
        }
        let pre = gguf.require("tokenizer.ggml.pre", gguf.string("tokenizer.ggml.pre")?)?;
        let words = pre_tokenizer(pre).ok_or_else(|| {
            gguf.error(format!("pre-tokenizer {pre:?} is not supported; supported are \"smollm\" and \"gpt-2\""))
        })?;
        let tokens = gguf.require("tokenizer.ggml.tokens", gguf.strings("tokenizer.ggml.tokens")?)?;
        let types = gguf.require("tokenizer.ggml.token_type", gguf.integers("tokenizer.ggml.token_type")?)?;
        let merges = gguf.require("tokenizer.ggml.merges", gguf.strings("tokenizer.ggml.merges")?)?;
        if tokens.is_empty() || tokens.len() != types.len() {
            return Err(gguf.error(format!("has {} tokens but {} token types", tokens.len(), types.len())));
        }

        let mut bpe = tokenizers::Tokenizer::new(bpe(gguf, tokens, types, merges)?);
        bpe.with_pre_tokenizer(Some(words));
        let of_type = |wanted: i32| {
            let tokens = tokens.iter().zip(types).enumerate();
            tokens.filter(move |(_, (_, kind))| **kind == wanted).map(|(id, (text, _))| (text.clone(), id as u32))
        };
        let control = Markers::new(of_type(TYPE_CONTROL));
        let user_defined = Markers::new(of_type(TYPE_USER_DEFINED));
        let (bytes, starts) = token_bytes(tokens, types);

        let token = |key: &str| special(gguf, key, tokens.len());
        let bos = token("tokenizer.ggml.bos_token_id")?;
        let mut ends: HashSet<u32> = HashSet::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(token(key)?);
        }
        ends.extend(of_type(TYPE_CONTROL).filter(|(text, _)| END_OF_TURN.contains(&text.as_str())).map(|(_, id)| id));
        if ends.is_empty() {
            return Err(gguf.error("names no end-of-text token (tokenizer.ggml.eos_token_id)"));
        }
        let adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
        Ok(Self { bpe, control, user_defined, bytes, starts, bos, adds_bos, ends })
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether `token` ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Texts of the control tokens.
    pub fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.control.texts()
    }

    /// Turns plain text into tokens. Nothing in it is taken for a control token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        self.begin(&mut tokens);
        self.encode_plain(text, &mut tokens)?;
        Ok(tokens)
    }

    /// Turns text that follows other text into tokens, as [`Tokenizer::encode`] without a beginning-of-text token.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        self.encode_plain(text, &mut tokens)?;
        Ok(tokens)
    }

    /// Turns a rendered chat into tokens: control tokens where the template wrote them, plain text where a message did.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        let mut plain = String::new();
        for piece in self.control.split(prompt.text(), Some(prompt.guard())) {
            match piece {
                Piece::Text(text) => {
                    plain.clear();
                    plain.extend(text.chars().filter(|&character| character != prompt.guard()));
                    self.encode_plain(&plain, &mut tokens)?;
                }
                Piece::Marker(token) => tokens.push(token),
            }
        }
        // Many templates write the beginning-of-text token themselves.
        if self.adds_bos && tokens.first().copied() != self.bos {
            tokens.splice(0..0, self.bos);
        }
        Ok(tokens)
    }

    /// Turns tokens into text. Control tokens are left out, bytes that are no UTF-8 are replaced.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.token_bytes(token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What `token` adds to the text; not always whole characters. Empty for control tokens and beyond the vocabulary.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        let token = token as usize;
        match (self.starts.get(token), self.starts.get(token + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// A token for people: the text that it adds, or the name of a control token.
    pub fn token_text(&self, token: u32) -> String {
        match self.control.text(token) {
            Some(name) => name.to_owned(),
            None => String::from_utf8_lossy(self.token_bytes(token)).into_owned(),
        }
    }

    fn begin(&self, tokens: &mut Vec<u32>) {
        if self.adds_bos {
            tokens.extend(self.bos);
        }
    }

    fn encode_plain(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), EncodeError> {
        for piece in self.user_defined.split(text, None) {
            match piece {
                Piece::Text(text) => {
                    let encoding = self.bpe.encode_fast(text, false).map_err(|error| EncodeError(error.to_string()))?;
                    tokens.extend_from_slice(encoding.get_ids());
                }
                Piece::Marker(token) => tokens.push(token),
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary()).field("ends", &self.ends).finish()
    }
}

/// How text falls into words before merging, by the names of llama.cpp's `llama-vocab.cpp`.
fn pre_tokenizer(name: &str) -> Option<PreTokenizerWrapper> {
    // The expression of GPT-2 is built into `ByteLevel`.
    let byte_level = ByteLevel::new(false, false, true);
    match name {
        "gpt-2" => Some(byte_level.into()),
        "smollm" => Some(Sequence::new(vec![Digits::new(true).into(), byte_level.into()]).into()),
        _ => None,
    }
}

fn bpe(gguf: &Gguf, tokens: &[String], types: &[i32], merges: &[String]) -> Result<BPE, GgufError> {
    // Control tokens stay out, so that no text can merge into one.
    let mergeable = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| **kind != TYPE_CONTROL);
    let vocabulary: HashMap<String, u32> = mergeable.map(|(id, (text, _))| (text.clone(), id as u32)).collect();
    let pairs = merges
        .iter()
        .map(|merge| {
            let pair = merge.split_once(' ').filter(|(left, right)| {
                // The builder below relies on all three being known.
                vocabulary.contains_key(*left)
                    && vocabulary.contains_key(*right)
                    && vocabulary.contains_key(&format!("{left}{right}"))
            });
            pair.map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| gguf.error(format!("merge {merge:?} is not made of tokens of the vocabulary")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    BPE::builder()
        .vocab_and_merges(vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs)
        .build()
        .map_err(|error| gguf.error(format!("its vocabulary can't be used: {error}")))
}

/// Undoes the byte-level alphabet, in which every byte is written as a printable character.
fn token_bytes(tokens: &[String], types: &[i32]) -> (Vec<u8>, Vec<u32>) {
    let alphabet = byte_alphabet();
    let mut bytes = Vec::new();
    let mut starts = Vec::with_capacity(tokens.len() + 1);
    for (token, &kind) in tokens.iter().zip(types) {
        starts.push(bytes.len() as u32);
        match kind {
            TYPE_CONTROL => {}
            TYPE_USER_DEFINED => bytes.extend_from_slice(token.as_bytes()),
            _ => {
                for character in token.chars() {
                    match alphabet.get(&character) {
                        Some(&byte) => bytes.push(byte),
                        None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }
    starts.push(bytes.len() as u32);
    (bytes, starts)
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for the characters from U+0100 on, in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                return (char::from(byte), byte);
            }
            let character = char::from_u32(next).expect("invariant: U+0100 to U+0143 are characters");
            next += 1;
            (character, byte)
        })
        .collect()
}

fn special(gguf: &Gguf, key: &str, vocabulary: usize) -> Result<Option<u32>, GgufError> {
    match gguf.count(key)? {
        Some(id) if id >= vocabulary => {
            Err(gguf.error(format!("{key} is {id}, but there are only {vocabulary} tokens")))
        }
        id => Ok(id.map(|id| id as u32)),
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_byte_alphabet_is_the_one_that_encoding_uses() {
        let ours = super::byte_alphabet();
        assert_eq!(ours.len(), 256);
        let theirs = ByteLevel::alphabet();
        assert!(ours.keys().all(|character| theirs.contains(character)));
        assert_eq!(ours[&'Ġ'], b' ');
        assert_eq!(ours[&'Ċ'], b'\n');
    }
}
