//! `POST /v1/embeddings`: texts as vectors.

use axum::{
    Json,
    extract::{Request, State},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::Value;

use super::{
    Api,
    error::ApiError,
    fields::{Fields, Unsupported, wrong_type},
    receive, sampling,
};
use crate::embedding::{Embeddings, Input, MAX_INPUTS};

/// Accepted and without effect: it names the client's own user.
const UNSUPPORTED: [Unsupported; 1] = [("user", Value::is_string)];

/// Largest `dimensions` that is a number of dimensions at all.
const MAX_DIMENSIONS: i64 = i32::MAX as i64;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    Float,
    /// Four bytes a number, the lowest first.
    Base64,
}

#[derive(Debug, PartialEq)]
struct Asked {
    model: String,
    inputs: Vec<Input>,
    encoding: Encoding,
    dimensions: Option<usize>,
}

#[derive(Serialize)]
pub struct Answer {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Embeds texts.
pub async fn create(state: State<Api>, request: Request) -> Result<Json<Answer>, ApiError> {
    let (id, fields) = receive(&state, request).await?;
    let Asked { model, inputs, encoding, dimensions } = parse(fields)?;
    let count = inputs.len();
    let embeddings = state.inference.embedder.embed(&model, inputs, dimensions).await;
    let Embeddings { model, made } =
        embeddings.inspect_err(|error| tracing::info!(request_id = id, reason = %error, "embedding refused"))?;
    tracing::info!(
        request_id = id,
        model,
        texts = count,
        tokens = made.tokens,
        cached = made.cached_tokens,
        "embedded"
    );
    let vector = |vector: Vec<f32>| match encoding {
        Encoding::Float => Vector::Float(vector),
        Encoding::Base64 => {
            Vector::Base64(STANDARD.encode(vector.iter().copied().flat_map(f32::to_le_bytes).collect::<Vec<_>>()))
        }
    };
    let vectors = made.vectors.into_iter().map(vector).enumerate();
    Ok(Json(Answer {
        object: "list",
        data: vectors.map(|(index, embedding)| Embedding { object: "embedding", index, embedding }).collect(),
        model,
        usage: Usage { prompt_tokens: made.tokens, total_tokens: made.tokens },
    }))
}

fn parse(mut fields: Fields) -> Result<Asked, ApiError> {
    let model = sampling::model(&mut fields)?;
    let inputs = inputs(fields.require("input")?)?;
    let encoding = match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            let message = format!("'encoding_format' is '{other}'; it must be 'float' or 'base64'.");
            return Err(ApiError::invalid("encoding_format", "invalid_value", message));
        }
    };
    let dimensions = fields.integer("dimensions", 1..=MAX_DIMENSIONS)?.and_then(|number| usize::try_from(number).ok());
    fields.finish("", &UNSUPPORTED)?;
    Ok(Asked { model, inputs, encoding, dimensions })
}

/// One text or several, or tokens in place of texts.
fn inputs(value: Value) -> Result<Vec<Input>, ApiError> {
    let values = match value {
        Value::Array(values) if values.first().is_some_and(Value::is_number) => {
            return Ok(vec![Input::Tokens(tokens("input", values)?)]);
        }
        Value::Array(values) => values,
        value @ Value::String(_) => return Ok(vec![input("input", value)?]),
        other => return Err(wrong_type("input", "a string or an array", &other)),
    };
    if values.is_empty() {
        return Err(ApiError::invalid("input", "empty_array", "'input' must hold at least one text."));
    }
    if values.len() > MAX_INPUTS {
        let message = format!("'input' holds {} texts, at most {MAX_INPUTS} are allowed.", values.len());
        return Err(ApiError::invalid("input", "array_above_max_length", message));
    }
    values.into_iter().enumerate().map(|(index, value)| input(&format!("input[{index}]"), value)).collect()
}

fn input(param: &str, value: Value) -> Result<Input, ApiError> {
    match value {
        Value::String(text) if text.is_empty() => {
            Err(ApiError::invalid(param, "empty_string", format!("'{param}' must not be an empty text.")))
        }
        Value::String(text) => Ok(Input::Text(text)),
        Value::Array(values) => Ok(Input::Tokens(tokens(param, values)?)),
        other => Err(wrong_type(param, "a string or an array of tokens", &other)),
    }
}

fn tokens(param: &str, values: Vec<Value>) -> Result<Vec<u32>, ApiError> {
    if values.is_empty() {
        return Err(ApiError::invalid(param, "empty_array", format!("'{param}' must hold at least one token.")));
    }
    let token = |(index, value): (usize, Value)| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| wrong_type(&format!("{param}[{index}]"), "a token of the model", &value))
    };
    values.into_iter().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(body: Value) -> Result<Asked, ApiError> {
        parse(Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn an_input_is_texts_or_tokens() {
        let text = |text: &str| Input::Text(text.to_owned());
        for (input, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Input::Tokens(vec![1, 2])]),
            (json!([[1], [2, 3]]), vec![Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]),
        ] {
            assert_eq!(parsed(json!({"model": "m", "input": input})).unwrap().inputs, expected);
        }
    }

    #[test]
    fn what_cannot_be_embedded_is_refused_by_name() {
        let many = vec!["a"; MAX_INPUTS + 1];
        for (input, param, code) in [
            (json!(""), "input", "empty_string"),
            (json!(["a", ""]), "input[1]", "empty_string"),
            (json!([]), "input", "empty_array"),
            (json!([[]]), "input[0]", "empty_array"),
            (json!(many), "input", "array_above_max_length"),
            (json!({"a": 1}), "input", "invalid_type"),
            (json!(7), "input", "invalid_type"),
            (json!([1, -1]), "input[1]", "invalid_type"),
            (json!([1, "a"]), "input[1]", "invalid_type"),
            (json!(["a", true]), "input[1]", "invalid_type"),
            (json!([[1.5]]), "input[0][0]", "invalid_type"),
            (json!([5_000_000_000u64]), "input[0]", "invalid_type"),
            (Value::Null, "input", "missing_required_parameter"),
        ] {
            let error = parsed(json!({"model": "m", "input": input})).unwrap_err().body();
            assert_eq!((&error["error"]["param"], &error["error"]["code"]), (&json!(param), &json!(code)), "{input}");
        }
    }

    #[test]
    fn other_fields_are_checked_as_well() {
        let whole = json!({"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 384, "user": "u"});
        let asked = parsed(whole).unwrap();
        assert_eq!((asked.encoding, asked.dimensions), (Encoding::Base64, Some(384)));
        for (field, value) in [
            ("encoding_format", json!("int8")),
            ("encoding_format", json!(1)),
            ("dimensions", json!(0)),
            ("dimensions", json!("384")),
            ("model", Value::Null),
            ("temperature", json!(1)),
        ] {
            let mut body = json!({"model": "m", "input": "a"});
            body[field] = value;
            assert_eq!(parsed(body).unwrap_err().body()["error"]["param"], field);
        }
    }
}
