//! `[install]`: what the live medium does by itself. An installed system carries the section and never acts on it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Violation;

/// `[install]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Install {
    /// Where to: `/dev/NAME`, or `auto` for the only empty disk. Absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<InstallDisk>,
    /// Overwrite what is on the named disk. An aiOS that is installed there stays all the same.
    pub force: bool,
    /// What follows.
    pub then: AfterInstall,
}

/// The disk of an unattended installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallDisk {
    /// The only disk that is empty, built in, and large enough.
    Auto,
    /// This one.
    Path(PathBuf),
}

/// What follows an installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterInstall {
    /// Switch off, so that the medium can be taken out.
    #[default]
    #[serde(rename = "poweroff")]
    PowerOff,
    /// Start again, from the disk where the firmware prefers it to the medium.
    Reboot,
}

impl Install {
    /// The first rule that the values break.
    pub(super) fn violation(&self) -> Option<Violation> {
        let broken = |key, reason: &str| Some(Violation { key, reason: reason.into() });
        match &self.disk {
            Some(InstallDisk::Path(path)) if path.parent() != Some(Path::new("/dev")) => {
                broken(&["install", "disk"], "use \"auto\", or a disk such as \"/dev/nvme0n1\"")
            }
            Some(InstallDisk::Auto) if self.force => broken(
                &["install", "force"],
                "\"auto\" takes an empty disk only: name the disk in install.disk, or leave force out",
            ),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for InstallDisk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Err(D::Error::custom("use \"auto\", or a disk such as \"/dev/nvme0n1\"")),
            "auto" => Ok(InstallDisk::Auto),
            path => Ok(InstallDisk::Path(path.into())),
        }
    }
}

impl Serialize for InstallDisk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            InstallDisk::Auto => serializer.serialize_str("auto"),
            InstallDisk::Path(path) => path.serialize(serializer),
        }
    }
}
