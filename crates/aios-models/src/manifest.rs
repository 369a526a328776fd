//! `model.toml`: what is known about a model's file.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// File of a model in its folder.
pub const MODEL_FILE: &str = "model.gguf";
/// File of an embedding model in its folder.
pub const EMBEDDING_FILE: &str = "model.safetensors";
/// What an embedding model needs besides; the last one need not be there.
pub const EMBEDDING_PARTS: [&str; 3] = ["config.json", "tokenizer.json", "sentence_bert_config.json"];
/// Manifest of a model in its folder.
pub const MANIFEST_FILE: &str = "model.toml";
/// Signature of the manifest.
pub const SIGNATURE_FILE: &str = "model.toml.sig";

/// A manifest has a dozen lines.
const MAX_BYTES: u64 = 64 << 10;

/// What is known about a model's file. Its text is what is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Id of the model, which is the name of its folder.
    pub id: String,
    /// Name of the weights' file.
    pub file: String,
    /// SHA-256 of the file, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// SPDX expression, or the name that the publisher gives; `unknown` where there is none.
    pub licence: String,
    /// Where the file is from, for example `hub:OWNER/NAME/FILE.gguf`.
    pub source: String,
    /// Commit of the hub's repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Longest context, in tokens, that the model was trained for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Further files of the model: `NAME SHA256` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

/// Why a manifest can't be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It can't be read.
    #[error("{path}: can't be read: {source}")]
    Read {
        /// File.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is no manifest, or one of another model.
    #[error("{path}: {reason}")]
    Content {
        /// File.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Manifest {
    /// Reads the manifest of the model folder `folder`, and its text. `None` where there is none.
    pub fn read(folder: &Path) -> Result<Option<(Manifest, String)>, ManifestError> {
        let path = folder.join(MANIFEST_FILE);
        let name = || path.display().to_string();
        let content = |reason: String| ManifestError::Content { path: name(), reason };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(content(format!("has {} bytes; a manifest has at most {MAX_BYTES}", metadata.len())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ManifestError::Read { path: name(), source }),
        }
        let text = fs::read_to_string(&path).map_err(|source| ManifestError::Read { path: name(), source })?;
        let manifest = Manifest::parse(&text).map_err(content)?;
        let id = folder.file_name().and_then(|id| id.to_str()).unwrap_or_default();
        if manifest.id != id {
            return Err(content(format!(
                "is the manifest of model '{}', and lies in the folder of '{id}'",
                manifest.id
            )));
        }
        Ok(Some((manifest, text)))
    }

    /// Reads the text of a manifest. The error is the reason alone.
    pub fn parse(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest = toml::from_str(text).map_err(|error| error.message().trim().replace('\n', ", "))?;
        if manifest.file != MODEL_FILE && manifest.file != EMBEDDING_FILE {
            return Err(format!(
                "names the file {:?}; only {MODEL_FILE:?} and {EMBEDDING_FILE:?} are possible",
                manifest.file
            ));
        }
        if let Some(line) = manifest.also.iter().find(|line| part(line).is_none()) {
            return Err(format!("also has {line:?}; it takes \"NAME SHA256\" of files in the folder"));
        }
        if !is_sha256(&manifest.sha256) {
            return Err("sha256 is not 64 lower-case hexadecimal digits".to_owned());
        }
        Ok(manifest)
    }

    /// Names and hashes of the further files.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.also.iter().filter_map(|line| part(line))
    }

    /// The manifest's text.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("invariant: texts and numbers have a TOML form")
    }
}

/// Which kind of model lies in a folder, by its file; `None` where none does.
pub fn file_in(folder: &Path) -> Option<&'static str> {
    [MODEL_FILE, EMBEDDING_FILE].into_iter().find(|file| folder.join(file).is_file())
}

/// Name and hash of a further file.
fn part(line: &str) -> Option<(&str, &str)> {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    line.split_once(' ')
        .filter(|(name, hash)| plain(name) && !name.is_empty() && !name.starts_with('.') && is_sha256(hash))
}

/// Whether `text` is a SHA-256 as manifests have it.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            id: "tiny".into(),
            file: MODEL_FILE.into(),
            sha256: "ab".repeat(32),
            size: 7,
            licence: "MIT".into(),
            source: "hub:a/b/\"quoted\\.gguf".into(),
            revision: None,
            context: Some(512),
            also: vec![format!("config.json {}", "cd".repeat(32))],
        }
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        assert_eq!(Manifest::parse(&manifest().text()), Ok(manifest()));
    }

    #[test]
    fn a_manifest_of_another_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("other");
        fs::create_dir(&folder).unwrap();
        assert!(Manifest::read(&folder).unwrap().is_none());
        fs::write(folder.join(MANIFEST_FILE), manifest().text()).unwrap();
        let reason = Manifest::read(&folder).unwrap_err().to_string();
        assert!(reason.ends_with("is the manifest of model 'tiny', and lies in the folder of 'other'"), "{reason}");
        fs::write(folder.join(MANIFEST_FILE), vec![b' '; 65 << 10]).unwrap();
        assert!(Manifest::read(&folder).unwrap_err().to_string().contains("a manifest has at most"));
    }

    #[test]
    fn values_that_lead_elsewhere_are_refused() {
        let refused = |change: fn(&mut Manifest)| {
            let mut changed = manifest();
            change(&mut changed);
            Manifest::parse(&changed.text()).unwrap_err()
        };
        assert!(refused(|manifest| manifest.file = "../secret".into()).contains("names the file"));
        for line in ["config.json", "../x 00", "a/b 00", " 00"].map(|line| line.replace("00", &"00".repeat(32))) {
            let mut changed = manifest();
            changed.also = vec![line];
            assert!(Manifest::parse(&changed.text()).unwrap_err().contains("also has"));
        }
        assert!(refused(|manifest| manifest.sha256 = "AB".repeat(32)).contains("lower-case"));
    }
}
