//! The private half.

use ed25519_dalek::Signer as _;
use ml_dsa::{Keypair as _, MlDsa65};

use super::{CONTEXT, ED25519_TYPE, ML_DSA_TYPE, NoteError, Verifier, wire};
use crate::seed::Seed;

/// Signs notes with two keys under one name.
pub struct Signer {
    name: String,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: ml_dsa::SigningKey<MlDsa65>,
    ids: [wire::KeyId; 2],
}

impl Signer {
    /// The keys that `seed` gives, under the name `name`. The seed is for notes alone.
    pub fn new(name: &str, seed: &Seed) -> Result<Signer, NoteError> {
        wire::check_name(name)?;
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(seed.derive("note/ed25519").as_bytes());
        let ml_dsa = ml_dsa::SigningKey::<MlDsa65>::from_seed(&(*seed.derive("note/ml-dsa-65").as_bytes()).into());
        let ids = [
            wire::key_id(name, ED25519_TYPE, ed25519.verifying_key().as_bytes()),
            wire::key_id(name, ML_DSA_TYPE, &ml_dsa.verifying_key().encode()),
        ];
        Ok(Signer { name: name.to_owned(), ed25519, ml_dsa, ids })
    }

    /// Like [`Signer::new`], with a name that is `prefix` and 16 hexadecimal digits of the public keys: no two devices
    /// have the same.
    pub fn with_own_name(prefix: &str, seed: &Seed) -> Result<Signer, NoteError> {
        let public = Signer::new(prefix, seed)?.verifier().fingerprint();
        Signer::new(&format!("{prefix}{}", crate::hex::encode(&public[..8])), seed)
    }

    /// Name of both keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier {
        Verifier::of(&self.name, self.ed25519.verifying_key(), self.ml_dsa.verifying_key())
    }

    /// `text` with both signatures. It ends with a line's end, and has no other control characters.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        wire::check_text(text)?;
        let ml_dsa = self.ml_dsa.expanded_key().sign_deterministic(text.as_bytes(), CONTEXT);
        let ml_dsa = ml_dsa.expect("invariant: the context is shorter than 256 bytes").encode();
        let mut note = format!("{text}\n");
        wire::push_line(&mut note, &self.name, self.ids[0], &self.ed25519.sign(text.as_bytes()).to_bytes());
        wire::push_line(&mut note, &self.name, self.ids[1], &ml_dsa);
        Ok(note)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}
