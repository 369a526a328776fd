//! What lies at a path, as data.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use aios_keys::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A file's name or a link's target: any bytes. JSON holds it as text or, where it is not UTF-8, as `{"hex": "..."}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub OsString);

/// What lies at a path. Equal nodes have equal bytes, modes, owners and extended attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Node {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Owner, mode and so on.
        attributes: Attributes,
        /// Bytes.
        size: u64,
        /// SHA-256 of the contents in hexadecimal digits; also the name of the copy.
        sha256: String,
    },
    /// A folder.
    Folder {
        /// Owner, mode and so on.
        attributes: Attributes,
        /// What is in it, by name.
        entries: Vec<(Name, Node)>,
    },
    /// A symbolic link.
    Link {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// What it points at.
        target: Name,
    },
}

/// What a file or folder has besides its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, with set-user-ID, set-group-ID and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by name, values in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// Copies of files' contents: a folder with a file for each content, named by its SHA-256.
#[derive(Clone, Debug)]
pub struct Blobs(PathBuf);

impl Blobs {
    /// Those in the folder `path`.
    pub fn in_folder(path: impl Into<PathBuf>) -> Self {
        Blobs(path.into())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Opens a copy.
    pub fn open(&self, sha256: &str) -> io::Result<File> {
        File::open(self.0.join(sha256))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Bytes { hex: hex::encode(self.0.as_bytes()) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Bytes(Bytes),
        }
        let bytes = match Either::deserialize(deserializer)? {
            Either::Text(text) => text.into_bytes(),
            Either::Bytes(Bytes { hex: digits }) => hex::decode_any(&digits)
                .ok_or_else(|| D::Error::custom("a name is not written in hexadecimal digits"))?,
        };
        Ok(Name(OsString::from_vec(bytes)))
    }
}

#[derive(Serialize, Deserialize)]
struct Bytes {
    hex: String,
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}
