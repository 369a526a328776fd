//! The form that an answer is to have: `response_format` of the API, `structured_outputs` as vLLM has it.

use serde_json::Value;

use super::{
    error::ApiError,
    fields::{Fields, wrong_type},
};
use crate::{constraint::Form, inference::Expected};

const FORMAT: &str = "response_format";
const OUTPUTS: &str = "structured_outputs";
/// Most texts of a choice.
const MOST_CHOICES: usize = 1000;

/// Takes both fields; at most one of them may ask for something.
pub fn expected(fields: &mut Fields) -> Result<Expected, ApiError> {
    let format = response_format(fields)?;
    let outputs = structured_outputs(fields)?;
    match (format, outputs) {
        (None, None) => Ok(Expected::Text),
        (Some(form), None) => Ok(Expected::Form { form, param: FORMAT }),
        (None, Some(form)) => Ok(Expected::Form { form, param: OUTPUTS }),
        (Some(_), Some(_)) => {
            let message =
                format!("'{FORMAT}' and '{OUTPUTS}' both say what the answer must look like: send one of them.");
            Err(ApiError::invalid(OUTPUTS, "invalid_value", message))
        }
    }
}

fn response_format(fields: &mut Fields) -> Result<Option<Form>, ApiError> {
    let Some(mut format) = fields.object(FORMAT)? else { return Ok(None) };
    let kind = required(&mut format, FORMAT, "type")?;
    let Value::String(kind) = kind else { return Err(wrong_type("response_format.type", "a string", &kind)) };
    let form = match kind.as_str() {
        "text" => None,
        "json_object" => Some(match format.take("schema") {
            // As llama.cpp's server has it.
            Some(schema) => Form::Schema(schema_of("response_format.schema", schema)?),
            None => Form::Json,
        }),
        "json_schema" => {
            let place = "response_format.json_schema";
            let value = required(&mut format, FORMAT, "json_schema")?;
            let Value::Object(map) = value else { return Err(wrong_type(place, "an object", &value)) };
            let mut fields = Fields::from(map);
            let schema = schema_of(&format!("{place}.schema"), required(&mut fields, place, "schema")?)?;
            // A schema is always followed to the letter, and its name and description are for people.
            fields.finish(
                &format!("{place}."),
                &[("name", Value::is_string), ("description", Value::is_string), ("strict", Value::is_boolean)],
            )?;
            Some(Form::Schema(schema))
        }
        other => {
            let message = format!(
                "'response_format.type' is '{other}'; supported are 'text', 'json_object' and 'json_schema', and in \
                 '{OUTPUTS}' regular expressions, choices and grammars."
            );
            return Err(ApiError::invalid("response_format.type", "invalid_value", message));
        }
    };
    format.finish("response_format.", &[])?;
    Ok(form)
}

fn structured_outputs(fields: &mut Fields) -> Result<Option<Form>, ApiError> {
    let Some(mut outputs) = fields.object(OUTPUTS)? else { return Ok(None) };
    let mut forms = Vec::new();
    if let Some(schema) = outputs.take("json") {
        forms.push(Form::Schema(schema_of("structured_outputs.json", schema)?));
    }
    for (key, form) in [("regex", Form::Regex as fn(String) -> Form), ("grammar", Form::Grammar)] {
        if let Some(value) = outputs.take(key) {
            let Value::String(text) = value else {
                return Err(wrong_type(&format!("{OUTPUTS}.{key}"), "a string", &value));
            };
            forms.push(form(text));
        }
    }
    let choices = outputs.strings("choice", MOST_CHOICES)?;
    if !choices.is_empty() {
        forms.push(Form::Choice(choices));
    }
    if outputs.flag("json_object")? {
        forms.push(Form::Json);
    }
    outputs.finish("structured_outputs.", &[])?;
    if forms.len() != 1 {
        let message = format!("'{OUTPUTS}' must have one of 'json', 'json_object', 'regex', 'choice' and 'grammar'.");
        return Err(ApiError::invalid(OUTPUTS, "invalid_value", message));
    }
    Ok(forms.pop())
}

/// A schema: an object, a boolean, or the text of one.
fn schema_of(place: &str, value: Value) -> Result<Value, ApiError> {
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(value),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(schema),
            Ok(other) => Err(wrong_type(place, "a JSON schema", &other)),
            Err(error) => {
                Err(ApiError::invalid(place, "invalid_value", format!("'{place}' is not valid JSON: {error}.")))
            }
        },
        other => Err(wrong_type(place, "a JSON schema", &other)),
    }
}

fn required(fields: &mut Fields, place: &str, key: &str) -> Result<Value, ApiError> {
    fields.take(key).ok_or_else(|| super::messages::missing(format!("{place}.{key}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(body: Value) -> Result<Expected, ApiError> {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let expected = expected(&mut fields)?;
        fields.finish("", &[])?;
        Ok(expected)
    }

    #[test]
    fn every_way_to_ask_for_a_form_is_understood() {
        let schema = json!({"type": "integer"});
        for (body, expected) in [
            (json!({"response_format": {"type": "json_object"}}), Form::Json),
            (json!({"response_format": {"type": "json_object", "schema": schema}}), Form::Schema(schema.clone())),
            (
                json!({"response_format": {"type": "json_schema", "json_schema":
                    {"name": "n", "strict": true, "description": null, "schema": schema}}}),
                Form::Schema(schema.clone()),
            ),
            (json!({"structured_outputs": {"json": schema}}), Form::Schema(schema.clone())),
            (json!({"structured_outputs": {"json": schema.to_string()}}), Form::Schema(schema.clone())),
            (json!({"structured_outputs": {"json_object": true}}), Form::Json),
            (json!({"structured_outputs": {"regex": "a+"}}), Form::Regex("a+".into())),
            (json!({"structured_outputs": {"choice": ["a", "b"]}}), Form::Choice(vec!["a".into(), "b".into()])),
            (json!({"structured_outputs": {"grammar": "start: \"a\""}}), Form::Grammar("start: \"a\"".into())),
        ] {
            match parsed(body.clone()) {
                Ok(Expected::Form { form, param }) => {
                    assert_eq!(form, expected);
                    assert!(body.get(param).is_some());
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        for body in [json!({}), json!({"response_format": {"type": "text"}}), json!({"response_format": null})] {
            assert!(matches!(parsed(body), Ok(Expected::Text)));
        }
    }

    #[test]
    fn what_is_no_form_is_refused_by_name() {
        for (body, param) in [
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {}}), "response_format.type"),
            (json!({"response_format": {"type": 1}}), "response_format.type"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": "{"}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"response_format": {"type": "text", "x": 1}}), "response_format.x"),
            (json!({"structured_outputs": {}}), "structured_outputs"),
            (json!({"structured_outputs": {"regex": "a", "choice": ["b"]}}), "structured_outputs"),
            (json!({"structured_outputs": {"regex": 1}}), "structured_outputs.regex"),
            (json!({"structured_outputs": {"json": 1}}), "structured_outputs.json"),
            (json!({"structured_outputs": {"x": 1}}), "structured_outputs.x"),
            (
                json!({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}),
                "structured_outputs",
            ),
        ] {
            let error = parsed(body.clone()).map(|_| ()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], param, "{body}");
        }
    }
}
