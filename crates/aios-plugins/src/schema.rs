//! Arguments and results against their JSON Schemas.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

/// Longest text of one violation, in characters: the value in it can be anything.
const TEXT_MAX: usize = 300;

/// Why a schema can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Arguments are always an object.
    #[error("must be an object's: type = \"object\"")]
    NoObject,
    /// It is no JSON Schema, or refers to something outside of it.
    #[error("can't be used: {0}")]
    Form(String),
}

/// Checks values against one schema.
#[derive(Debug)]
pub struct Checker(Validator);

impl Checker {
    /// A checker for `schema`, of draft 2020-12 unless it names another. Patterns are matched in linear time, and
    /// nothing outside of the schema is looked up.
    pub fn new(schema: &Value) -> Result<Checker, SchemaError> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        options.build(schema).map(Checker).map_err(|error| SchemaError::Form(text(&error)))
    }

    /// The first way in which `value` is not as the schema says, with the place.
    pub fn violation(&self, value: &Value) -> Option<String> {
        self.0.validate(value).err().map(|error| text(&error))
    }
}

fn text(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let what: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect();
    if place.is_empty() { what } else { format!("{place}: {what}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_violation_is_told_with_its_place() {
        let checker = Checker::new(&json!({
            "type": "object",
            "properties": { "n": { "type": "integer", "minimum": 1 } },
            "additionalProperties": false
        }))
        .expect("schema");
        assert_eq!(checker.violation(&json!({"n": 1})), None);
        assert!(checker.violation(&json!({"n": 0})).expect("violation").starts_with("/n: "));
        assert!(checker.violation(&json!({"m": 1})).expect("violation").contains("m"));
    }

    #[test]
    fn a_pattern_that_a_backtracking_matcher_would_never_end_with_ends() {
        let checker = Checker::new(&json!({ "type": "string", "pattern": "^(a+)+$" })).expect("schema");
        assert!(checker.violation(&json!(format!("{}b", "a".repeat(5000)))).is_some());
        assert!(Checker::new(&json!({ "pattern": "(?=a)b" })).is_err(), "look-around needs backtracking");
    }

    #[test]
    fn nothing_outside_is_looked_up() {
        for outside in ["https://example.com/schema", "file:///etc/passwd", "other.json"] {
            assert!(Checker::new(&json!({ "$ref": outside })).is_err(), "{outside}");
        }
    }
}
