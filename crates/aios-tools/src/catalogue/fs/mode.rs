//! Permissions as arguments.

use std::{borrow::Cow, fmt};

use rustix::fs::Mode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Permissions in octal digits: `0644`, at most `1777`. There is no set-user-ID and no set-group-ID: nothing that an
/// agent writes runs with the rights of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Permissions(u32);

impl Permissions {
    /// What most files have.
    pub(super) const FILE: Permissions = Permissions(0o644);
    /// What most folders have.
    pub(super) const FOLDER: Permissions = Permissions(0o755);

    /// As the kernel takes them.
    pub(super) fn mode(self) -> Mode {
        Mode::from_raw_mode(self.0)
    }
}

impl TryFrom<String> for Permissions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| is_octal && *mode <= 0o1777);
        mode.map(Permissions).ok_or_else(|| {
            format!("{text:?} are no permissions: 3 or 4 octal digits, at most 1777 (set-ID bits can't be given)")
        })
    }
}

impl From<Permissions> for String {
    fn from(permissions: Permissions) -> String {
        permissions.to_string()
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl JsonSchema for Permissions {
    fn schema_name() -> Cow<'static, str> {
        "Permissions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[01]?[0-7]{3}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_give_nobody_the_rights_of_another() {
        for good in ["0644", "755", "1777", "000"] {
            let read = Permissions::try_from(good.to_owned()).expect(good);
            assert_eq!(u32::from_str_radix(&read.to_string(), 8), u32::from_str_radix(good, 8));
        }
        for bad in ["4755", "2755", "7777", "", "7", "07", "888", "+755", "00644", "rwx"] {
            assert!(Permissions::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
