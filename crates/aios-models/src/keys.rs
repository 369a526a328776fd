//! The key that this device signs manifests with.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::manifest::{hex, unhex};

/// Private key: 64 hexadecimal digits, for root alone.
pub const PRIVATE_FILE: &str = "models.key";
/// Public key: 64 hexadecimal digits, for everybody.
pub const PUBLIC_FILE: &str = "models.pub";

/// What is signed begins with this, so that the signature of a manifest is never one of anything else.
const PURPOSE: &[u8] = b"aios model manifest 1\n";

/// Why a key can't be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no key.
    #[error("{path}: is not a key of 64 hexadecimal digits; without it models can't be checked or signed")]
    Content {
        /// File.
        path: PathBuf,
    },
    /// The two halves are not of one pair.
    #[error("{path}: is not the public half of {PRIVATE_FILE}; delete it, and it is made again")]
    Pair {
        /// File.
        path: PathBuf,
    },
}

/// Signs manifests.
pub struct Signing(SigningKey);

/// Checks signatures of manifests.
#[derive(Clone, Debug)]
pub struct Checking(VerifyingKey);

impl Signing {
    /// Reads the key in the folder `keys`, or makes one there.
    pub fn open_or_make(keys: &Path) -> Result<Signing, KeyError> {
        let path = keys.join(PRIVATE_FILE);
        let seed = match read(&path)? {
            Some(seed) => seed,
            None => {
                make(keys, &path).map_err(|source| KeyError::Io { path: path.clone(), source })?;
                read(&path)?.ok_or_else(|| KeyError::Content { path: path.clone() })?
            }
        };
        let signing = Signing(SigningKey::from_bytes(&seed));
        let public = keys.join(PUBLIC_FILE);
        match read(&public)? {
            Some(bytes) if bytes == signing.0.verifying_key().to_bytes() => {}
            Some(_) => return Err(KeyError::Pair { path: public }),
            None => {
                let text = format!("{}\n", hex(&signing.0.verifying_key().to_bytes()));
                write_new(keys, &public, text.as_bytes(), 0o644)
                    .map_err(|source| KeyError::Io { path: public.clone(), source })?;
            }
        }
        Ok(signing)
    }

    /// The signature of a manifest, as `model.toml.sig` holds it.
    pub fn sign(&self, manifest: &str) -> String {
        format!("{}\n", hex(&self.0.sign(&message(manifest)).to_bytes()))
    }
}

impl Checking {
    /// Reads the public key in the folder `keys`; `None` where this device has made none.
    pub fn open(keys: &Path) -> Result<Option<Checking>, KeyError> {
        let path = keys.join(PUBLIC_FILE);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        VerifyingKey::from_bytes(&bytes).map(|key| Some(Checking(key))).map_err(|_| KeyError::Content { path })
    }

    /// Whether `signature` is this device's signature of `manifest`.
    pub fn is_signed(&self, manifest: &str, signature: &str) -> bool {
        let signature = unhex::<64>(signature.trim_ascii()).map(|bytes| Signature::from_bytes(&bytes));
        signature.is_some_and(|signature| self.0.verify_strict(&message(manifest), &signature).is_ok())
    }
}

fn message(manifest: &str) -> Vec<u8> {
    [PURPOSE, manifest.as_bytes()].concat()
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    match fs::read_to_string(path) {
        Ok(text) => unhex(text.trim_ascii()).map(Some).ok_or_else(|| KeyError::Content { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Io { path: path.to_owned(), source }),
    }
}

fn make(keys: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(keys)?;
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    match write_new(keys, path, format!("{}\n", hex(&seed)).as_bytes(), 0o600) {
        // Another process was first: its key is the device's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written,
    }
}

/// Writes a file that is not there yet: whole, and on the disk when this returns.
fn write_new(folder: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    })();
    let _ = fs::remove_file(&draft);
    written?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_its_private_half_is_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        assert!(Checking::open(&keys).unwrap().is_none());
        let signature = Signing::open_or_make(&keys).unwrap().sign("manifest");
        assert_eq!(Signing::open_or_make(&keys).unwrap().sign("manifest"), signature, "the same key again");
        let mode = |name: &str| fs::metadata(keys.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(PRIVATE_FILE), mode(PUBLIC_FILE)), (0o600, 0o644));
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 2);

        let checking = Checking::open(&keys).unwrap().unwrap();
        assert!(checking.is_signed("manifest", &signature));
        assert!(!checking.is_signed("manifest.", &signature));
        assert!(!checking.is_signed("manifest", &signature.replace(&signature[..2], "00")));
        assert!(!checking.is_signed("manifest", ""));
        let other = dir.path().join("other");
        let stranger = Signing::open_or_make(&other).unwrap();
        assert!(!checking.is_signed("manifest", &stranger.sign("manifest")), "another device's signature");
    }

    #[test]
    fn a_public_half_that_is_lost_is_made_again_and_a_wrong_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Signing::open_or_make(dir.path()).unwrap();
        fs::remove_file(dir.path().join(PUBLIC_FILE)).unwrap();
        Signing::open_or_make(dir.path()).unwrap();
        assert!(Checking::open(dir.path()).unwrap().is_some());
        fs::write(dir.path().join(PUBLIC_FILE), "ab".repeat(32)).unwrap();
        assert!(matches!(Signing::open_or_make(dir.path()), Err(KeyError::Pair { .. })));
        fs::write(dir.path().join(PUBLIC_FILE), "short").unwrap();
        assert!(matches!(Checking::open(dir.path()), Err(KeyError::Content { .. })));
    }
}
