//! Names of units and of network interfaces.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Name of a unit, as docs/formats/unit.md allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// Name of a network interface, as the kernel allows it, and without what would mean something in a capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interface(String);

const UNIT_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$";
const INTERFACE_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$";

fn is_name(text: &str, length_max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=length_max).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['-', '.'])
}

macro_rules! name {
    ($type:ident, $length:expr, $pattern:expr, $what:expr) => {
        impl $type {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                if is_name(&name, $length) {
                    return Ok($type(name));
                }
                Err(format!(
                    "{name:?} is not the name of {}: 1 to {} letters, digits, \"-\", \"_\" or \".\", not beginning with \"-\" or \".\"",
                    $what, $length
                ))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

name!(UnitName, 64, UNIT_PATTERN, "a unit");
name!(Interface, 15, INTERFACE_PATTERN, "a network interface");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_means_something_elsewhere() {
        for good in ["runtime", "eth0", "wg-1", "br0.100", "_x"] {
            assert!(
                UnitName::try_from(good.to_owned()).is_ok() && Interface::try_from(good.to_owned()).is_ok(),
                "{good}"
            );
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "a:b", "a*", "ä", "a\0", "0123456789abcdef"] {
            assert!(Interface::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(UnitName::try_from("a".repeat(65)).is_err());
    }
}
