//! The key that this device signs manifests with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aios_keys::{
    hex,
    seed::{self, Seed, SeedError},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// Private key: 64 hexadecimal digits, for root alone.
pub const PRIVATE_FILE: &str = "models.key";
/// Public key: 64 hexadecimal digits, for everybody.
pub const PUBLIC_FILE: &str = "models.pub";

/// What is signed begins with this, so that the signature of a manifest is never one of anything else.
const PURPOSE: &[u8] = b"aios model manifest 1\n";

/// Why a key can't be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The private one, or the public one that belongs to it.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The public one can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The public one is no key.
    #[error("{}: is not a key of 64 hexadecimal digits; without it models can't be checked. `aios model verify --sign` makes it \
             again once it is deleted", .0.display())]
    Content(PathBuf),
}

/// Signs manifests.
pub struct Signing(SigningKey);

/// Checks signatures of manifests.
#[derive(Clone, Debug)]
pub struct Checking(VerifyingKey);

impl Signing {
    /// Reads the key in the folder `keys`, or makes one there.
    pub fn open_or_make(keys: &Path) -> Result<Signing, KeyError> {
        let seed = Seed::open_or_make(&keys.join(PRIVATE_FILE))?;
        let signing = Signing(SigningKey::from_bytes(seed.as_bytes()));
        let public = hex::encode(&signing.0.verifying_key().to_bytes());
        seed::publish(&keys.join(PUBLIC_FILE), &format!("{public}\n"))?;
        Ok(signing)
    }

    /// The signature of a manifest, as `model.toml.sig` holds it.
    pub fn sign(&self, manifest: &str) -> String {
        format!("{}\n", hex::encode(&self.0.sign(&message(manifest)).to_bytes()))
    }
}

impl Checking {
    /// Reads the public key in the folder `keys`; `None` where this device has made none.
    pub fn open(keys: &Path) -> Result<Option<Checking>, KeyError> {
        let path = keys.join(PUBLIC_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(KeyError::Io { path, cause }),
        };
        let key = hex::decode(text.trim_ascii()).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.map(|key| Some(Checking(key))).ok_or(KeyError::Content(path))
    }

    /// Whether `signature` is this device's signature of `manifest`.
    pub fn is_signed(&self, manifest: &str, signature: &str) -> bool {
        let signature = hex::decode::<64>(signature.trim_ascii()).map(|bytes| Signature::from_bytes(&bytes));
        signature.is_some_and(|signature| self.0.verify_strict(&message(manifest), &signature).is_ok())
    }
}

fn message(manifest: &str) -> Vec<u8> {
    [PURPOSE, manifest.as_bytes()].concat()
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
        assert!(matches!(Signing::open_or_make(dir.path()), Err(KeyError::Seed(SeedError::Public(_)))));
        fs::write(dir.path().join(PUBLIC_FILE), "short").unwrap();
        assert!(matches!(Checking::open(dir.path()), Err(KeyError::Content(_))));
    }
}
