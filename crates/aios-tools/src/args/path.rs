//! Paths.

use std::{borrow::Cow, fmt, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest path that Linux takes, without the final zero.
const LENGTH_MAX: usize = 4095;

/// An absolute path in its only form: no `.`, no `..`, no `//`, no `/` at the end, no zero byte or control character.
///
/// So a capability for a folder can be compared with it as text. It says nothing about symbolic links: the sandbox
/// follows none on the way to a path of the arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

/// Why a text is no [`AbsolutePath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path {0:?} is not absolute: it must begin with /")]
    Relative(String),
    /// It has a part that is not in its place.
    #[error("the path {0:?} must not hold empty parts, \".\" or \"..\", nor end with /")]
    Parts(String),
    /// It holds a zero byte or another control character.
    #[error("the path {0:?} holds a control character")]
    Control(String),
    /// It is longer than Linux takes.
    #[error("the path is longer than {LENGTH_MAX} bytes")]
    Long,
}

impl AbsolutePath {
    /// Checks `path`.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        if path.len() > LENGTH_MAX {
            return Err(PathError::Long);
        }
        if path.chars().any(char::is_control) {
            return Err(PathError::Control(path));
        }
        let Some(rest) = path.strip_prefix('/') else { return Err(PathError::Relative(path)) };
        if !rest.is_empty() && rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(PathError::Parts(path));
        }
        Ok(AbsolutePath(path))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The folder that holds it; `None` for `/`.
    pub fn parent(&self) -> Option<AbsolutePath> {
        let parent = self.as_path().parent()?.to_str().expect("invariant: a part of UTF-8 between slashes is UTF-8");
        Some(AbsolutePath(parent.to_owned()))
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AbsolutePath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        AbsolutePath::new(path)
    }
}

impl From<AbsolutePath> for String {
    fn from(path: AbsolutePath) -> String {
        path.0
    }
}

impl JsonSchema for AbsolutePath {
    fn schema_name() -> Cow<'static, str> {
        "AbsolutePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^/", "maxLength": LENGTH_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for good in ["/", "/etc/hosts", "/a b/ü", "/..a", "/a/...", "/~"] {
            assert_eq!(AbsolutePath::new(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "etc", "./a", "//", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a/.", "/a\0b", "/a\nb"] {
            assert!(AbsolutePath::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(AbsolutePath::new(format!("/{}", "a".repeat(LENGTH_MAX))), Err(PathError::Long));
    }
}
