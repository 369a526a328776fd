//! The API's objects around an answer.

use std::{sync::Arc, time::SystemTime};

use serde_json::{Value, json};

use super::Shape;
use crate::{
    generate::Finish,
    inference::Completed,
    openai::models::unix_time,
    registry::{Resident, millis},
    tools::Part,
};

/// Names the build that answered: the same request with the same seed gives the same text on the same build.
const FINGERPRINT: &str = concat!("aios-", env!("CARGO_PKG_VERSION"));

/// What all objects of one answer have in common.
pub(super) struct Frame {
    pub(super) shape: Shape,
    id: String,
    created: u64,
    model: Arc<Resident>,
    /// Calls that were begun in chunks.
    calls: usize,
}

/// What an answer says, as far as it has come.
#[derive(Default)]
pub(super) struct Content {
    text: String,
    calls: Vec<(String, String)>,
}

impl Content {
    pub(super) fn push(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text += &text,
            Part::Call(name) => self.calls.push((name, String::new())),
            Part::Arguments(piece) => {
                if let Some((_, arguments)) = self.calls.last_mut() {
                    *arguments += &piece;
                }
            }
        }
    }

    fn message(&self) -> Value {
        if self.calls.is_empty() {
            return json!({"role": "assistant", "content": self.text, "refusal": null});
        }
        let content = Some(&self.text).filter(|text| !text.trim().is_empty());
        let calls: Vec<Value> = self.calls.iter().map(|(name, arguments)| call(name, arguments)).collect();
        json!({"role": "assistant", "content": content, "refusal": null, "tool_calls": calls})
    }
}

fn call(name: &str, arguments: &str) -> Value {
    let id = format!("call_{:024x}", rand::random::<u128>() >> 32);
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

impl Frame {
    pub(super) fn new(shape: Shape, id: String, model: Arc<Resident>) -> Self {
        Self { shape, id, created: unix_time(SystemTime::now()), model, calls: 0 }
    }

    fn envelope(&self, kind: &str) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model.id,
            "system_fingerprint": FINGERPRINT,
        })
    }

    fn chunk_kind(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        }
    }

    /// What a part of the answer adds to it.
    pub(super) fn delta(&mut self, part: Part) -> Value {
        match (self.shape, part) {
            (Shape::Text, Part::Text(text)) => json!(text),
            (Shape::Chat, Part::Text(text)) => json!({"content": text}),
            (_, Part::Call(name)) => {
                let mut call = call(&name, "");
                call["index"] = self.calls.into();
                self.calls += 1;
                json!({"tool_calls": [call]})
            }
            (_, Part::Arguments(piece)) => {
                let index = self.calls.saturating_sub(1);
                json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            }
        }
    }

    /// What adds nothing.
    pub(super) fn nothing(&self) -> Value {
        match self.shape {
            Shape::Chat => json!({}),
            Shape::Text => json!(""),
        }
    }

    /// One chunk: a piece of the answer, or (with `finish`) its end.
    pub(super) fn chunk(&self, usage: bool, delta: Value, logprobs: Value, finish: Option<&str>) -> Value {
        let name = match self.shape {
            Shape::Chat => "delta",
            Shape::Text => "text",
        };
        let mut chunk = self.envelope(self.chunk_kind());
        chunk["choices"] = json!([{"index": 0, name: delta, "logprobs": logprobs, "finish_reason": finish}]);
        if usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The chunk of a stream's figures.
    pub(super) fn figures(&self, completed: &Completed) -> Value {
        let mut figures = self.envelope(self.chunk_kind());
        figures["choices"] = json!([]);
        figures["usage"] = usage(completed);
        figures["timings"] = timings(completed);
        figures
    }

    /// The whole answer.
    pub(super) fn object(&self, content: &Content, logprobs: Value, completed: &Completed) -> Value {
        let finish = finish_reason(completed, !content.calls.is_empty());
        let (kind, name, value) = match self.shape {
            Shape::Chat => ("chat.completion", "message", content.message()),
            Shape::Text => ("text_completion", "text", json!(content.text)),
        };
        let mut object = self.envelope(kind);
        object["choices"] = json!([{"index": 0, name: value, "logprobs": logprobs, "finish_reason": finish}]);
        object["usage"] = usage(completed);
        object["timings"] = timings(completed);
        object
    }
}

/// Why an answer ended, in the API's words.
pub(super) fn finish_reason(completed: &Completed, has_calls: bool) -> &'static str {
    match completed.generated.finish {
        Finish::Stop if has_calls => "tool_calls",
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

fn usage(completed: &Completed) -> Value {
    let (prompt, completion) = (completed.generated.prompt_tokens, completed.generated.completion_tokens);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": completed.generated.cached_tokens},
    })
}

pub(super) fn timings(completed: &Completed) -> Value {
    let generated = &completed.generated;
    json!({
        "queue_ms": millis(completed.queue_time),
        "prompt_n": generated.prompt_tokens,
        "cache_n": generated.cached_tokens,
        "prompt_ms": millis(generated.prompt_time),
        "predicted_n": generated.completion_tokens,
        "predicted_ms": millis(generated.predict_time),
        "forced_n": generated.forced_tokens,
        "draft_n": generated.drafted_tokens,
        "draft_n_accepted": generated.accepted_tokens,
    })
}
