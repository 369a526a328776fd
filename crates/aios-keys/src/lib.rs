//! Keys of this device, and what is signed with them.
//!
//! A [`Seed`](seed::Seed) is 32 secret bytes in a file that only its owner may read. A [`note`] is a text with the
//! signatures of C2SP's signed-note format: one by Ed25519 and one by ML-DSA-65, and it counts only with both. ML-DSA
//! implementations are young and Ed25519 falls to a quantum computer; who wants to forge a note has to break both.

#![forbid(unsafe_code)]

pub mod hex;
pub mod note;
pub mod seed;
