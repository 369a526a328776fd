//! The tables of the ledger's database.

use redb::TableDefinition;

use crate::{
    hash::Hash,
    tree::{Frontier, peaks_of},
};

/// By number: the hash of the chain up to the entry (32 bytes), and the record.
pub(crate) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// By size: the peaks of the tree (32 bytes each), and the signed note.
pub(crate) const CHECKPOINTS: TableDefinition<u64, &[u8]> = TableDefinition::new("checkpoints");
/// What the ledger is: [`FORMAT`] and [`ORIGIN`].
pub(crate) const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// Name of the format's version in [`ABOUT`].
pub(crate) const FORMAT: &str = "format";
/// The version of this program.
pub(crate) const FORMAT_NOW: &str = "aios ledger 1";
/// Name of the ledger's name in [`ABOUT`].
pub(crate) const ORIGIN: &str = "origin";

/// The value of an entry.
pub(crate) fn entry_value(hash: &Hash, record: &str) -> Vec<u8> {
    [&hash[..], record.as_bytes()].concat()
}

/// Hash and record of an entry's value.
pub(crate) fn parse_entry(value: &[u8]) -> Option<(&Hash, &[u8])> {
    value.split_first_chunk()
}

/// The value of a checkpoint.
pub(crate) fn checkpoint_value(frontier: &Frontier, note: &str) -> Vec<u8> {
    [&frontier.to_bytes()[..], note.as_bytes()].concat()
}

/// Tree and note of the value of the checkpoint of `size` entries.
pub(crate) fn parse_checkpoint(size: u64, value: &[u8]) -> Option<(Frontier, &str)> {
    let (peaks, note) = value.split_at_checked(32 * peaks_of(size))?;
    Some((Frontier::from_bytes(size, peaks)?, str::from_utf8(note).ok()?))
}
