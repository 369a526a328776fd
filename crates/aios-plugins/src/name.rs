//! Names, which become parts of paths and of capabilities.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const LENGTH_MAX: usize = 32;
const PATTERN: &str = "^[a-z][a-z0-9_-]{0,31}$";

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to {LENGTH_MAX} small letters, digits, \"-\" and \"_\", a letter first")]
pub struct NameError(String);

/// Name of a plugin, of a tool that it gives, or of a folder that it is handed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Name, NameError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let right = (1..=LENGTH_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && name.starts_with(|c: char| c.is_ascii_lowercase());
        if right { Ok(Name(name)) } else { Err(NameError(name.chars().take(2 * LENGTH_MAX).collect())) }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PluginName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_part_of_a_path_and_of_a_capability() {
        for good in ["a", "pump-stats", "x_1"] {
            assert!(Name::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "A", "1a", "-a", "_a", "a*", "a b", "ä", "a\0", &"a".repeat(33)] {
            assert!(Name::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
