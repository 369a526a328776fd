//! Probabilities of tokens in the API's two shapes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Shape;
use crate::{generate::TokenLogprob, registry::Resident, tokenizer::Tokenizer};

/// Least logarithm that is written: JSON has no infinity, and the API writes this one.
const LEAST: f32 = -9999.0;

/// Writes the probabilities of an answer's tokens.
pub(super) struct Logprobs {
    shape: Shape,
    model: Arc<Resident>,
    /// Characters of the answer before the next token.
    offset: usize,
}

impl Logprobs {
    pub(super) fn new(shape: Shape, model: Arc<Resident>) -> Self {
        Self { shape, model, offset: 0 }
    }

    /// The object for the next tokens of the answer.
    pub(super) fn of(&mut self, tokens: &[TokenLogprob]) -> Value {
        let tokenizer = &self.model.tokenizer;
        match self.shape {
            Shape::Chat => {
                let content: Vec<Value> = tokens.iter().map(|token| in_chat(tokenizer, token)).collect();
                json!({"content": content, "refusal": null})
            }
            Shape::Text => {
                let mut offsets = Vec::with_capacity(tokens.len());
                for token in tokens {
                    offsets.push(self.offset);
                    // A character counts where it begins.
                    let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
                    self.offset += tokenizer.token_bytes(token.token).iter().filter(begins).count();
                }
                let texts: Vec<String> = tokens.iter().map(|token| tokenizer.token_text(token.token)).collect();
                let logprobs: Vec<f32> = tokens.iter().map(|token| token.logprob.max(LEAST)).collect();
                let top: Vec<Value> = tokens.iter().map(|token| in_text(tokenizer, token)).collect();
                json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets})
            }
        }
    }

    /// Appends the next tokens to the object of those before.
    pub(super) fn join(&mut self, before: &mut Value, tokens: &[TokenLogprob]) {
        let next = self.of(tokens);
        let (Value::Object(before), Value::Object(next)) = (&mut *before, &next) else {
            *before = next;
            return;
        };
        for (name, values) in next {
            if let (Some(Value::Array(before)), Value::Array(values)) = (before.get_mut(name), values) {
                before.extend(values.iter().cloned());
            }
        }
    }
}

fn in_chat(tokenizer: &Tokenizer, token: &TokenLogprob) -> Value {
    let entry = |token: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(token);
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        json!({"token": tokenizer.token_text(token), "logprob": logprob.max(LEAST), "bytes": bytes})
    };
    let top: Vec<Value> = token.top.iter().map(|&(token, logprob)| entry(token, logprob)).collect();
    let mut value = entry(token.token, token.logprob);
    value["top_logprobs"] = top.into();
    value
}

/// The likeliest tokens, and the chosen one where it is not among them. Of tokens with one text the likelier counts.
fn in_text(tokenizer: &Tokenizer, token: &TokenLogprob) -> Value {
    let mut map = Map::new();
    for &(token, logprob) in token.top.iter().chain([&(token.token, token.logprob)]) {
        map.entry(tokenizer.token_text(token)).or_insert_with(|| logprob.max(LEAST).into());
    }
    map.into()
}
