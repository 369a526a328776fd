//! Whether a model is what it was when this device, or the image's builder, wrote its manifest.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    keys::{Checking, KeyError},
    manifest::{EMBEDDING_FILE, EMBEDDING_PARTS, MODEL_FILE, Manifest, ManifestError, SIGNATURE_FILE, file_in},
};

/// Files whose hash was right, as many as are remembered.
const REMEMBERED: usize = 64;

/// Which models are trusted.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Where the device's public key lies.
    pub keys: PathBuf,
    /// Whether a model outside of `factory` needs the device's signature.
    pub require_signature: bool,
    /// Read-only directories that came with the image: their manifests count without a signature.
    pub factory: Vec<PathBuf>,
    /// File that remembers which files' hashes were right. `None`: every check reads the whole file.
    pub memory: Option<PathBuf>,
}

/// Why a model is not trusted. The text says what would make it so.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing says what the file must be.
    #[error(
        "{} has no manifest that this device signed: if you put it there, sign it with `aios model verify --sign {id}` \
         (or set models.require-signature = false)", path.display()
    )]
    Unsigned {
        /// Id of the model.
        id: String,
        /// Its file.
        path: PathBuf,
    },
    /// The manifest was changed, or is another device's.
    #[error(
        "{} is not this device's signature of model.toml beside it: pull the model again, or, if you know where it is from, \
         sign it with `aios model verify --sign {id}`", path.display()
    )]
    Signature {
        /// Id of the model.
        id: String,
        /// Signature file.
        path: PathBuf,
    },
    /// The file is another one than the manifest says.
    #[error(
        "{} is not the file of its manifest: expected {expected}, found {found}; remove the model (`aios model rm`) and \
         pull it again", path.display()
    )]
    Tampered {
        /// Id of the model.
        id: String,
        /// Its file.
        path: PathBuf,
        /// What the manifest says: a hash or a size.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file can't be read.
    #[error("{path}: can't be read: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How a model came to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It came with the image.
    Factory,
    /// This device signed its manifest.
    Signed,
    /// Nobody vouches for it, and the configuration asks for nobody to.
    Unsigned,
}

/// A model that is trusted.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// Why.
    pub origin: Origin,
    /// Its manifest, where it has one.
    pub manifest: Option<Manifest>,
}

impl Trusted {
    /// What tells the file of the model in `folder` from every other: its hash, or where nobody vouches for it, what the
    /// file system knows of it.
    pub fn identity(&self, folder: &Path) -> io::Result<String> {
        match &self.manifest {
            Some(manifest) => Ok(manifest.sha256.clone()),
            None => sight(&File::open(folder.join(file_in(folder).unwrap_or(MODEL_FILE)))?, "unknown"),
        }
    }
}

impl Trust {
    /// Trusts every model whose file is the one of its manifest, if it has one.
    pub fn anything() -> Self {
        Trust::default()
    }

    /// Checks the model in `folder`, whose name is its id. Reads the file only where it is not remembered unchanged.
    pub fn check(&self, folder: &Path) -> Result<Trusted, TrustError> {
        self.examine(folder, self.memory.as_deref())
    }

    /// Checks the model in `folder`, reading all of its file.
    pub fn check_in_full(&self, folder: &Path) -> Result<Trusted, TrustError> {
        self.examine(folder, None)
    }

    /// Whether the directory of models `dir` came with the image.
    pub fn is_factory(&self, dir: &Path) -> bool {
        self.factory.iter().any(|factory| factory == dir)
    }

