//! `POST /v1/chat/completions`.

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
    receive,
    sampling::{self, Delivery},
};
use crate::{
    inference::{self, Input},
    template::ChatMessage,
};

/// Fields that can't be honoured, with the values that ask for nothing.
const UNSUPPORTED: [Unsupported; 18] = [
    ("audio", |_| false),
    ("function_call", |value| value == "none"),
    ("functions", is_empty_array),
    ("logprobs", |value| *value == json!(false)),
    ("metadata", |value| *value == json!({})),
    ("modalities", |value| *value == json!(["text"])),
    // Without tools there are no calls to make in parallel.
    ("parallel_tool_calls", Value::is_boolean),
    ("prediction", |_| false),
    // Name the client's own user and cache; nothing here depends on them.
    ("prompt_cache_key", Value::is_string),
    ("safety_identifier", Value::is_string),
    ("reasoning_effort", |value| value == "none"),
    ("response_format", |value| *value == json!({"type": "text"})),
    ("service_tier", |value| value == "auto" || value == "default"),
    ("store", |value| *value == json!(false)),
    ("tool_choice", |value| value == "none" || value == "auto"),
    ("tools", is_empty_array),
    ("top_logprobs", |_| false),
    ("web_search_options", |_| false),
];

/// Fields of a message that can't be honoured.
const UNSUPPORTED_IN_MESSAGE: [Unsupported; 6] = [
    ("audio", |_| false),
    ("function_call", |_| false),
    // Tells apart participants of one role; templates have no place for it.
    ("name", Value::is_string),
    ("refusal", |value| value == ""),
    ("tool_call_id", |_| false),
    ("tool_calls", is_empty_array),
];

fn is_empty_array(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Answers a conversation.
pub async fn complete(state: State<Api>, request: Request) -> Result<Response, ApiError> {
    let (id, fields) = receive(&state, request).await?;
    let (request, delivery) = parse(id, fields)?;
    let id = format!("chatcmpl-{}", request.id);
    answer(&state.inference, request, Shape::Chat, id, delivery).await
}

fn parse(id: String, mut fields: Fields) -> Result<(inference::Request, Delivery), ApiError> {
    let model = sampling::model(&mut fields)?;
    let input = Input::Chat(messages(fields.require("messages")?)?);
    let sampling = sampling::sampling(&mut fields)?;
    let old = sampling::token_bound(&mut fields, "max_tokens")?;
    let new = sampling::token_bound(&mut fields, "max_completion_tokens")?;
    if old.is_some() && new.is_some() && old != new {
        let message = "'max_tokens' and 'max_completion_tokens' differ: send one of them.";
        return Err(ApiError::invalid("max_tokens", "invalid_value", message));
    }
    let stop = sampling::stops(&mut fields)?;
    let delivery = sampling::delivery(&mut fields)?;
    fields.finish("", &[&UNSUPPORTED[..], &sampling::UNSUPPORTED].concat())?;
    Ok((inference::Request { id, model, input, sampling, max_tokens: new.or(old), stop }, delivery))
}

fn messages(value: Value) -> Result<Vec<ChatMessage>, ApiError> {
    let Value::Array(values) = value else { return Err(wrong_type("messages", "an array", &value)) };
    if values.is_empty() {
        return Err(ApiError::invalid("messages", "empty_array", "'messages' must hold at least one message."));
    }
    values.into_iter().enumerate().map(|(index, value)| message(index, value)).collect()
}

fn message(index: usize, value: Value) -> Result<ChatMessage, ApiError> {
    let place = format!("messages[{index}]");
    let Value::Object(map) = value else { return Err(wrong_type(&place, "an object", &value)) };
    let mut fields = Fields::from(map);
    let role_place = format!("{place}.role");
    let role = match fields.take("role") {
        Some(Value::String(role)) => role,
        Some(other) => return Err(wrong_type(&role_place, "a string", &other)),
        None => return Err(missing(role_place)),
    };
    let role = match role.as_str() {
        "system" | "user" | "assistant" => role,
        // The newer name of the same thing.
        "developer" => "system".to_owned(),
        other => {
            let message =
                format!("'{role_place}' is '{other}'; supported are 'system', 'developer', 'user' and 'assistant'.");
            return Err(ApiError::invalid(role_place, "invalid_value", message));
        }
    };
    let content_place = format!("{place}.content");
    let content = match fields.take("content") {
        Some(content) => content_text(&content_place, content)?,
        None => return Err(missing(content_place)),
    };
    fields.finish(&format!("{place}."), &UNSUPPORTED_IN_MESSAGE)?;
    Ok(ChatMessage { role, content })
}

/// A message's content: text, or an array of text parts, which are joined.
fn content_text(place: &str, content: Value) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) if !parts.is_empty() => parts,
        other => return Err(wrong_type(place, "a string or a non-empty array of text parts", &other)),
    };
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        let Value::Object(map) = part else { return Err(wrong_type(&place, "an object", &part)) };
        let mut fields = Fields::from(map);
        match fields.take("type") {
            Some(Value::String(kind)) if kind == "text" => {}
            _ => {
                let message = format!("'{place}.type' must be 'text': this model reads text alone.");
                return Err(ApiError::invalid(format!("{place}.type"), "unsupported_content", message));
            }
        }
        match fields.take("text") {
            Some(Value::String(part)) => text.push_str(&part),
            Some(other) => return Err(wrong_type(&format!("{place}.text"), "a string", &other)),
            None => return Err(missing(format!("{place}.text"))),
        }
        fields.finish(&format!("{place}."), &[])?;
    }
    Ok(text)
}

