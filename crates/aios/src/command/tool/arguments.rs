//! Arguments of a tool, as they are typed.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// JSON of what was typed: `NAME=VALUE` each, or a single JSON object. `schema` is the tool's: where it wants a text, a
/// value is taken as it is typed.
pub fn parse(typed: &[String], schema: &Value) -> Result<String> {
    if let [object] = typed
        && object.trim_start().starts_with('{')
    {
        let value: Value = serde_json::from_str(object).context("the arguments are no JSON object")?;
        return Ok(value.to_string());
    }
    let mut arguments = Map::new();
    for argument in typed {
        let Some((name, value)) = argument.split_once('=') else {
            bail!("{argument:?} is no argument: write NAME=VALUE, or all of them as one JSON object");
        };
        let property = &schema["properties"][name];
        if property.is_null() {
            let names: Vec<&str> =
                schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
            bail!("the tool has no argument {name:?}; it has: {}", names.join(", "));
        }
        let value = if takes_text(property) { Value::from(value) } else { literal(value) };
        if arguments.insert(name.to_owned(), value).is_some() {
            bail!("the argument {name:?} is given twice");
        }
    }
    Ok(Value::Object(arguments).to_string())
}

/// Whether a text is among what a schema takes.
fn takes_text(schema: &Value) -> bool {
    let is_text = |kind: &Value| kind == "string";
    let any = |name: &str| schema[name].as_array().is_some_and(|schemas| schemas.iter().any(takes_text));
    is_text(&schema["type"])
        || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is_text))
        || schema["enum"].as_array().is_some_and(|values| values.iter().any(Value::is_string))
        || schema["const"].is_string()
        || any("anyOf")
        || any("oneOf")
}

/// JSON, or else a text: the tool says what is wrong with it.
fn literal(typed: &str) -> Value {
    serde_json::from_str(typed).unwrap_or_else(|_| Value::from(typed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(typed: &[&str]) -> Result<Value> {
        let schema = json!({ "properties": {
            "path": { "type": "string" },
            "mode": { "anyOf": [{ "enum": ["a", "b"] }, { "type": "null" }] },
            "length": { "type": "integer" },
            "names": { "type": "array" },
        }});
        let typed: Vec<String> = typed.iter().map(ToString::to_string).collect();
        Ok(serde_json::from_str(&parse(&typed, &schema)?)?)
    }

    #[test]
    fn what_is_typed_becomes_what_the_schema_wants() {
        let arguments = parsed(&["path=5", "mode=a", "length=5", r#"names=["x=y"]"#]).expect("arguments");
        assert_eq!(arguments, json!({ "path": "5", "mode": "a", "length": 5, "names": ["x=y"] }));
        assert_eq!(parsed(&[r#"{"path": "/a=b"}"#]).expect("arguments"), json!({ "path": "/a=b" }));
        assert_eq!(parsed(&["path=a=b"]).expect("arguments"), json!({ "path": "a=b" }));
        assert_eq!(parsed(&[]).expect("arguments"), json!({}));
    }

    #[test]
    fn what_is_no_argument_is_told() {
        for (typed, told) in [
            (&["path"][..], "NAME=VALUE"),
            (&["patz=/a"], "it has: path, mode, length, names"),
            (&["path=a", "path=b"], "given twice"),
            (&["{"], "no JSON object"),
        ] {
            let error = format!("{:#}", parsed(typed).expect_err("refused"));
            assert!(error.contains(told), "{error}");
        }
    }
}
