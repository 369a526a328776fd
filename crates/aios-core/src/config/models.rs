//! `[models]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Violation;
use crate::{paths, quantity::ByteSize};

/// `[models]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Models {
    /// The hub that models are pulled from, or a mirror that speaks its protocol.
    pub hub_endpoint: String,
    /// File with the hub's token. A plain name is looked up in the device's secrets.
    pub hub_token_file: Option<PathBuf>,
    /// Where `aios model pull`, `import` and `convert` put models.
    pub directory: PathBuf,
    /// Room that stays free on the file system of `directory`.
    pub reserve: ByteSize,
    /// Where the key lies that manifests are signed with.
    pub keys: PathBuf,
    /// Whether the runtime loads a model outside of the factory's directory only where this device signed its manifest.
    pub require_signature: bool,
}

impl Default for Models {
    fn default() -> Self {
        Models {
            hub_endpoint: "https://huggingface.co".into(),
            hub_token_file: None,
            directory: paths::DEVICE_MODELS.into(),
            reserve: ByteSize(256 << 20),
            keys: paths::KEYS.into(),
            require_signature: true,
        }
    }
}

impl Models {
    /// The first rule that the values break.
    pub(super) fn violation(&self) -> Option<Violation> {
        let broken = |key, reason: &str| Some(Violation { key, reason: reason.into() });
        let scheme = ["https://", "http://"].into_iter().find_map(|scheme| self.hub_endpoint.strip_prefix(scheme));
        if scheme.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
            return broken(&["models", "hub-endpoint"], "use an address such as \"https://huggingface.co\"");
        }
        if !self.directory.is_absolute() {
            return broken(&["models", "directory"], "use an absolute path");
        }
        if !self.keys.is_absolute() {
            return broken(&["models", "keys"], "use an absolute path");
        }
        None
    }
}