fn missing(param: String) -> ApiError {
    let message = format!("'{param}' is required.");
    ApiError::invalid(param, "missing_required_parameter", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: Value) -> Result<(inference::Request, Delivery), ApiError> {
        parse("id".into(), Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
        body[field] = value;
        body
    }

    #[test]
    fn text_parts_are_joined_and_developer_means_system() {
        let body = json!({"model": "m", "max_completion_tokens": 3, "stop": "x", "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c", "name": "somebody"},
        ]});
        let (request, delivery) = parsed(body).unwrap();
        let Input::Chat(messages) = request.input else { panic!("no chat") };
        let expected = [("system", "ab"), ("user", "c")];
        let found: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!((request.max_tokens, delivery), (Some(3), Delivery::Whole));
        assert_eq!(request.stop, ["x"]);
    }

    #[test]
    fn values_that_ask_for_nothing_are_accepted() {
        for (field, value) in [
            ("n", json!(1)),
            ("tools", json!([])),
            ("response_format", json!({"type": "text"})),
            ("logprobs", json!(false)),
            ("frequency_penalty", json!(0)),
            ("presence_penalty", json!(0.0)),
            ("logit_bias", json!({})),
            ("user", json!("me")),
            ("parallel_tool_calls", json!(true)),
            ("seed", json!(-1)),
            ("top_p", json!(0)),
            ("tools", Value::Null),
        ] {
            assert!(parsed(with(field, value.clone())).is_ok(), "{field}: {value}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (field, value, param) in [
            ("n", json!(2), "n"),
            ("tools", json!([{"type": "function"}]), "tools"),
            ("response_format", json!({"type": "json_schema"}), "response_format"),
            ("logprobs", json!(true), "logprobs"),
            ("frequency_penalty", json!(0.5), "frequency_penalty"),
            ("top_k", json!(40), "top_k"),
            ("temperature", json!(2.5), "temperature"),
            ("temperature", json!("hot"), "temperature"),
            ("max_tokens", json!(0), "max_tokens"),
            ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
            ("stop", json!([1]), "stop[0]"),
            ("stream", json!("yes"), "stream"),
            ("stream_options", json!({"include_usage": true}), "stream_options"),
            ("messages", json!([]), "messages"),
            ("messages", json!("Hi"), "messages"),
            ("messages", json!([1]), "messages[0]"),
            ("messages", json!([{"content": "Hi"}]), "messages[0].role"),
            ("messages", json!([{"role": "tool", "content": "Hi"}]), "messages[0].role"),
            ("messages", json!([{"role": "user"}]), "messages[0].content"),
            ("messages", json!([{"role": "user", "content": "Hi", "x": 1}]), "messages[0].x"),
            (
                "messages",
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content[0].type",
            ),
            ("model", Value::Null, "model"),
            ("model", json!(1), "model"),
        ] {
            let error = parsed(with(field, value.clone())).map(|_| ()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], param, "{field}: {value}");
        }
    }
}
