//! Numbers that have bounds.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number from `MIN` to `MAX`, which is `DEFAULT` where `serde(default)` says that it may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Count<const MIN: u64, const MAX: u64, const DEFAULT: u64 = MIN>(u64);

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Count<MIN, MAX, DEFAULT> {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number, for lengths and indices.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Default for Count<MIN, MAX, DEFAULT> {
    fn default() -> Self {
        const { assert!(MIN <= DEFAULT && DEFAULT <= MAX, "the default is out of bounds") };
        Count(DEFAULT)
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> TryFrom<u64> for Count<MIN, MAX, DEFAULT> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) { Ok(Count(number)) } else { Err(format!("{number} is not {MIN} to {MAX}")) }
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> From<Count<MIN, MAX, DEFAULT>> for u64 {
    fn from(count: Count<MIN, MAX, DEFAULT>) -> u64 {
        count.0
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> JsonSchema for Count<MIN, MAX, DEFAULT> {
    fn schema_name() -> Cow<'static, str> {
        format!("Count{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_bounds_is_refused() {
        let read = |text: &str| serde_json::from_str::<Count<1, 10>>(text);
        assert_eq!(read("1").expect("in bounds").get(), 1);
        assert_eq!(read("10").expect("in bounds").index(), 10);
        for bad in ["0", "11", "-1", "1.5", "\"1\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("11").expect_err("out of bounds").to_string(), "11 is not 1 to 10");
    }
}
