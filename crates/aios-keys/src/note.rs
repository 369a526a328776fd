//! Signed notes: C2SP's signed-note format, with two signatures that both have to hold.
//!
//! A note is a text that ends with a line's end, an empty line, and a line for each signature:
//!
//! ```text
//! — <key name> <base64 of 4 bytes key id and the signature>
//! ```
//!
//! The first signature is Ed25519 (type 0x01) over the text, as the format has it and any of its readers checks it. The
//! second is ML-DSA-65 (FIPS 204, deterministic) over the text with the context [`CONTEXT`]; the format has no type for
//! it yet, so its type is 0xff and [`ML_DSA_TYPE`], as the format recommends. Other readers ignore it.

mod public;
mod signer;
mod wire;

pub use public::Verifier;
pub use signer::Signer;

/// Type of the Ed25519 signature in key ids and public keys.
pub const ED25519_TYPE: &[u8] = b"\x01";
/// Type of the ML-DSA-65 signature in key ids and public keys.
pub const ML_DSA_TYPE: &[u8] = b"\xffaios/ml-dsa-65";
/// Context (FIPS 204, section 5.2) of the ML-DSA-65 signature.
pub const CONTEXT: &[u8] = b"aios signed note 1";
/// Longest note that is read, in bytes: far more than a text of some lines and 16 signatures.
pub const NOTE_MAX: usize = 256 << 10;
/// Most signatures that are looked at; the format asks for 16 at least.
pub const SIGNATURES_MAX: usize = 64;

/// Why a note can't be signed or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key's name can't stand in a signature line.
    #[error("'{0}' is no name of a key: use 1 to 128 printable ASCII characters without spaces and '+'")]
    Name(String),
    /// The text can't be signed.
    #[error("a text can be signed that ends with a line's end and has no other control characters")]
    Text,
    /// It has not the form of a signed note.
    #[error("is no signed note: {0}")]
    Form(&'static str),
    /// A signature that should be there is missing.
    #[error("has no {algorithm} signature of '{name}'; both Ed25519 and ML-DSA-65 are needed")]
    Missing {
        /// Name of the key.
        name: String,
        /// Which of the two is missing.
        algorithm: &'static str,
    },
    /// A signature is not one of this text.
    #[error(
        "the {algorithm} signature of '{name}' is not one of this text: it was changed after it was signed, or signed by another key"
    )]
    Wrong {
        /// Name of the key.
        name: String,
        /// Which of the two is wrong.
        algorithm: &'static str,
    },
    /// A public key can't be read.
    #[error("is no public key for notes: {0}")]
    PublicKey(&'static str),
}

#[cfg(test)]
mod tests;
