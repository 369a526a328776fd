//! What files are at one time: hash, mode, owner.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use aios_keys::hex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files;
use crate::{
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
};

/// Folder of the baselines. The daemon makes it.
pub const FOLDER: &str = "/var/lib/aios/tools/baseline";

/// Most files of one baseline.
const FILES_MAX: usize = 50_000;

/// Name of a baseline, and of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A baseline.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Trees that were looked at.
    pub paths: Vec<AbsolutePath>,
    /// Files and folders by their paths.
    pub files: BTreeMap<String, File>,
}

/// What a file was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Kind and permissions, as st_mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// SHA-256 of the bytes of a file, of a link's target; empty for all else.
    pub sha256: String,
}

impl Snapshot {
    /// Looks at `paths` and all below.
    pub fn take(host: &Host, paths: &[AbsolutePath]) -> Result<Snapshot, ToolError> {
        let mut taken = BTreeMap::new();
        for top in paths {
            let unread = files::walk(host, top, |met| {
                if taken.len() >= FILES_MAX {
                    let text = format!("more than {FILES_MAX} files: choose smaller trees");
                    return Err(ToolError::new(Code::TooLarge, text));
                }
                let sha256 = match hash(met.place, met.metadata) {
                    // Gone since it was listed: it is as if it had never been there.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => other.map_err(|error| ToolError::of_io(met.path, &error))?,
                };
                let metadata = met.metadata;
                let file = File { mode: metadata.mode(), uid: metadata.uid(), gid: metadata.gid(), sha256 };
                taken.insert(met.path.to_owned(), file);
                Ok(())
            })?;
            if let Some(path) = unread.first() {
                let text = format!("{path} can't be read, and {} more: a baseline must know all", unread.len() - 1);
                return Err(ToolError::new(Code::PermissionDenied, text));
            }
        }
        Ok(Snapshot { paths: paths.to_vec(), files: taken })
    }

    /// The baseline `name`.
    pub fn read(host: &Host, name: &Name) -> Result<Snapshot, ToolError> {
        let path = name.file();
        let bytes = fs::read(host.path(&path)).map_err(|error| ToolError::io(path.as_path(), &error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ToolError::new(Code::Failed, format!("{path} is damaged ({error}); make the baseline again"))
        })
    }

    /// Writes it as the baseline `name`, as a whole or not at all.
    pub fn write(&self, host: &Host, name: &Name) -> Result<(), ToolError> {
        let path = name.file();
        let bytes = serde_json::to_vec(self).map_err(|error| ToolError::new(Code::Failed, error.to_string()))?;
        let new = host.path(format!("{FOLDER}/.{}.new", name.0));
        let write = || {
            fs::write(&new, &bytes)?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(&new, host.path(&path))?;
            fs::File::open(host.path(FOLDER))?.sync_all()
        };
        write().map_err(|error| ToolError::io(path.as_path(), &error))
    }
}

fn hash(path: &Path, metadata: &fs::Metadata) -> io::Result<String> {
    let mut hasher = Sha256::new();
    if metadata.is_symlink() {
        hasher.update(fs::read_link(path)?.as_os_str().as_encoded_bytes());
    } else if metadata.is_file() {
        // What has become a link or a pipe since it was listed is not followed, and not waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let mut file = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
    } else {
        return Ok(String::new());
    }
    Ok(hex::encode(&hasher.finalize()))
}

impl Name {
    /// Path of its file.
    pub fn file(&self) -> AbsolutePath {
        AbsolutePath::new(format!("{FOLDER}/{}.json", self.0)).expect("invariant: a name is a part of a path")
    }
}

impl Default for Name {
    fn default() -> Self {
        Name("default".to_owned())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(Name(name));
        }
        Err(format!("{name:?} is not the name of a baseline: 1 to 32 small letters, digits or \"-\""))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "BaselineName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,32}$" })
    }
}
