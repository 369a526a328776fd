//! Small schemas of every kind that answers are asked for.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::{Value, json};

/// Schemas whose documents have a natural end within a few hundred characters, whatever a model likes to say.
pub fn bounded() -> Vec<Value> {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 12});
    let point = json!({
        "type": "object", "required": ["x", "y"], "additionalProperties": false,
        "properties": {"x": {"type": "integer", "minimum": -90, "maximum": 90}, "y": {"type": "number", "minimum": 0, "maximum": 1}},
    });
    vec![
        json!({"enum": ["red", "green", "blue", 7, null, {"deep": [1, 2]}]}),
        json!({"type": "boolean"}),
        json!({"const": "the only \"answer\"\n"}),
        json!({"type": "integer", "minimum": 3, "maximum": 4711}),
        json!({"type": "number", "exclusiveMinimum": -1.5, "maximum": 2.25}),
        json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 1, "maxItems": 6}),
        json!({"type": "array", "prefixItems": [name, {"type": "boolean"}], "items": false, "minItems": 2}),
        point.clone(),
        json!({
            "type": "object", "required": ["name", "colour", "tags"],
            "properties": {
                "name": name,
                "colour": {"enum": ["red", "green", "blue"]},
                "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
            },
        }),
        json!({
            "type": "object", "required": ["who", "where", "when"], "additionalProperties": false,
            "properties": {
                "who": {"type": "object", "required": ["first", "age"], "additionalProperties": false,
                    "properties": {"first": name, "age": {"type": "integer", "minimum": 0, "maximum": 130}}},
                "where": {"anyOf": [point, {"type": "null"}, {"type": "string", "maxLength": 8}]},
                "when": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
                "sure": {"type": "boolean"},
            },
        }),
        json!({
            "$defs": {"leaf": {"type": "object", "required": ["value"], "properties": {"value": {"enum": [1, 2, 3]}}}},
            "type": "object", "required": ["left", "right"],
            "properties": {"left": {"$ref": "#/$defs/leaf"}, "right": {"$ref": "#/$defs/leaf"}},
        }),
        json!({"type": ["string", "null"], "maxLength": 5}),
        json!({
            "allOf": [{"required": ["a"], "properties": {"a": {"type": "boolean"}, "b": true}, "additionalProperties": false}],
            "type": "object", "properties": {"a": true, "b": {"enum": ["x", "y"]}}, "required": ["b"],
        }),
    ]
}
