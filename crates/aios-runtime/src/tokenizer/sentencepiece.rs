//! SentencePiece's BPE (`tokenizer.ggml.model` is `llama`): no words and no list of merges; of all neighbours whose
//! merger is a token, those with the best score are merged first, the left ones of equals. What is no token in the end
//! becomes the tokens of its bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::bytes::TokenBytes;
use super::{TYPE_NORMAL, TYPE_UNDEFINED, is_replaced};
use crate::gguf::{Gguf, GgufError};

/// No symbol, no token.
const NONE: u32 = u32::MAX;

/// The tokens that text may become, and what comes first.
pub(super) struct SentencePiece {
    /// Tokens by what they stand for. A space is a space here, not the U+2581 of the file; so U+2581 in a text is no
    /// space either, and comes back as it is.
    tokens: HashTable<u32>,
    hasher: RandomState,
    scores: Vec<f32>,
    /// Bytes of the longest token.
    longest: usize,
    fallback: Fallback,
}

/// What becomes of a character that is no token.
enum Fallback {
    /// The tokens of its bytes.
    Bytes(Box<[u32; 256]>),
    /// The unknown token.
    Unknown(u32),
}

/// A part of the text that is a token, or one character.
struct Symbol {
    start: usize,
    /// In bytes; 0 once it is part of the symbol before.
    len: usize,
    before: u32,
    after: u32,
    token: u32,
}

/// Two neighbours that would be a token together.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: usize,
    token: u32,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    /// `bytes` is what the tokens stand for, `byte_tokens` those of single bytes, `unknown` the token for the rest.
    pub(super) fn new(
        gguf: &Gguf,
        types: &[i32],
        bytes: &TokenBytes,
        byte_tokens: &[(u8, u32)],
        unknown: Option<u32>,
    ) -> Result<Self, GgufError> {
        const SCORES: &str = "tokenizer.ggml.scores";
        let scores = gguf.require(SCORES, gguf.floats(SCORES)?)?;
        if scores.len() != types.len() {
            return Err(gguf.error(format!("has {} tokens but {} scores ({SCORES})", types.len(), scores.len())));
        }
        if let Some(token) = scores.iter().position(|score| score.is_nan()) {
            return Err(gguf.error(format!("the score of token {token} is no number ({SCORES})")));
        }
        let fallback = fallback(byte_tokens, unknown).ok_or_else(|| {
            gguf.error("has neither a token for each byte nor an unknown token, so that most texts have no tokens")
        })?;
        let hasher = RandomState::new();
        let mut tokens = HashTable::with_capacity(types.len());
        let mut longest = 0;
        let text = |word| String::from_utf8_lossy(word);
        for (token, _) in types.iter().enumerate().filter(|(_, kind)| [TYPE_NORMAL, TYPE_UNDEFINED].contains(kind)) {
            let word = bytes.of(token as u32);
            if !word.is_empty() {
                longest = longest.max(word.len());
                let same = |&other: &u32| bytes.of(other) == word;
                let hash = |&other: &u32| hasher.hash_one(bytes.of(other));
                match tokens.entry(hasher.hash_one(word), same, hash) {
                    Entry::Vacant(place) => _ = place.insert(token as u32),
                    Entry::Occupied(place) if !is_replaced(&text(word)) => {
                        let text = text(word);
                        return Err(gguf.error(format!("tokens {} and {token} are both {text:?}", place.get())));
                    }
                    // Texts that are no UTF-8 were replaced when they were read.
                    Entry::Occupied(_) => {}
                }
            }
        }
        // Of two zeros none is the better score.
        let scores = scores.iter().map(|score| score + 0.0).collect();
        Ok(Self { tokens, hasher, scores, longest, fallback })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, bytes: &TokenBytes, tokens: &mut Vec<u32>) {
        let mut symbols = self.symbols(text, bytes);
        let mut pairs = BinaryHeap::new();
        for left in 1..symbols.len() {
            pairs.extend(self.pair(text, bytes, &symbols, left as u32 - 1, left as u32));
        }
        while let Some(Pair { left, right, len, token, .. }) = pairs.pop() {
            let (first, second) = (&symbols[left as usize], &symbols[right as usize]);
            // A pair of which a part has gone elsewhere.
            if first.len == 0 || second.len == 0 || first.len + second.len != len {
                continue;
            }
            let (before, after) = (first.before, second.after);
            symbols[right as usize].len = 0;
            let merged = &mut symbols[left as usize];
            (merged.len, merged.after, merged.token) = (len, after, token);
            if after != NONE {
                symbols[after as usize].before = left;
            }
            pairs.extend(self.pair(text, bytes, &symbols, before, left));
            pairs.extend(self.pair(text, bytes, &symbols, left, after));
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            match (symbol.token, &self.fallback) {
                (NONE, Fallback::Bytes(of)) => {
                    let character = &text.as_bytes()[symbol.start..symbol.start + symbol.len];
                    tokens.extend(character.iter().map(|&byte| of[byte as usize]));
                }
                (NONE, Fallback::Unknown(unknown)) => tokens.push(*unknown),
                (token, _) => tokens.push(token),
            }
        }
    }

    /// The characters of `text`.
    fn symbols(&self, text: &str, bytes: &TokenBytes) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(text.len());
        for (start, character) in text.char_indices() {
            let len = character.len_utf8();
            let token = self.token(&text.as_bytes()[start..start + len], bytes).unwrap_or(NONE);
            let index = symbols.len() as u32;
            let after = if start + len == text.len() { NONE } else { index + 1 };
            symbols.push(Symbol { start, len, before: index.checked_sub(1).unwrap_or(NONE), after, token });
        }
        symbols
    }

    fn pair(&self, text: &str, bytes: &TokenBytes, symbols: &[Symbol], left: u32, right: u32) -> Option<Pair> {
        if left == NONE || right == NONE {
            return None;
        }
        let (first, second) = (&symbols[left as usize], &symbols[right as usize]);
        let len = first.len + second.len;
        let token = self.token(&text.as_bytes()[first.start..first.start + len], bytes)?;
        Some(Pair { score: self.scores[token as usize], left, right, len, token })
    }

    fn token(&self, word: &[u8], bytes: &TokenBytes) -> Option<u32> {
        if word.len() > self.longest {
            return None;
        }
        self.tokens.find(self.hasher.hash_one(word), |&token| bytes.of(token) == word).copied()
    }
}

fn fallback(byte_tokens: &[(u8, u32)], unknown: Option<u32>) -> Option<Fallback> {
    let mut of = Box::new([NONE; 256]);
    for &(byte, token) in byte_tokens {
        of[byte as usize] = token;
    }
    if of.contains(&NONE) { unknown.map(Fallback::Unknown) } else { Some(Fallback::Bytes(of)) }
}
