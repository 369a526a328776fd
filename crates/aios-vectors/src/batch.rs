//! Changes that become durable with the caller's transaction.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable as _, WriteTransaction};

use crate::{
    error::{BatchError, Damage, VectorError},
    graph::{Change, Node},
    index::Index,
    quantize::Vector,
    state::State,
    store::store_links,
    tables::{ABOUT, DIMENSIONS, FORMAT, FORMAT_NOW, GENERATION, ROWS, ROWS_NAME, SLOTS, parse_row, write_row},
};

/// Changes of an index. They are collected in memory; a batch that is dropped changes nothing.
#[must_use = "a batch that is not finished changes nothing"]
pub struct Batch<'a> {
    index: &'a Index,
    write: &'a WriteTransaction,
    /// By the item's number: its vector, or nothing where it is removed.
    changes: BTreeMap<u64, Option<Vector>>,
    link: usize,
}

/// A batch whose rows are in the transaction. When that is committed, [`Index::publish`] makes searches see it; when it is
/// aborted, this is dropped.
#[derive(Debug)]
#[must_use = "searches see a batch when it is published"]
pub struct Staged {
    pub(crate) generation: u64,
    pub(crate) inserted: Vec<(u32, u64, Vector)>,
    pub(crate) removed: BTreeSet<u32>,
    /// By slot: its new neighbours; none where it leaves the graph.
    pub(crate) nodes: BTreeMap<u32, Node>,
    /// Number of vectors that were linked.
    linked: usize,
}

impl Staged {
    /// Number of vectors that are taken away, replaced ones included.
    pub fn removed(&self) -> usize {
        self.removed.len()
    }

    /// Number of vectors that came into the graph, at most what [`Batch::link`] asked for.
    pub fn linked(&self) -> usize {
        self.linked
    }
}

impl<'a> Batch<'a> {
    pub(crate) fn new(index: &'a Index, write: &'a WriteTransaction) -> Batch<'a> {
        Batch { index, write, changes: BTreeMap::new(), link: 0 }
    }

    /// Adds the vector of item `id`, or replaces it. It is stored at unit length.
    pub fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), VectorError> {
        let vector = Vector::new(vector, self.index.dimensions())?;
        self.changes.insert(id, Some(vector));
        Ok(())
    }

    /// Removes the vector of item `id`, if there is one: its row, its links, and the links to it.
    ///
    /// Where there is a graph, a batch that removes looks through all links once, so many removals belong in one batch.
    pub fn remove(&mut self, id: u64) {
        self.changes.insert(id, None);
    }

    /// Brings at most `limit` vectors into the graph, of those that were published before and are not in it.
    ///
    /// It does nothing where there are too few vectors for a graph. One vector takes a tenth of a millisecond among 100,000
    /// of them, and two or three tenths among a million, so a batch of some dozens keeps other writers waiting for about as
    /// long as a commit does. To be called in the background while [`Stats::to_link`](crate::Stats::to_link) is not 0, in a
    /// batch of its own or with other changes.
    pub fn link(&mut self, limit: usize) {
        self.link = limit;
    }

    /// Writes the rows into the transaction. Searches go on meanwhile.
    pub fn finish(self) -> Result<Staged, BatchError> {
        let state = self.index.read();
        let mut about = self.write.open_table(ABOUT)?;
        let tables = about.get(GENERATION)?.map_or(0, |generation| generation.value());
        if tables != state.generation {
            return Err(BatchError::Behind { memory: state.generation, tables });
        }
        let generation = tables + 1;
        let mut staged =
            Staged { generation, inserted: Vec::new(), removed: BTreeSet::new(), nodes: BTreeMap::new(), linked: 0 };
        write_rows(self.write, &state, self.changes, self.index.dimensions(), &mut staged)?;
        let limit = if state.wants_graph(self.index.options()) { self.link } else { 0 };
        change_graph(self.index, &state, limit, &mut staged);
        let last = staged.inserted.last().map_or(0, |(slot, ..)| slot + 1);
        let slots = state.rows.end().max(last);
        store_links(self.write, &mut about, &state, &staged, slots)?;
        for (name, value) in [
            (FORMAT, FORMAT_NOW),
            (DIMENSIONS, self.index.dimensions() as u64),
            (GENERATION, generation),
            (SLOTS, slots.into()),
        ] {
            about.insert(name, value)?;
        }
        Ok(staged)
    }
}

fn write_rows(
    write: &WriteTransaction,
    state: &State,
    changes: BTreeMap<u64, Option<Vector>>,
    dimensions: usize,
    staged: &mut Staged,
) -> Result<(), BatchError> {
    let mut rows = write.open_table(ROWS)?;
    let mut free = state.rows.free();
    let mut row = Vec::new();
    for (id, change) in changes {
        let before = match change {
            Some(vector) => {
                let slot = free.next().ok_or(BatchError::Full)?;
                write_row(slot, &vector, &mut row);
                staged.inserted.push((slot, id, vector));
                rows.insert(id, row.as_slice())?
            }
            None => rows.remove(id)?,
        };
        let Some(before) = before else { continue };
        let (slot, ..) = parse_row(id, before.value(), dimensions)?;
        if !(state.rows.is_used(slot) && state.rows.id(slot) == id) {
            return Err(Damage::new(ROWS_NAME, id, format!("slot {slot} is not that of this vector in memory")).into());
        }
        staged.removed.insert(slot);
    }
    Ok(())
}

fn change_graph(index: &Index, state: &State, limit: usize, staged: &mut Staged) {
    let mut change = Change::new(&state.graph, &state.rows);
    change.remove(&staged.removed);
    if limit > 0 {
        let slots = state.slots_without_links().filter(|slot| !staged.removed.contains(slot)).take(limit);
        index.walks().with(|walk| {
            slots.for_each(|slot| {
                change.link(walk, slot);
                staged.linked += 1;
            });
        });
    }
    staged.nodes = change.into_nodes();
}
