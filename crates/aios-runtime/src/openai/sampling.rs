//! Request fields that both kinds of completion have.

use serde_json::{Value, json};

use super::{
    error::ApiError,
    fields::{Fields, Unsupported},
};
use crate::{
    inference::{MAX_STOPS, Retention},
    registry,
    sampling::Sampling,
};

/// Largest `max_tokens`. Beyond any context, and within every integer that a client may use.
const MAX_TOKENS: i64 = i32::MAX as i64;

/// Fields of both kinds of completion that can't be honoured, with the values that ask for nothing.
pub const UNSUPPORTED: [Unsupported; 5] = [
    ("frequency_penalty", |value| value == 0.0 || value == 0),
    ("presence_penalty", |value| value == 0.0 || value == 0),
    ("logit_bias", |value| *value == json!({})),
    ("n", |value| value == 1),
    // Names the client's own user; nothing here depends on it.
    ("user", Value::is_string),
];

/// How the answer is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One object.
    Whole,
    /// Server-sent events.
    Stream {
        /// Whether the stream ends with a chunk of usage figures.
        usage: bool,
    },
}

/// The model's id, which is required here, other than in gRPC.
pub fn model(fields: &mut Fields) -> Result<String, ApiError> {
    match fields.string("model")? {
        Some(model) if model.is_empty() => Err(ApiError::unknown_model("")),
        Some(model) => Ok(model),
        None => {
            let message = format!("'model' is required; '{}' names the default model.", registry::DEFAULT);
            Err(ApiError::invalid("model", "missing_required_parameter", message))
        }
    }
}

/// `temperature`, `top_p` and `seed`.
pub fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let temperature = fields.number("temperature", 0.0..=f64::from(Sampling::MAX_TEMPERATURE))?.unwrap_or(1.0) as f32;
    let nucleus = fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0) as f32;
    // The API allows 0, which leaves the likeliest token alone; so does the smallest number above it.
    let top_p = nucleus.max(f32::MIN_POSITIVE);
    let seed = fields.integer("seed", i64::MIN..=i64::MAX)?.map(i64::cast_unsigned);
    Ok(Sampling { temperature, top_p, seed })
}

/// A bound on the tokens of the answer.
pub fn token_bound(fields: &mut Fields, key: &str) -> Result<Option<usize>, ApiError> {
    let bound = fields.integer(key, 1..=MAX_TOKENS)?;
    Ok(bound.and_then(|bound| usize::try_from(bound).ok()))
}

/// `stop`.
pub fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    fields.strings("stop", MAX_STOPS)
}

/// `prompt_cache_retention`
pub fn retention(fields: &mut Fields) -> Result<Retention, ApiError> {
    match fields.string("prompt_cache_retention")?.as_deref() {
        None | Some("in_memory" | "in-memory") => Ok(Retention::Memory),
        Some("24h") => Ok(Retention::Disk),
        Some(other) => {
            let message = format!("'prompt_cache_retention' is '{other}'; it must be 'in_memory' or '24h'.");
            Err(ApiError::invalid("prompt_cache_retention", "invalid_value", message))
        }
    }
}

/// `stream` and `stream_options`.
pub fn delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    let stream = fields.flag("stream")?;
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(if stream { Delivery::Stream { usage: false } } else { Delivery::Whole });
    };
    let usage = options.flag("include_usage")?;
    options.finish("stream_options.", &[("include_obfuscation", |value| *value == json!(false))])?;
    if !stream {
        let message = "'stream_options' is only allowed with 'stream': true.";
        return Err(ApiError::invalid("stream_options", "invalid_value", message));
    }
    Ok(Delivery::Stream { usage })
}
