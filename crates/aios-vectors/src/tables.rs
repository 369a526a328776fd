//! The tables, and what their rows hold.

use aios_tables::copy_table;
use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use crate::{
    error::Damage,
    graph::{LEVELS_MAX, Node, room},
    quantize::Vector,
};

/// What the tables are: [`FORMAT`], [`DIMENSIONS`], [`GENERATION`], [`SLOTS`], [`SWEPT`], [`SWEEP`].
pub(crate) const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("vectors.about");
/// By the item's number: slot (4 bytes), scale (4 bytes), a signed byte for each dimension.
pub(crate) const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.rows");
/// By slot divided by [`TOGETHER`]: the neighbours in the graph of so many slots, as they were at some time.
pub(crate) const LINKS: TableDefinition<u32, &[u8]> = TableDefinition::new("vectors.links");
/// By generation: the slots whose neighbours this batch changed, and these. They count, where [`LINKS`] has others.
pub(crate) const CHANGES: TableDefinition<u64, &[u8]> = TableDefinition::new("vectors.changes");

pub(crate) const ABOUT_NAME: &str = "vectors.about";
pub(crate) const ROWS_NAME: &str = "vectors.rows";
pub(crate) const LINKS_NAME: &str = "vectors.links";
pub(crate) const CHANGES_NAME: &str = "vectors.changes";

/// Slots in a row of [`LINKS`].
pub(crate) const TOGETHER: u32 = 16;

/// Name of the format's version in [`ABOUT`].
pub(crate) const FORMAT: &str = "format";
/// The version of this program.
pub(crate) const FORMAT_NOW: u64 = 2;
/// Name of the number of dimensions in [`ABOUT`].
pub(crate) const DIMENSIONS: &str = "dimensions";
/// Name of the number of batches so far in [`ABOUT`].
pub(crate) const GENERATION: &str = "generation";
/// Name of the number in [`ABOUT`] that all slots are below.
pub(crate) const SLOTS: &str = "slots";
/// Name of the number in [`ABOUT`] of rows of [`LINKS`] that were written in this sweep.
pub(crate) const SWEPT: &str = "swept";
/// Name of the generation in [`ABOUT`] in which this sweep began.
pub(crate) const SWEEP: &str = "sweep";

/// Bytes of a row before the vector's numbers.
const HEAD: usize = 8;

/// Removes all vectors with their tables, in this transaction. An [`Index`](crate::Index) of them can't be written to any
/// more: after the commit, [`Index::new`](crate::Index::new) makes one that can.
pub fn clear(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.delete_table(ABOUT)?;
    write.delete_table(ROWS)?;
    write.delete_table(LINKS)?;
    write.delete_table(CHANGES)?;
    Ok(())
}

/// Copies all vectors into a database that has none: what was removed stays behind, with the pages that it lay in.
pub fn copy(from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(ABOUT, from, to)?;
    copy_table(ROWS, from, to)?;
    copy_table(LINKS, from, to)?;
    copy_table(CHANGES, from, to)
}

/// The row of a vector, into `row`.
pub(crate) fn write_row(slot: u32, vector: &Vector, row: &mut Vec<u8>) {
    row.clear();
    row.extend(slot.to_le_bytes());
    row.extend(vector.scale.to_le_bytes());
    row.extend(vector.numbers.iter().map(|number| number.cast_unsigned()));
}

/// Slot, scale and numbers of the row of item `id`.
pub(crate) fn parse_row(id: u64, row: &[u8], dimensions: usize) -> Result<(u32, f32, &[u8]), Damage> {
    let damage = |reason: String| Damage::new(ROWS_NAME, id, reason);
    if row.len() != HEAD + dimensions {
        return Err(damage(format!("it has {} bytes, where {} belong", row.len(), HEAD + dimensions)));
    }
    let word = |at: usize| [row[at], row[at + 1], row[at + 2], row[at + 3]];
    let scale = f32::from_le_bytes(word(4));
    if !(scale.is_finite() && scale > 0.0) {
        return Err(damage(format!("its scale is {scale}")));
    }
    Ok((u32::from_le_bytes(word(0)), scale, &row[HEAD..]))
}

/// Appends a node of the graph to a row. One without levels is not in the graph.
pub(crate) fn write_node(node: &[impl AsRef<[u32]>], row: &mut Vec<u8>) {
    row.push(node.len() as u8);
    for links in node {
        let links = links.as_ref();
        row.push(links.len() as u8);
        links.iter().for_each(|link| row.extend(link.to_le_bytes()));
    }
}

/// The node that a row begins with, and the rest of the row. The reason where there is none.
pub(crate) fn parse_node(row: &[u8]) -> Result<(Node, &[u8]), String> {
    let ends = || "it ends too soon".to_owned();
    let (&levels, mut rest) = row.split_first().ok_or_else(ends)?;
    if usize::from(levels) > LEVELS_MAX {
        return Err(format!("it has {levels} levels"));
    }
    let mut node = Node::with_capacity(levels.into());
    for level in 0..usize::from(levels) {
        let (&count, after) = rest.split_first().ok_or_else(ends)?;
        if usize::from(count) > room(level) {
            return Err(format!("level {level} has {count} neighbours"));
        }
        let (links, after) = after.split_at_checked(usize::from(count) * 4).ok_or_else(ends)?;
        node.push(links.chunks_exact(4).map(|link| u32::from_le_bytes([link[0], link[1], link[2], link[3]])).collect());
        rest = after;
    }
    Ok((node, rest))
}
