//! JSON with one way to write each value: RFC 8785.

use serde_json::{Number, Value};

/// Largest integer that every reader of JSON takes as the same number: 2^53 - 1.
const SAFE_MAX: u64 = (1 << 53) - 1;
/// Doubles from here on are written with an exponent, so that no reader takes them for integers.
const EXPONENT_FROM: f64 = 1e21;

/// `value` in the form of RFC 8785: members sorted by their names' UTF-16 code units, no white space, numbers as
/// ECMAScript writes doubles. An integer that a double may not hold, beyond 2^53 - 1 on either side, becomes a string of
/// its digits: it would be rounded by the next reader.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// Appends the canonical form of `value` to `out`.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (name, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
    }
}

/// Appends `text` as a JSON string: only what has to be escaped is.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            b'\t' => "\\t",
            b'\n' => "\\n",
            0x0c => "\\f",
            b'\r' => "\\r",
            0..0x20 => "\\u00",
            _ => continue,
        };
        out.push_str(&text[rest..index]);
        out.push_str(escape);
        if escape.len() > 2 {
            out.push_str(&aios_keys::hex::encode(&[byte]));
        }
        rest = index + 1;
    }
    out.push_str(&text[rest..]);
    out.push('"');
}

fn write_number(number: &Number, out: &mut String) {
    if let Some(integer) = number.as_i64() {
        write_integer(integer.unsigned_abs(), integer < 0, out);
    } else if let Some(integer) = number.as_u64() {
        write_integer(integer, false, out);
    } else {
        match number.as_f64().filter(|double| double.is_finite()) {
            Some(double) => write_double(double, out),
            // Beyond what a double holds: the digits as they came, for any reader to keep.
            None => write_string(&number.to_string(), out),
        }
    }
}

fn write_integer(magnitude: u64, negative: bool, out: &mut String) {
    use std::fmt::Write as _;
    let quote = if magnitude > SAFE_MAX { "\"" } else { "" };
    let sign = if negative { "-" } else { "" };
    write!(out, "{quote}{sign}{magnitude}{quote}").expect("invariant: a string takes what is written to it");
}

fn write_double(double: f64, out: &mut String) {
    let mut buffer = ryu_js::Buffer::new();
    let digits = buffer.format_finite(double);
    // Without a point or an exponent it would come back as an integer, so it is treated as one.
    let integer_like = double.abs() > SAFE_MAX as f64 && double.abs() < EXPONENT_FROM;
    if integer_like { write_string(digits, out) } else { out.push_str(digits) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_of_rfc_8785_appendix_b() {
        for (bits, expected) in [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ] {
            assert_eq!(canonical(&json!(f64::from_bits(bits))), expected, "{bits:016x}");
        }
        // These the standard writes as bare digits; here they are strings, like other integers of their size.
        assert_eq!(canonical(&json!(f64::from_bits(0x4340000000000000))), r#""9007199254740992""#);
        assert_eq!(canonical(&json!(f64::from_bits(0x444b1ae4d6e2ef4f))), r#""999999999999999900000""#);
    }

    #[test]
    fn integers_are_numbers_up_to_what_a_double_holds_and_strings_beyond() {
        assert_eq!(canonical(&json!(9007199254740991u64)), "9007199254740991");
        assert_eq!(canonical(&json!(-9007199254740991i64)), "-9007199254740991");
        assert_eq!(canonical(&json!(9007199254740992u64)), r#""9007199254740992""#);
        assert_eq!(canonical(&json!(-9007199254740992i64)), r#""-9007199254740992""#);
        assert_eq!(canonical(&json!(u64::MAX)), r#""18446744073709551615""#);
        assert_eq!(canonical(&json!(i64::MIN)), r#""-9223372036854775808""#);
        assert_eq!(canonical(&json!(3.0)), "3");
    }

    #[test]
    fn strings_and_members_are_those_of_rfc_8785_section_3_2() {
        // Its example of section 3.2.2, whose first number the standard's rounding makes 333333333.3333333.
        let text = r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(&serde_json::from_str(text).unwrap()), expected);
        // Section 3.2.3: by UTF-16 code units, so that the emoji (a surrogate pair) is before U+FB33.
        let names = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
        let value: Value =
            names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>().into();
        let sorted = "{\"\\r\":null,\"1\":null,\"\u{80}\":null,\"\u{f6}\":null,\"\u{20ac}\":null,\"\u{1f600}\":null,\"\u{fb33}\":null}";
        assert_eq!(canonical(&value), sorted);
    }

    /// Any JSON value.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |double| double.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_of_the_canonical_form_is_itself(value in any_value()) {
            let text = canonical(&value);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(canonical(&read), text);
        }

        #[test]
        fn the_order_of_members_says_nothing(members in prop::collection::hash_map(any::<String>(), any::<i32>(), 0..8)) {
            let mut pairs: Vec<(String, Value)> = members.into_iter().map(|(name, item)| (name, item.into())).collect();
            let forth: Value = pairs.iter().cloned().collect::<serde_json::Map<_, _>>().into();
            pairs.reverse();
            let back: Value = pairs.into_iter().collect::<serde_json::Map<_, _>>().into();
            prop_assert_eq!(canonical(&forth), canonical(&back));
        }

        #[test]
        fn strings_are_escaped_as_serde_json_does(text: String) {
            let mut out = String::new();
            write_string(&text, &mut out);
            prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
        }
    }
}
