//! Reading a request's JSON field by field, so that every error names the field at fault.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a request that have not been read yet. A field that is `null` counts as absent.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

/// Whether a value of a field that this runtime can't honour asks for nothing, and may therefore be ignored.
pub type AsksNothing = fn(&Value) -> bool;

/// A field of the API that this runtime knows and can't honour.
pub type Unsupported = (&'static str, AsksNothing);

impl Fields {
    /// Takes a body apart.
    pub fn parse(body: &[u8]) -> Result<Fields, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Fields(map)),
            Ok(other) => Err(ApiError::malformed(format!("The body must be a JSON object, not {}.", kind(&other)))),
            Err(error) => Err(ApiError::malformed(format!("The body is not valid JSON: {error}."))),
        }
    }

    /// Takes a field out, whatever its type.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a field that the request can't do without.
    pub fn require(&mut self, key: &str) -> Result<Value, ApiError> {
        let missing = || ApiError::invalid(key, "missing_required_parameter", format!("'{key}' is required."));
        self.take(key).ok_or_else(missing)
    }

    /// Takes a string.
    pub fn string(&mut self, key: &str) -> Result<Option<String>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(key, "a string", &other)),
        }
    }

    /// Takes a boolean; absent means false.
    pub fn flag(&mut self, key: &str) -> Result<bool, ApiError> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(key, "a boolean", &other)),
        }
    }

    /// Takes a number within `range`.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(key, "a number", &value))?;
        if !range.contains(&number) {
            return Err(out_of_range(key, &value, range.start(), range.end()));
        }
        Ok(Some(number))
    }

    /// Takes a whole number within `range`.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        if !value.is_i64() && !value.is_u64() {
            return Err(wrong_type(key, "an integer", &value));
        }
        match value.as_i64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(out_of_range(key, &value, range.start(), range.end())),
        }
    }

    /// Takes a string or an array of at most `most` strings; empty strings are refused, as they would match anywhere.
    pub fn strings(&mut self, key: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let values = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(value @ Value::String(_)) => vec![value],
            Some(other) => return Err(wrong_type(key, "a string or an array of strings", &other)),
        };
        if values.len() > most {
            let message = format!("'{key}' holds {} strings, at most {most} are allowed.", values.len());
            return Err(ApiError::invalid(key, "array_above_max_length", message));
        }
        let mut strings = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) if !text.is_empty() => strings.push(text),
                Value::String(_) => {
                    return Err(ApiError::invalid(key, "empty_string", format!("'{key}' holds an empty string.")));
                }
                other => return Err(wrong_type(&format!("{key}[{index}]"), "a string", &other)),
            }
        }
        Ok(strings)
    }

    /// Takes an object apart.
    pub fn object(&mut self, key: &str) -> Result<Option<Fields>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields(map))),
            Some(other) => Err(wrong_type(key, "an object", &other)),
        }
    }

    /// Refuses what is left, unless it is a known field whose value asks for nothing. Silence would be an answer to
    /// another question than the client asked.
    pub fn finish(self, prefix: &str, unsupported: &[Unsupported]) -> Result<(), ApiError> {
        for (key, value) in self.0.iter().filter(|(_, value)| !value.is_null()) {
            let param = format!("{prefix}{key}");
            match unsupported.iter().find(|(name, _)| name == key) {
                Some((_, asks_nothing)) if asks_nothing(value) => {}
                Some(_) => {
                    let message = format!("'{param}' is not supported by this runtime with the value given.");
                    return Err(ApiError::invalid(param, "unsupported_parameter", message));
                }
                None => {
                    let message = format!("Unknown parameter: '{param}'.");
                    return Err(ApiError::invalid(param, "unknown_parameter", message));
                }
            }
        }
        Ok(())
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(map: Map<String, Value>) -> Self {
        Fields(map)
    }
}

/// 400 for a value of another type than `expected`.
pub fn wrong_type(param: &str, expected: &str, found: &Value) -> ApiError {
    let message = format!("'{param}' must be {expected}, not {}.", kind(found));
    ApiError::invalid(param, "invalid_type", message)
}

fn out_of_range(param: &str, value: &Value, least: impl std::fmt::Display, most: impl std::fmt::Display) -> ApiError {
    let message = format!("'{param}' is {value}; it must be from {least} to {most}.");
    ApiError::invalid(param, "invalid_value", message)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).unwrap()
    }

    fn code(error: &ApiError) -> (Value, Value) {
        let body = error.body();
        (body["error"]["param"].clone(), body["error"]["code"].clone())
    }

    #[test]
    fn a_body_must_be_an_object() {
        for body in ["", "{", "[1]", "\"a\"", "nul", "{\"a\":1}}"] {
            let error = Fields::parse(body.as_bytes()).unwrap_err();
            assert_eq!(code(&error), (Value::Null, json!("invalid_json")), "{body}");
        }
    }

    #[test]
    fn null_counts_as_absent() {
        let mut fields = fields(json!({"a": null, "b": null}));
        assert_eq!(fields.string("a"), Ok(None));
        assert_eq!(fields.finish("", &[]), Ok(()));
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let mut fields = fields(json!({"s": 1, "f": "true", "n": "1", "i": 1.5, "a": {"b": 1}, "l": ["x", 2]}));
        let type_error = |param: &str| (json!(param), json!("invalid_type"));
        assert_eq!(code(&fields.string("s").unwrap_err()), type_error("s"));
        assert_eq!(code(&fields.flag("f").unwrap_err()), type_error("f"));
        assert_eq!(code(&fields.number("n", 0.0..=2.0).unwrap_err()), type_error("n"));
        assert_eq!(code(&fields.integer("i", 0..=9).unwrap_err()), type_error("i"));
        assert_eq!(code(&fields.strings("a", 4).unwrap_err()), type_error("a"));
        assert_eq!(code(&fields.strings("l", 4).unwrap_err()), type_error("l[1]"));
    }

    #[test]
    fn a_number_outside_its_range_is_refused() {
        let mut fields = fields(json!({"t": 2.1, "i": 0, "big": 18446744073709551615u64}));
        let range_error = |param: &str| (json!(param), json!("invalid_value"));
        assert_eq!(code(&fields.number("t", 0.0..=2.0).unwrap_err()), range_error("t"));
        assert_eq!(code(&fields.integer("i", 1..=9).unwrap_err()), range_error("i"));
        assert_eq!(code(&fields.integer("big", 1..=i64::MAX).unwrap_err()), range_error("big"));
    }

    #[test]
    fn what_was_not_read_is_refused_unless_it_asks_for_nothing() {
        let known: [Unsupported; 1] = [("n", |value| value == 1)];
        assert_eq!(fields(json!({"n": 1})).finish("", &known), Ok(()));
        let error = fields(json!({"n": 2})).finish("", &known).unwrap_err();
        assert_eq!(code(&error), (json!("n"), json!("unsupported_parameter")));
        let error = fields(json!({"m": 2})).finish("x.", &known).unwrap_err();
        assert_eq!(code(&error), (json!("x.m"), json!("unknown_parameter")));
    }
}
