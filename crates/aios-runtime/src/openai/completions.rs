//! `POST /v1/completions`: plain text, continued.

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Api,
    answer::{Shape, answer},
    error::ApiError,
    fields::{Fields, Unsupported, wrong_type},
    form, receive,
    sampling::{self, Delivery},
};
use crate::inference::{self, Input};

/// Tokens of an answer where the request does not say; the API's own default.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Most other tokens whose probability is told, as in OpenAI's API.
const MOST_LOGPROBS: i64 = 5;

/// Fields that can't be honoured, with the values that ask for nothing.
const UNSUPPORTED: [Unsupported; 3] =
    [("best_of", |value| value == 1), ("echo", |value| *value == json!(false)), ("suffix", |value| value == "")];

/// Continues a text.
pub async fn complete(state: State<Api>, request: Request) -> Result<Response, ApiError> {
    let (id, fields) = receive(&state, request).await?;
    let (request, delivery) = parse(id, fields)?;
    let id = format!("cmpl-{}", request.id);
    answer(&state.inference, request, Shape::Text, id, delivery).await
}

fn parse(id: String, mut fields: Fields) -> Result<(inference::Request, Delivery), ApiError> {
    let model = sampling::model(&mut fields)?;
    let input = Input::Text(prompt(fields.require("prompt")?)?);
    let sampling = sampling::sampling(&mut fields)?;
    let max_tokens = sampling::token_bound(&mut fields, "max_tokens")?.or(Some(DEFAULT_MAX_TOKENS));
    let stop = sampling::stops(&mut fields)?;
    let delivery = sampling::delivery(&mut fields)?;
    let expected = form::expected(&mut fields)?;
    // Even 0 asks for something: the chosen token's probability.
    let logprobs = fields.integer("logprobs", 0..=MOST_LOGPROBS)?.and_then(|top| usize::try_from(top).ok());
    let retention = sampling::retention(&mut fields)?;
    fields.finish("", &[&UNSUPPORTED[..], &sampling::UNSUPPORTED].concat())?;
    let request = inference::Request { id, model, input, sampling, max_tokens, stop, expected, logprobs, retention };
    Ok((request, delivery))
}

/// One text, alone or in an array.
fn prompt(value: Value) -> Result<String, ApiError> {
    let value = match value {
        Value::Array(mut values) if values.len() == 1 => values.remove(0),
        Value::Array(values) => {
            let message = format!("'prompt' holds {} elements; one text is supported.", values.len());
            return Err(ApiError::invalid("prompt", "unsupported_parameter", message));
        }
        value => value,
    };
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type("prompt", "a string", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: Value) -> Result<(inference::Request, Delivery), ApiError> {
        parse("id".into(), Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_prompt_is_one_text() {
        for prompt in [json!("a"), json!(["a"])] {
            let (request, _) = parsed(json!({"model": "m", "prompt": prompt})).unwrap();
            assert!(matches!(request.input, Input::Text(text) if text == "a"));
            assert_eq!(request.max_tokens, Some(DEFAULT_MAX_TOKENS));
        }
        for prompt in [json!(["a", "b"]), json!([]), json!([1, 2]), json!(1), Value::Null] {
            let error = parsed(json!({"model": "m", "prompt": prompt})).map(|_| ()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], "prompt", "{prompt}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (field, value) in [
            ("echo", json!(true)),
            ("best_of", json!(2)),
            ("logprobs", json!(6)),
            ("suffix", json!("end")),
            ("prompt_cache_retention", json!("for ever")),
            ("n", json!(3)),
            ("max_completion_tokens", json!(3)),
        ] {
            let mut body = json!({"model": "m", "prompt": "a"});
            body[field] = value;
            let error = parsed(body).map(|_| ()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], field);
        }
    }
}
