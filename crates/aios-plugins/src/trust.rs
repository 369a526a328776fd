//! Whose plugins this device takes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aios_keys::note::{NoteError, Verifier};

use crate::{name::Name, package::Package};

/// Ending of the files that hold a public key.
pub const KEY_EXTENSION: &str = "pub";
/// Longest file of a public key, in bytes.
const KEY_MAX: u64 = 16 << 10;

/// The public keys whose signatures count.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The keys.
    pub keys: Vec<Verifier>,
    /// Whether a plugin needs the signature of one of them.
    pub require_signature: bool,
}

/// Why a plugin is not trusted. The text says what would make it so.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nobody signed it.
    #[error("plugin {0} is not signed: ask its maker for plugin.sig (or set plugins.require-signature = false)")]
    Unsigned(Name),
    /// Somebody signed it whom this device does not know.
    #[error(
        "plugin {0} is signed by no key that this device trusts: if you know its maker, put the maker's public key into \
         /var/lib/aios/keys/plugins (or set plugins.require-signature = false)"
    )]
    Stranger(Name),
    /// It is not what was signed.
    #[error("plugin {name} is not what {signer} signed: get it again from its maker")]
    Changed {
        /// Its name.
        name: Name,
        /// Name of the key.
        signer: String,
    },
    /// A key can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key can't be used.
    #[error("{}: {source}; delete it, or put the maker's key there again", path.display())]
    Key {
        /// File.
        path: PathBuf,
        /// Why.
        source: NoteError,
    },
}

impl Trust {
    /// The keys in the files `*.pub` of `folders`; a folder that does not exist holds none.
    pub fn open(folders: &[PathBuf], require_signature: bool) -> Result<Trust, TrustError> {
        let mut keys = Vec::new();
        for folder in folders {
            let read = |source| TrustError::Read { path: folder.clone(), source };
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(read(error)),
            };
            for entry in entries {
                let path = entry.map_err(read)?.path();
                if path.extension().is_some_and(|extension| extension == KEY_EXTENSION) {
                    keys.push(key(&path)?);
                }
            }
        }
        Ok(Trust { keys, require_signature })
    }

    /// Name of the key that vouches for `package`; `None` where nobody does and nobody has to.
    pub fn check(&self, package: &Package) -> Result<Option<String>, TrustError> {
        let name = || package.manifest().name.clone();
        let Some(note) = package.note() else {
            return if self.require_signature { Err(TrustError::Unsigned(name())) } else { Ok(None) };
        };
        for key in &self.keys {
            match key.open(note) {
                Ok(text) if text == package.statement() => return Ok(Some(key.name().to_owned())),
                Ok(_) | Err(NoteError::Wrong { .. }) => {
                    return Err(TrustError::Changed { name: name(), signer: key.name().to_owned() });
                }
                Err(_) => {}
            }
        }
        if self.require_signature { Err(TrustError::Stranger(name())) } else { Ok(None) }
    }
}

fn key(path: &Path) -> Result<Verifier, TrustError> {
    use io::Read as _;
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(KEY_MAX).read_to_string(&mut text));
    read.map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| TrustError::Key { path: path.to_owned(), source })
}
