//! The messages of a chat.

use serde_json::{Value, json};

use super::{
    error::ApiError,
    fields::{Fields, Unsupported, wrong_type},
    tools::{function_type, tool_name},
};
use crate::{template::ChatMessage, tools::ToolCall};

/// Fields of a message that can't be honoured.
const UNSUPPORTED: [Unsupported; 5] = [
    ("audio", |_| false),
    ("annotations", |value| *value == json!([])),
    ("function_call", |_| false),
    // Tells apart participants of one role; templates have no place for it.
    ("name", Value::is_string),
    ("refusal", |value| value == ""),
];

/// Reads the messages of a request.
pub fn messages(value: Value) -> Result<Vec<ChatMessage>, ApiError> {
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
        "system" | "user" | "assistant" | "tool" => role,
        // The newer name of the same thing.
        "developer" => "system".to_owned(),
        other => {
            let message = format!(
                "'{role_place}' is '{other}'; supported are 'system', 'developer', 'user', 'assistant' and 'tool'."
            );
            return Err(ApiError::invalid(role_place, "invalid_value", message));
        }
    };
    let calls = if role == "assistant" { calls(&place, &mut fields)? } else { Vec::new() };
    let call_id = if role == "tool" { Some(required_text(&place, &mut fields, "tool_call_id")?) } else { None };
    let content_place = format!("{place}.content");
    let content = match fields.take("content") {
        Some(content) => content_text(&content_place, content)?,
        // A message that calls need not say anything.
        None if !calls.is_empty() => String::new(),
        None => return Err(missing(content_place)),
    };
    fields.finish(&format!("{place}."), &UNSUPPORTED)?;
    Ok(ChatMessage { role, content, calls, call_id })
}

/// The calls that the assistant made in a message.
fn calls(place: &str, fields: &mut Fields) -> Result<Vec<ToolCall>, ApiError> {
    let values = match fields.take("tool_calls") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(wrong_type(&format!("{place}.tool_calls"), "an array", &other)),
    };
    let call = |(index, value)| {
        let place = format!("{place}.tool_calls[{index}]");
        let Value::Object(map) = value else { return Err(wrong_type(&place, "an object", &value)) };
        let mut fields = Fields::from(map);
        function_type(&mut fields, &place)?;
        let id = required_text(&place, &mut fields, "id")?;
        let inner = format!("{place}.function");
        let function = fields.take("function").ok_or_else(|| missing(inner.clone()))?;
        // A stream's deltas number the calls, and clients send back what they put together.
        fields.finish(&format!("{place}."), &[("index", Value::is_u64)])?;
        let Value::Object(map) = function else { return Err(wrong_type(&inner, "an object", &function)) };
        let mut fields = Fields::from(map);
        let name = tool_name(&mut fields, &inner)?;
        let arguments = required_text(&inner, &mut fields, "arguments")?;
        fields.finish(&format!("{inner}."), &[])?;
        Ok(ToolCall { id, name, arguments })
    };
    values.into_iter().enumerate().map(call).collect()
}

fn required_text(place: &str, fields: &mut Fields, key: &str) -> Result<String, ApiError> {
    let place = format!("{place}.{key}");
    match fields.take(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(&place, "a string", &other)),
        None => Err(missing(place)),
    }
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

/// 400 for a field that is not there.
pub fn missing(param: String) -> ApiError {
    let message = format!("'{param}' is required.");
    ApiError::invalid(param, "missing_required_parameter", message)
}
