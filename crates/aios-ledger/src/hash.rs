//! The hashes of the ledger.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What the hash of the chain's start begins with.
const START: &[u8] = b"aios ledger start 1\n";
/// What the hash of a link begins with.
const LINK: &[u8] = b"aios ledger entry 1\n";
/// What the hash of a leaf begins with (RFC 6962).
const LEAF: &[u8] = &[0];
/// What the hash of a node begins with (RFC 6962).
const NODE: &[u8] = &[1];

/// What stands for the entry before the first one: it ties the chain to the ledger `origin`.
pub(crate) fn start(origin: &str) -> Hash {
    Sha256::new().chain_update(START).chain_update(origin).finalize().into()
}

/// The leaf of a record.
pub(crate) fn leaf(record: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF).chain_update(record).finalize().into()
}

/// The node above two others.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(NODE).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of the chain up to a record. The record is in it by its leaf: so it is read but once for chain and tree.
pub(crate) fn link(previous: &Hash, leaf: &Hash) -> Hash {
    Sha256::new().chain_update(LINK).chain_update(previous).chain_update(leaf).finalize().into()
}

/// The root of a tree without leaves (RFC 6962).
pub(crate) fn empty() -> Hash {
    Sha256::digest([]).into()
}
