//! `[plugins]`

use serde::{Deserialize, Serialize};

/// `[plugins]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plugins {
    /// Whether a plugin is installed and called only with the signature of a key that this device trusts.
    pub require_signature: bool,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins { require_signature: true }
    }
}
