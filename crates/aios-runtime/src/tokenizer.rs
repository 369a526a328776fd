//! Text to tokens and back, as the GGUF's own metadata says.
//!
//! Control tokens (`<|im_start|>`, end of text, ...) are never recognised in plain text. They are recognised only in a
//! [`Prompt`], and there only in what the chat template itself wrote: see [`crate::template`].

mod bytes;
mod markers;
mod sentencepiece;
mod stream;
mod words;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tokenizers::NormalizedString;
use tokenizers::models::bpe::{BPE, Vocab};

use crate::gguf::{Gguf, GgufError};
use crate::template::Prompt;
use bytes::TokenBytes;
pub(crate) use markers::{Markers, Piece};
use sentencepiece::SentencePiece;
pub use stream::StreamDecoder;
use words::Words;

/// Token types of `tokenizer.ggml.token_type`.
const TYPE_UNDEFINED: i32 = 0;
const TYPE_NORMAL: i32 = 1;
const TYPE_UNKNOWN: i32 = 2;
const TYPE_CONTROL: i32 = 3;
const TYPE_USER_DEFINED: i32 = 4;
const TYPE_BYTE: i32 = 6;

/// Tokens that end an answer in the chat formats in use, beside the ones that the metadata names. llama.cpp knows the same
/// ones, as many files name only one of several. They are control tokens, also where the file gives them another type.
const END_OF_TURN: [&str; 12] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "<eos>",
    "</s>",
];

/// The text could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
#[error("the text can't be turned into tokens: {0}")]
pub struct EncodeError(String);

/// A model's tokenizer: byte-level BPE or SentencePiece's BPE.
pub struct Tokenizer {
    merging: Merging,
    control: Markers,
    user_defined: Markers,
    bytes: TokenBytes,
    bos: Option<u32>,
    adds_bos: bool,
    /// Whether text gets a space before it at its beginning and behind each control token.
    adds_space: bool,
    /// Control tokens that take the white space behind them in a template along.
    taking_space: HashSet<u32>,
    ends: HashSet<u32>,
}

/// How text without markers becomes tokens.
enum Merging {
    /// By a list of merges, word by word.
    ByteLevel { bpe: Box<tokenizers::Tokenizer>, composed: bool },
    /// By the tokens' scores.
    SentencePiece(SentencePiece),
}

/// What the file says of its tokens.
struct Vocabulary<'a> {
    gguf: &'a Gguf,
    tokens: &'a [String],
    types: Vec<i32>,
}

