//! `tools`, `tool_choice` and `parallel_tool_calls`.

use serde_json::{Value, json};

use super::{
    error::ApiError,
    fields::{Fields, wrong_type},
    messages::missing,
};
use crate::tools::{Choice, Tool, Tools};

/// Most tools of a request, as in OpenAI's API.
const MOST_TOOLS: usize = 128;
/// Longest name of a tool, as in OpenAI's API.
const LONGEST_NAME: usize = 64;

/// Takes the fields. Nothing where the model is not to call a tool.
pub fn tools(fields: &mut Fields) -> Result<Option<Tools>, ApiError> {
    let tools = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(values)) if values.len() <= MOST_TOOLS => {
            values.into_iter().enumerate().map(|(index, value)| tool(index, value)).collect::<Result<Vec<_>, _>>()?
        }
        Some(Value::Array(values)) => {
            let message = format!("'tools' holds {} tools, at most {MOST_TOOLS} are allowed.", values.len());
            return Err(ApiError::invalid("tools", "array_above_max_length", message));
        }
        Some(other) => return Err(wrong_type("tools", "an array", &other)),
    };
    if let Some((index, tool)) =
        tools.iter().enumerate().find(|(index, tool)| tools[..*index].iter().any(|other| other.name == tool.name))
    {
        let message = format!("'tools[{index}].function.name' is '{}', as that of another tool is.", tool.name);
        return Err(ApiError::invalid(format!("tools[{index}].function.name"), "invalid_value", message));
    }
    let choice = choice(fields.take("tool_choice"), &tools)?;
    let parallel = match fields.take("parallel_tool_calls") {
        None => true,
        Some(Value::Bool(parallel)) => parallel,
        Some(other) => return Err(wrong_type("parallel_tool_calls", "a boolean", &other)),
    };
    Ok(choice.filter(|_| !tools.is_empty()).map(|choice| Tools { tools, choice, parallel }))
}

fn tool(index: usize, value: Value) -> Result<Tool, ApiError> {
    let place = format!("tools[{index}]");
    let Value::Object(map) = value else { return Err(wrong_type(&place, "an object", &value)) };
    let mut fields = Fields::from(map);
    function_type(&mut fields, &place)?;
    let inner = format!("{place}.function");
    let function = fields.take("function").ok_or_else(|| missing(inner.clone()))?;
    fields.finish(&format!("{place}."), &[])?;
    let Value::Object(map) = function else { return Err(wrong_type(&inner, "an object", &function)) };
    let mut fields = Fields::from(map);
    let name = tool_name(&mut fields, &inner)?;
    let description = match fields.take("description") {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(wrong_type(&format!("{inner}.description"), "a string", &other)),
    };
    let parameters = match fields.take("parameters") {
        // Without any, the tool takes none.
        None => json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(_)) => schema,
        Some(other) => return Err(wrong_type(&format!("{inner}.parameters"), "a JSON schema", &other)),
    };
    // The schema is always followed to the letter.
    fields.finish(&format!("{inner}."), &[("strict", Value::is_boolean)])?;
    Ok(Tool { name, description, parameters })
}

/// Checks that `type`, where it is there, is `function`.
pub fn function_type(fields: &mut Fields, place: &str) -> Result<(), ApiError> {
    match fields.take("type") {
        Some(Value::String(kind)) if kind == "function" => Ok(()),
        None => Err(missing(format!("{place}.type"))),
        Some(other) => {
            let message = format!("'{place}.type' is {other}; supported is \"function\".");
            Err(ApiError::invalid(format!("{place}.type"), "invalid_value", message))
        }
    }
}

/// Takes `name` and checks that it is one.
pub fn tool_name(fields: &mut Fields, place: &str) -> Result<String, ApiError> {
    let place = format!("{place}.name");
    let name = match fields.take("name") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(wrong_type(&place, "a string", &other)),
        None => return Err(missing(place)),
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(valid) {
        return Ok(name);
    }
    let message = format!("'{place}' must have 1 to {LONGEST_NAME} letters, digits, '_' or '-'.");
    Err(ApiError::invalid(place, "invalid_value", message))
}

/// Which tools are to be called; `None` for none of them.
fn choice(value: Option<Value>, tools: &[Tool]) -> Result<Option<Choice>, ApiError> {
    let choice = match value {
        None => return Ok(Some(Choice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "none" => return Ok(None),
            "auto" => return Ok(Some(Choice::Auto)),
            "required" => Choice::Required,
            other => {
                let message =
                    format!("'tool_choice' is '{other}'; supported are 'none', 'auto', 'required' and a function.");
                return Err(ApiError::invalid("tool_choice", "invalid_value", message));
            }
        },
        Some(Value::Object(map)) => {
            let mut fields = Fields::from(map);
            function_type(&mut fields, "tool_choice")?;
            let function = fields.take("function").ok_or_else(|| missing("tool_choice.function".to_owned()))?;
            fields.finish("tool_choice.", &[])?;
            let Value::Object(map) = function else {
                return Err(wrong_type("tool_choice.function", "an object", &function));
            };
            let mut fields = Fields::from(map);
            let name = tool_name(&mut fields, "tool_choice.function")?;
            fields.finish("tool_choice.function.", &[])?;
            Choice::Named(name)
        }
        Some(other) => return Err(wrong_type("tool_choice", "a string or an object", &other)),
    };
    let known = |name: &String| tools.iter().any(|tool| tool.name == *name);
    match &choice {
        _ if tools.is_empty() => {
            let message = "'tool_choice' asks for a call, but there are no 'tools'.";
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        Choice::Named(name) if !known(name) => {
            let message = format!("'tool_choice' asks for '{name}', which is none of the 'tools'.");
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        _ => Ok(Some(choice)),
    }
}
