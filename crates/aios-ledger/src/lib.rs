//! The ledger: what was asked, decided and done on this device, in an order that nobody can change unseen.
//!
//! An entry is one line of canonical JSON (RFC 8785). Each is chained to the one before it by SHA-256, all are the leaves
//! of a Merkle tree (RFC 6962), and the tree is signed every so often: a [`Checkpoint`]. docs/formats/ledger.md has every
//! byte.
//!
//! One process writes ([`Ledger`]); any number of others read the same file at the same time ([`Reader`]). [`verify()`]
//! tells whether what is there is what was written, [`export()`] takes it elsewhere, [`verify_export`] checks it there.

#![forbid(unsafe_code)]

mod canonical;
mod checkpoint;
mod entry;
mod error;
mod export;
mod hash;
mod ledger;
mod read;
mod redact;
mod tables;
mod tree;
mod verify;

pub use canonical::canonical;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use entry::{BODY_DEPTH_MAX, Entry, EntryError, RECORD_MAX, RETENTION, Receipt, Record};
pub use error::{LedgerError, ReadError};
pub use export::{ExportError, Exported, export, verify_export};
pub use hash::Hash;
pub use ledger::{CheckpointEvery, Clock, Ledger, Options, Pruned, redactor, signer, verifier};
pub use read::{Filter, Order, Reader, Snapshot, Stored};
pub use redact::Redactor;
pub use verify::{Fault, Reason, Report, verify};
