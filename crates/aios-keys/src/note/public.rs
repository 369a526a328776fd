//! The public half.

use std::{fmt, str::FromStr};

use ml_dsa::MlDsa65;
use sha2::{Digest as _, Sha256};

use super::{CONTEXT, ED25519_TYPE, ML_DSA_TYPE, NoteError, wire};

const ED25519: &str = "Ed25519";
const ML_DSA: &str = "ML-DSA-65";

/// Checks notes: two public keys under one name. As text it is two lines, each a verifier key of the signed-note
/// format; other readers can use the first by itself.
#[derive(Clone)]
pub struct Verifier {
    name: String,
    ed25519: ed25519_dalek::VerifyingKey,
    ml_dsa: ml_dsa::VerifyingKey<MlDsa65>,
}

impl Verifier {
    pub(super) fn of(
        name: &str,
        ed25519: ed25519_dalek::VerifyingKey,
        ml_dsa: ml_dsa::VerifyingKey<MlDsa65>,
    ) -> Verifier {
        Verifier { name: name.to_owned(), ed25519, ml_dsa }
    }

    /// Name of both keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of both public keys, without the name.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.ed25519.as_bytes()).chain_update(self.ml_dsa.encode()).finalize().into()
    }

    /// The text of `note`, if it has both signatures and both hold. Those of other keys are ignored. On an error
    /// nothing of the note should be used.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, lines) = wire::split(note)?;
        let ed25519 = self.only(&lines, ED25519, ED25519_TYPE, self.ed25519.as_bytes())?;
        let ml_dsa = self.only(&lines, ML_DSA, ML_DSA_TYPE, &self.ml_dsa.encode())?;
        let wrong = |algorithm| NoteError::Wrong { name: self.name.clone(), algorithm };

        let signature = ed25519_dalek::Signature::from_slice(ed25519).map_err(|_| wrong(ED25519))?;
        self.ed25519.verify_strict(text.as_bytes(), &signature).map_err(|_| wrong(ED25519))?;
        let signature = ml_dsa::Signature::<MlDsa65>::try_from(ml_dsa).map_err(|_| wrong(ML_DSA))?;
        if !self.ml_dsa.verify_with_context(text.as_bytes(), CONTEXT, &signature) {
            return Err(wrong(ML_DSA));
        }
        Ok(text)
    }

    /// The one signature of this key.
    fn only<'l>(
        &self,
        lines: &'l [wire::Line<'_>],
        algorithm: &'static str,
        kind: &[u8],
        public: &[u8],
    ) -> Result<&'l [u8], NoteError> {
        let id = wire::key_id(&self.name, kind, public);
        let mut own = lines.iter().filter(|line| line.name == self.name && line.id == id);
        let first = own.next().ok_or_else(|| NoteError::Missing { name: self.name.clone(), algorithm })?;
        match own.next() {
            None => Ok(&first.signature),
            Some(_) => Err(NoteError::Form("two signatures of the same key")),
        }
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Verifier, NoteError> {
        let mut lines = text.lines();
        let (Some(first), Some(second), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::PublicKey("it has two lines, one for Ed25519 and one for ML-DSA-65"));
        };
        let (name, ed25519) = wire::parse_public(first)?;
        let (other, ml_dsa) = wire::parse_public(second)?;
        if name != other {
            return Err(NoteError::PublicKey("its two lines have different names"));
        }
        let ed25519 = ed25519.strip_prefix(ED25519_TYPE).and_then(|key| key.try_into().ok());
        let ed25519 = ed25519.and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(&key).ok());
        let ed25519 = ed25519.ok_or(NoteError::PublicKey("its first line is not of an Ed25519 key"))?;
        let ml_dsa = ml_dsa.strip_prefix(ML_DSA_TYPE).and_then(|key| key.try_into().ok());
        let ml_dsa = ml_dsa.ok_or(NoteError::PublicKey("its second line is not of an ML-DSA-65 key"))?;
        Ok(Verifier::of(name, ed25519, ml_dsa::VerifyingKey::decode(&ml_dsa)))
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", wire::public_line(&self.name, ED25519_TYPE, self.ed25519.as_bytes()))?;
        writeln!(f, "{}", wire::public_line(&self.name, ML_DSA_TYPE, &self.ml_dsa.encode()))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("name", &self.name).finish_non_exhaustive()
    }
}
