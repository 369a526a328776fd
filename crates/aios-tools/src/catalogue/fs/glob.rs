//! Patterns of names and paths.

use std::borrow::Cow;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Longest pattern in bytes.
const LENGTH_MAX: usize = 256;

/// A pattern: `*` is any part of a name, `**` any part of a path, `?` one character; everything else is itself.
/// Without `/` it is compared with names, else with paths from the searched folder on.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Glob {
    regex: Regex,
    of_paths: bool,
}

impl Glob {
    /// Whether it fits the path, whose last part is `name`.
    pub(super) fn fits(&self, path: &str, name: &str) -> bool {
        self.regex.is_match(if self.of_paths { path } else { name })
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        if pattern.is_empty() || pattern.len() > LENGTH_MAX {
            return Err(format!("a pattern has 1 to {LENGTH_MAX} bytes"));
        }
        let mut expression = String::from("(?s)^");
        let mut rest = pattern.as_str();
        while let Some(first) = rest.chars().next() {
            let (piece, length) = match first {
                // `a/**/b` fits `a/b` too.
                '*' if rest.starts_with("**/") => (Cow::Borrowed("(?:.*/)?"), 3),
                '*' if rest.starts_with("**") => (Cow::Borrowed(".*"), 2),
                '*' => (Cow::Borrowed("[^/]*"), 1),
                '?' => (Cow::Borrowed("[^/]"), 1),
                other => (Cow::Owned(regex::escape(other.encode_utf8(&mut [0; 4]))), other.len_utf8()),
            };
            expression.push_str(&piece);
            rest = &rest[length..];
        }
        expression.push('$');
        let regex = Regex::new(&expression).map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
        Ok(Glob { regex, of_paths: pattern.contains('/') })
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": LENGTH_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_they_do_in_a_shell() {
        let fits = |pattern: &str, path: &str| {
            let name = path.rsplit('/').next().expect("a part");
            Glob::try_from(pattern.to_owned()).expect(pattern).fits(path, name)
        };
        for (pattern, path) in [
            ("*.log", "a/b.log"),
            ("b?", "a/bü"),
            ("a/*.log", "a/b.log"),
            ("a/**/c", "a/c"),
            ("a/**/c", "a/b/b/c"),
            ("**/c", "c"),
            ("a.(b)", "a.(b)"),
            ("a*", "a\nb"),
            ("[x]", "[x]"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("*.log", "log"), ("a/*", "a/b/c"), ("a.b", "axb"), ("b", "a/bc"), ("?", "")] {
            assert!(!fits(pattern, path), "{pattern} {path}");
        }
        assert!(Glob::try_from(String::new()).is_err() && Glob::try_from("a".repeat(257)).is_err());
        assert!(Glob::try_from("?".repeat(256)).is_ok());
    }
}