    fn examine(&self, folder: &Path, memory: Option<&Path>) -> Result<Trusted, TrustError> {
        let file = file_in(folder).unwrap_or(MODEL_FILE);
        let path = folder.join(file);
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let factory = folder.parent().is_some_and(|dir| self.is_factory(dir));
        let Some((manifest, text)) = Manifest::read(folder)? else {
            return match self.require_signature {
                true => Err(TrustError::Unsigned { id, path }),
                false => Ok(Trusted { origin: Origin::Unsigned, manifest: None }),
            };
        };
        let origin = match factory {
            true => Origin::Factory,
            false => self.signature(folder, &id, &path, &text)?,
        };
        if manifest.file != file {
            return Err(TrustError::Tampered { id, path, expected: manifest.file, found: file.to_owned() });
        }
        check_file(&path, &id, Some(manifest.size), &manifest.sha256, memory)?;
        for (name, sha256) in manifest.parts() {
            check_file(&folder.join(name), &id, None, sha256, memory)?;
        }
        // What nobody vouched for must not be read beside what somebody did.
        let listed = |name: &str| manifest.parts().any(|(part, _)| part == name);
        let unknown = EMBEDDING_PARTS.iter().find(|name| !listed(name) && folder.join(name).exists());
        if let Some(name) = unknown.filter(|_| file == EMBEDDING_FILE) {
            let (path, expected) = (folder.join(name), "none, by `also` of the manifest".to_owned());
            return Err(TrustError::Tampered { id, path, expected, found: "a file".to_owned() });
        }
        Ok(Trusted { origin, manifest: Some(manifest) })
    }

    fn signature(&self, folder: &Path, id: &str, path: &Path, text: &str) -> Result<Origin, TrustError> {
        let (id, file) = (id.to_owned(), folder.join(SIGNATURE_FILE));
        let signature = match fs::read_to_string(&file) {
            Ok(signature) => signature,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.require_signature {
                    true => Err(TrustError::Unsigned { id, path: path.to_owned() }),
                    false => Ok(Origin::Unsigned),
                };
            }
            Err(source) => return Err(TrustError::Read { path: file, source }),
        };
        match Checking::open(&self.keys)? {
            Some(key) if key.is_signed(text, &signature) => Ok(Origin::Signed),
            // Without a key of its own the device can have signed nothing.
            None if !self.require_signature => Ok(Origin::Unsigned),
            _ => Err(TrustError::Signature { id, path: file }),
        }
    }
}

fn check_file(path: &Path, id: &str, size: Option<u64>, sha256: &str, memory: Option<&Path>) -> Result<(), TrustError> {
    let unreadable = |source| TrustError::Read { path: path.to_owned(), source };
    let tampered = |expected: String, found: String| TrustError::Tampered {
        id: id.to_owned(),
        path: path.to_owned(),
        expected,
        found,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    if let Some(size) = size.filter(|&size| size != found) {
        return Err(tampered(format!("{size} bytes"), format!("{found} bytes")));
    }
    let seen = sight(&file, sha256).map_err(unreadable)?;
    let mut known = memory.map(recall).unwrap_or_default();
    if known.contains(&seen) {
        return Ok(());
    }
    let found = hash(&mut file).map_err(unreadable)?;
    if found != sha256 {
        return Err(tampered(format!("sha256 {sha256}"), format!("sha256 {found}")));
    }
    // A file that changed while it was read is not what was hashed.
    if let Some(memory) = memory.filter(|_| sight(&file, sha256).is_ok_and(|again| again == seen)) {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(seen);
        remember(memory, &known);
    }
    Ok(())
}

/// A file as the file system knows it. Whoever changes its content changes its `ctime`, which only root can turn back.
fn sight(file: &File, sha256: &str) -> io::Result<String> {
    let metadata = file.metadata()?;
    let time = |seconds: i64, nanoseconds: i64| format!("{seconds}.{nanoseconds:09}");
    let (modified, changed) =
        (time(metadata.mtime(), metadata.mtime_nsec()), time(metadata.ctime(), metadata.ctime_nsec()));
    Ok(format!("{sha256} {} {} {} {modified} {changed}", metadata.dev(), metadata.ino(), metadata.len()))
}

fn recall(memory: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(memory).unwrap_or_default();
    text.lines().take(REMEMBERED).map(str::to_owned).collect()
}

/// Losing this costs a second at the next load, so that no failure is worth a word.
fn remember(memory: &Path, known: &BTreeSet<String>) {
    let draft = memory.with_extension("draft");
    let lines: String = known.iter().map(|line| format!("{line}\n")).collect();
    if fs::write(&draft, lines).is_ok() {
        let _ = fs::rename(&draft, memory);
    }
}

/// SHA-256 of what is left of a file.
pub fn hash(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(aios_keys::hex::encode(&hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