impl Tokenizer {
    /// Builds the tokenizer that the file describes.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, GgufError> {
        let model = gguf.require("tokenizer.ggml.model", gguf.string("tokenizer.ggml.model")?)?;
        let vocabulary = Vocabulary::of(gguf)?;
        match model {
            "gpt2" => Self::byte_level(&vocabulary),
            "llama" => Self::sentencepiece(&vocabulary),
            other => Err(gguf.error(format!(
                "tokenizer {other:?} is not supported; supported are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece)"
            ))),
        }
    }

    fn byte_level(vocabulary: &Vocabulary<'_>) -> Result<Self, GgufError> {
        let Vocabulary { gguf, tokens, types } = vocabulary;
        // Files from before the key was thought of have none.
        let name = gguf.string("tokenizer.ggml.pre")?.unwrap_or("default");
        let words = Words::named(name).ok_or_else(|| {
            gguf.error(format!(
                "pre-tokenizer {name:?} is not supported; among the supported are \"llama-bpe\", \"qwen2\", \"tekken\", \
                 \"gpt-2\", \"smollm\" and \"default\""
            ))
        })?;
        let merges = gguf.require("tokenizer.ggml.merges", gguf.strings("tokenizer.ggml.merges")?)?;
        let mut bpe = tokenizers::Tokenizer::new(bpe(gguf, tokens, types, merges, words.whole)?);
        bpe.with_pre_tokenizer(Some(words.pre_tokenizer()));
        let merging = Merging::ByteLevel { bpe: Box::new(bpe), composed: words.composed };
        let bytes = TokenBytes::of_byte_level(tokens, types);
        let mut tokenizer = Self::new(vocabulary, merging, bytes)?;
        tokenizer.adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(words.adds_bos);
        Ok(tokenizer)
    }

    fn sentencepiece(vocabulary: &Vocabulary<'_>) -> Result<Self, GgufError> {
        let Vocabulary { gguf, types, .. } = vocabulary;
        let bytes = TokenBytes::of_sentencepiece(vocabulary.tokens, types);
        let byte_tokens = vocabulary.byte_tokens()?;
        let unknown = vocabulary.special("tokenizer.ggml.unknown_token_id")?;
        let unknown = unknown.or_else(|| types.iter().position(|&kind| kind == TYPE_UNKNOWN).map(|id| id as u32));
        let merging = SentencePiece::new(gguf, types, &bytes, &byte_tokens, unknown)?;
        let mut tokenizer = Self::new(vocabulary, Merging::SentencePiece(merging), bytes)?;
        // llama.cpp's values for files that say nothing.
        tokenizer.adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
        tokenizer.adds_space = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        tokenizer.bos = tokenizer.bos.or(Some(1).filter(|&token| vocabulary.is_control(token)));
        if gguf.string("general.architecture")? == Some("phi3") {
            // Its templates write line breaks there, which the model has never seen.
            let others = ["<s>", "<unk>", "<|endoftext|>"];
            let taking = vocabulary.of_type(&[TYPE_CONTROL]).filter(|(text, _)| !others.contains(text));
            tokenizer.taking_space = taking.map(|(_, token)| token).collect();
        }
        Ok(tokenizer)
    }

    fn new(vocabulary: &Vocabulary<'_>, merging: Merging, bytes: TokenBytes) -> Result<Self, GgufError> {
        let control = vocabulary.of_type(&[TYPE_CONTROL, TYPE_UNKNOWN]);
        let control = Markers::new(control.map(|(text, token)| (text.to_owned(), token)));
        let user_defined = vocabulary
            .of_type(&[TYPE_USER_DEFINED])
            .map(|(_, token)| (String::from_utf8_lossy(bytes.of(token)).into_owned(), token));
        let user_defined = Markers::new(user_defined);
        let mut ends: HashSet<u32> = HashSet::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(vocabulary.special(key)?);
        }
        ends.extend(
            vocabulary.of_type(&[TYPE_CONTROL]).filter(|(text, _)| END_OF_TURN.contains(text)).map(|(_, token)| token),
        );
        if ends.is_empty() {
            return Err(vocabulary.gguf.error("names no end-of-text token (tokenizer.ggml.eos_token_id)"));
        }
        let bos = vocabulary.special("tokenizer.ggml.bos_token_id")?;
        let (adds_bos, adds_space, taking_space) = (false, false, HashSet::new());
        Ok(Self { merging, control, user_defined, bytes, bos, adds_bos, adds_space, taking_space, ends })
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.bytes.tokens()
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
        if self.adds_bos {
            tokens.extend(self.bos);
        }
        self.encode_plain(&self.normal(text), &mut tokens)?;
        Ok(tokens)
    }

    /// Turns text that follows other text into tokens that spell exactly it.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        self.encode_plain(text, &mut tokens)?;
        Ok(tokens)
    }

    /// Turns a rendered chat into tokens: control tokens where the template wrote them, plain text where a message did.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, EncodeError> {
        let mut tokens = Vec::new();
        let mut plain = String::new();
        let mut takes_space = false;
        for piece in self.control.split(prompt.text(), Some(prompt.guard())) {
            match piece {
                Piece::Text(text) => {
                    plain.clear();
                    plain.extend(text.chars().filter(|&character| character != prompt.guard()));
                    let text = if takes_space { plain.trim_start() } else { &plain };
                    self.encode_plain(&self.normal(text), &mut tokens)?;
                }
                Piece::Marker(token) => {
                    takes_space = self.taking_space.contains(&token);
                    tokens.push(token);
                }
            }
        }
        // Many templates write the beginning-of-text token themselves.
        if self.adds_bos && tokens.first().copied() != self.bos {
            tokens.splice(0..0, self.bos);
        }
        Ok(tokens)
    }

    /// Whether the text behind `token` begins with a space that is none of the text's own.
    pub fn begins_with_space(&self, token: Option<u32>) -> bool {
        self.adds_space && token.is_none_or(|token| self.control.text(token).is_some())
    }

    /// Turns the tokens of a whole text back into it. Control tokens are left out, bytes that are no UTF-8 are replaced.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.token_bytes(token)).copied().collect();
        let text = bytes.strip_prefix(b" ").filter(|_| self.adds_space).unwrap_or(&bytes);
        String::from_utf8_lossy(text).into_owned()
    }

    /// What `token` adds to the text; not always whole characters. Empty for control tokens and beyond the vocabulary.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.bytes.of(token)
    }

    /// A token for people: the text that it adds, or the name of a control token.
    pub fn token_text(&self, token: u32) -> String {
        match self.control.text(token) {
            Some(name) => name.to_owned(),
            None => String::from_utf8_lossy(self.token_bytes(token)).into_owned(),
        }
    }

    /// `text`, before which there is no other, in the form in which the model knows it.
    fn normal<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.merging {
            Merging::ByteLevel { composed: true, .. } if !text.is_ascii() => {
                let mut normal = NormalizedString::from(text);
                normal.nfc();
                Cow::Owned(normal.get().to_owned())
            }
            Merging::SentencePiece(_) if self.adds_space && !text.is_empty() => Cow::Owned(format!(" {text}")),
            _ => Cow::Borrowed(text),
        }
    }

    /// Appends the tokens of `text`.
    fn encode_plain(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), EncodeError> {
        for piece in self.user_defined.split(text, None) {
            match (piece, &self.merging) {
                (Piece::Marker(token), _) => tokens.push(token),
                (Piece::Text(text), Merging::ByteLevel { bpe, .. }) => {
                    let encoding = bpe.encode_fast(text, false).map_err(|error| EncodeError(error.to_string()))?;
                    tokens.extend_from_slice(encoding.get_ids());
                }
                (Piece::Text(text), Merging::SentencePiece(model)) => model.encode(text, &self.bytes, tokens),
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

impl<'a> Vocabulary<'a> {
    fn of(gguf: &'a Gguf) -> Result<Self, GgufError> {
        let tokens = gguf.require("tokenizer.ggml.tokens", gguf.strings("tokenizer.ggml.tokens")?)?;
        let types = gguf.require("tokenizer.ggml.token_type", gguf.integers("tokenizer.ggml.token_type")?)?;
        if tokens.is_empty() || tokens.len() != types.len() {
            return Err(gguf.error(format!("has {} tokens but {} token types", tokens.len(), types.len())));
        }
        let mut types = types.to_vec();
        for (token, kind) in tokens.iter().zip(&mut types) {
            if token.starts_with('<') && END_OF_TURN.contains(&token.as_str()) {
                *kind = TYPE_CONTROL;
            }
        }
        Ok(Self { gguf, tokens, types })
    }

    fn of_type(&self, wanted: &'static [i32]) -> impl Iterator<Item = (&'a str, u32)> {
        let tokens = self.tokens.iter().zip(&self.types).enumerate();
        tokens.filter(|(_, (_, kind))| wanted.contains(kind)).map(|(id, (text, _))| (text.as_str(), id as u32))
    }

    fn is_control(&self, token: u32) -> bool {
        self.types.get(token as usize) == Some(&TYPE_CONTROL)
    }

    /// The tokens of single bytes.
    fn byte_tokens(&self) -> Result<Vec<(u8, u32)>, GgufError> {
        let named = |(text, token): (&str, u32)| match bytes::byte(text) {
            Some(byte) => Ok((byte, token)),
            None => Err(self.gguf.error(format!("token {token} is of the type of bytes, but {text:?} names none"))),
        };
        self.of_type(&[TYPE_BYTE]).map(named).collect()
    }

    /// The token under `key`.
    fn special(&self, key: &str) -> Result<Option<u32>, GgufError> {
        match self.gguf.count(key)? {
            Some(id) if id >= self.tokens.len() => {
                let reason = format!("{key} is {id}, but there are only {} tokens", self.tokens.len());
                Err(self.gguf.error(reason))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    }
}

fn bpe(
    gguf: &Gguf,
    tokens: &[String],
    types: &[i32],
    merges: &[String],
    ignore_merges: bool,
) -> Result<BPE, GgufError> {
    // Control tokens stay out, so that no text can merge into one, and so do those without a text.
    let mergeable = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| has_text(**kind));
    let vocabulary: Vocab = mergeable.map(|(id, (text, _))| (text.clone(), id as u32)).collect();
    let fewer = vocabulary.len() < types.iter().filter(|kind| has_text(**kind)).count();
    if let Some((first, second)) = fewer.then(|| equal(tokens, types)).flatten() {
        return Err(gguf.error(format!("tokens {first} and {second} are both {:?}", tokens[first])));
    }
    let mut both = String::new();
    let pairs = merges
        .iter()
        .map(|merge| {
            // The builder refuses unknown parts itself, and relies on the whole being known.
            let pair = merge.split_once(' ').filter(|(left, right)| {
                both.clear();
                both.extend([*left, *right]);
                vocabulary.contains_key(&both)
            });
            pair.map(|(left, right)| (left.to_owned(), right.to_owned())).ok_or_else(|| {
                gguf.error(format!("merge {merge:?} is not made of tokens of the vocabulary, or makes none"))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    BPE::builder()
        .vocab_and_merges(vocabulary, pairs)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|error| gguf.error(format!("its vocabulary can't be used: {error}")))
}

/// The first two tokens of one text that could both come of it.
fn equal(tokens: &[String], types: &[i32]) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    let texts = tokens.iter().zip(types).enumerate().filter(|(_, (text, kind))| has_text(**kind) && !is_replaced(text));
    let mut texts = texts.filter(|(_, (text, _))| !text.is_empty());
    texts.find_map(|(token, (text, _))| seen.insert(text, token).map(|first| (first, token)))
}

/// Whether a text holds what stands for bytes that are no UTF-8.
fn is_replaced(text: &str) -> bool {
    text.contains(char::REPLACEMENT_CHARACTER)
}

/// Whether text may become a token of this type.
fn has_text(kind: i32) -> bool {
    matches!(kind, TYPE_UNDEFINED | TYPE_NORMAL | TYPE_USER_DEFINED)
}
