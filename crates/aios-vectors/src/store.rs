//! How the graph's changes are written.
//!
//! A vector that comes into the graph changes a dozen others, which lie anywhere: their rows would be as many pages of the
//! file. So a batch writes what it changed as one row of [`CHANGES`], and besides the next few rows of [`LINKS`] as they are
//! by then, one after the other, and from the beginning again when all are written: a sweep. What is older than the sweep
//! before is in [`LINKS`] and is dropped. Whoever reads [`LINKS`] and then [`CHANGES`] in their order finds the graph.

use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::{
    batch::Staged,
    error::BatchError,
    state::State,
    tables::{CHANGES, LINKS, SWEEP, SWEPT, TOGETHER, write_node},
};

/// For so many changed nodes a row of [`LINKS`] is written. There are [`TOGETHER`] nodes in it, so that at each time there are
/// at most about as many nodes in [`CHANGES`] as in the graph: two sweeps' worth, with half as many changed in each as swept.
const CHANGES_A_ROW: usize = TOGETHER as usize / 2;

/// Writes what a batch changed of the graph, all of whose slots are below `slots`.
pub(crate) fn store_links(
    write: &WriteTransaction,
    about: &mut Table<'_, &'static str, u64>,
    state: &State,
    staged: &Staged,
    slots: u32,
) -> Result<(), BatchError> {
    if staged.nodes.is_empty() {
        return Ok(());
    }
    let mut changes = write.open_table(CHANGES)?;
    let mut row = Vec::new();
    for (slot, node) in &staged.nodes {
        row.extend(slot.to_le_bytes());
        write_node(node, &mut row);
    }
    changes.insert(staged.generation, row.as_slice())?;

    let mut links = write.open_table(LINKS)?;
    let rows = slots.div_ceil(TOGETHER);
    while links.last()?.is_some_and(|(last, _)| last.value() >= rows) {
        links.pop_last()?;
    }
    let number = |name| Ok::<_, BatchError>(about.get(name)?.map_or(0, |number| number.value()));
    let (mut swept, mut sweep) = (number(SWEPT)?, number(SWEEP)?);
    let mut left = staged.nodes.len().div_ceil(CHANGES_A_ROW);
    // No more than all of them in one batch.
    left = left.min(rows as usize);
    while left > 0 {
        if swept == 0 {
            sweep = staged.generation;
        }
        if swept < u64::from(rows) {
            write_together(swept as u32, state, staged, &mut row);
            if row.iter().all(|levels| *levels == 0) {
                links.remove(swept as u32)?;
            } else {
                links.insert(swept as u32, row.as_slice())?;
            }
            swept += 1;
            left -= 1;
        }
        if swept >= u64::from(rows) {
            changes.retain_in(..=sweep, |_, _| false)?;
            swept = 0;
        }
    }
    about.insert(SWEPT, swept)?;
    about.insert(SWEEP, sweep)?;
    Ok(())
}

/// A row of [`LINKS`] as it is after the batch.
fn write_together(number: u32, state: &State, staged: &Staged, row: &mut Vec<u8>) {
    row.clear();
    for slot in number * TOGETHER..(number + 1) * TOGETHER {
        match staged.nodes.get(&slot) {
            Some(node) => write_node(node, row),
            None => write_node(&state.graph.levels_of(slot).collect::<Vec<_>>(), row),
        }
    }
}
