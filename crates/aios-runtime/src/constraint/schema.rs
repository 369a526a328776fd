//! JSON schemas on their way to a grammar.

use serde_json::{Map, Value, json};

/// The library's own key for how a schema is compiled.
const OPTIONS: &str = "x-guidance";

/// Keywords whose value is a schema.
const ONE: [&str; 2] = ["items", "additionalProperties"];
/// Keywords whose value is an array of schemas.
const LIST: [&str; 4] = ["prefixItems", "anyOf", "oneOf", "allOf"];
/// Keywords whose value is an object of schemas.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Largest number, either way, where the schema has no bound: what every JSON library reads exactly (2^53 - 1).
const LARGEST: i64 = 9_007_199_254_740_991;
/// What numbers are multiples of where the schema doesn't say: digits behind the point, which a model can go on with for ever.
const PRECISION: f64 = 0.000_001;
/// Keywords that join a schema with others, whose properties it can't know.
const JOINS: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// Makes a client's schema ready to be compiled.
///
/// Whitespace is written as Python's `json.dumps` does, which models have seen most, and nowhere else: a small model that
/// may write spaces can go on with them for ever. An object that names its properties and says nothing of others gets
/// none: a model would go on inventing them. Numbers get as many digits as are of use. The documents are fewer than the
/// schema allows, and all of them valid.
pub(super) fn prepare(mut schema: Value) -> Value {
    bound_numbers(&mut schema);
    if !joins(&schema) {
        close(&mut schema);
    }
    match &mut schema {
        Value::Object(map) => {
            map.insert(OPTIONS.to_owned(), options());
            schema
        }
        // `true` and `false` have no place for options.
        other => json!({"allOf": [other], OPTIONS: options()}),
    }
}

fn options() -> Value {
    json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "})
}

/// Whether a part of `schema` joins properties of its own with another schema's.
fn joins(schema: &Value) -> bool {
    let Value::Object(map) = schema else { return false };
    map.contains_key("allOf")
        || (map.contains_key("properties") && JOINS.iter().any(|join| map.contains_key(*join)))
        || parts(map).any(joins)
}

fn parts(map: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let one = ONE.iter().filter_map(|key| map.get(*key));
    let list = LIST.iter().filter_map(|key| map.get(*key)?.as_array()).flatten();
    let named = NAMED.iter().filter_map(|key| map.get(*key)?.as_object()).flat_map(Map::values);
    one.chain(list).chain(named)
}

fn close(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let open = ["additionalProperties", "unevaluatedProperties", "patternProperties"];
    if map.contains_key("properties") && !open.iter().any(|key| map.contains_key(*key)) {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    parts_mut(map, close);
}

fn bound_numbers(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let is = |map: &Map<String, Value>, name: &str| match map.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    let listed = map.contains_key("enum") || map.contains_key("const");
    if !listed && (is(map, "number") || is(map, "integer")) {
        let beyond = |key: &str, limit: fn(f64) -> bool| map.get(key).and_then(Value::as_f64).is_some_and(limit);
        let up = |bound: f64| bound >= LARGEST as f64;
        let down = |bound: f64| bound <= -LARGEST as f64;
        let above = ["maximum", "exclusiveMaximum"].iter().any(|key| map.contains_key(*key))
            || ["minimum", "exclusiveMinimum"].iter().any(|key| beyond(key, up));
        let below = ["minimum", "exclusiveMinimum"].iter().any(|key| map.contains_key(*key))
            || ["maximum", "exclusiveMaximum"].iter().any(|key| beyond(key, down));
        if !above {
            map.insert("maximum".to_owned(), LARGEST.into());
        }
        if !below {
            map.insert("minimum".to_owned(), (-LARGEST).into());
        }
        if is(map, "number") && !map.contains_key("multipleOf") {
            map.insert("multipleOf".to_owned(), PRECISION.into());
        }
    }
    parts_mut(map, bound_numbers);
}

fn parts_mut(map: &mut Map<String, Value>, change: fn(&mut Value)) {
    for key in ONE {
        map.get_mut(key).into_iter().for_each(change);
    }
    for key in LIST {
        map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    }
    for key in NAMED {
        map.get_mut(key).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut).for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_name_their_properties_are_closed_unless_they_say_otherwise() {
        let schema = json!({
            "properties": {"a": {"properties": {}}, "b": {"properties": {}, "additionalProperties": {"type": "null"}}},
            "$defs": {"c": {"items": {"properties": {"additionalProperties": {"type": "null"}}}}},
            "type": "object",
        });
        let prepared = prepare(schema);
        assert_eq!(prepared["additionalProperties"], false);
        assert_eq!(prepared["properties"]["a"]["additionalProperties"], false);
        assert_eq!(prepared["properties"]["b"]["additionalProperties"], json!({"type": "null"}));
        assert_eq!(prepared["$defs"]["c"]["items"]["additionalProperties"], false);
        assert_eq!(prepare(json!({"type": "object"})).get("additionalProperties"), None);
    }

    #[test]
    fn numbers_get_bounds_where_they_have_none() {
        let bounded = prepare(json!({"items": {"type": ["number", "null"], "minimum": 0}}))["items"].clone();
        assert_eq!(bounded, json!({"type": ["number", "null"], "minimum": 0, "maximum": LARGEST, "multipleOf": 1e-6}));
        let bounded = prepare(json!({"anyOf": [{"type": "integer", "exclusiveMaximum": 3}]}))["anyOf"][0].clone();
        assert_eq!(bounded, json!({"type": "integer", "exclusiveMaximum": 3, "minimum": -LARGEST}));
        for kept in [
            json!({"type": "integer", "enum": [1]}),
            json!({"type": "string"}),
            json!({"type": "integer", "minimum": 1e17}),
        ] {
            assert_eq!(prepare(json!({"items": kept}))["items"].get("maximum"), None);
        }
    }

    #[test]
    fn schemas_that_join_properties_are_left_open() {
        for schema in [
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]}),
            json!({"properties": {"a": {"properties": {"b": {}}, "$ref": "#/$defs/c"}}}),
        ] {
            assert!(!prepare(schema).to_string().contains("additionalProperties"));
        }
    }

    #[test]
    fn a_schema_can_not_choose_how_it_is_compiled() {
        let prepared = prepare(json!({"type": "object", OPTIONS: {"whitespace_flexible": true, "lenient": true}}));
        assert_eq!(prepared[OPTIONS], options());
    }
}
