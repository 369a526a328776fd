//! The graph of neighbours (HNSW, Malkov and Yashunin): each vector knows some that are near to it, and some vectors are also
//! on higher levels, which are sparser and lead a search to its neighbourhood.

mod change;
mod walk;

use std::collections::HashMap;

use aios_kernels::ask;

use crate::rows::{CHUNK, Rows, place};

pub(crate) use change::Change;
pub(crate) use walk::{Walks, search};

/// Neighbours that a vector chooses on each level. On the lowest one, twice as many may link to it and be kept.
const CHOSEN: usize = 12;

/// Most levels; one vector in 16 to the power of the level is on it.
pub(crate) const LEVELS_MAX: usize = 12;

/// A slot's neighbours, level by level.
pub(crate) type Node = Vec<Vec<u32>>;

/// Most neighbours on a level.
pub(crate) const fn room(level: usize) -> usize {
    if level == 0 { 2 * CHOSEN } else { CHOSEN }
}

/// Numbers of a slot on the lowest level: how many neighbours, and these.
const STRIDE: usize = 1 + room(0);

/// In the place of a number of neighbours: not in the graph.
const NONE: u32 = u32::MAX;

/// Where the neighbours of a slot are looked up: in the graph, or in the graph with a [`Change`].
pub(crate) trait Links {
    /// Neighbours of `slot` on `level`: none where it is not there.
    fn links(&self, slot: u32, level: usize) -> &[u32];
    /// Where searches begin, and its highest level.
    fn entry(&self) -> Option<(u32, usize)>;
    /// The neighbours of `slot` on `level` are read soon.
    fn ask(&self, slot: u32, level: usize);
}

/// The graph in memory.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    chunks: Vec<Box<[u32]>>,
    /// The levels above the lowest of the slots that have any.
    upper: HashMap<u32, Vec<Box<[u32]>>>,
    len: usize,
    entry: Option<(u32, usize)>,
}

impl Graph {
    /// Number of slots in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_linked(&self, slot: u32) -> bool {
        self.lowest(slot).is_some()
    }

    /// Number of levels of a slot.
    pub(crate) fn levels(&self, slot: u32) -> usize {
        if self.is_linked(slot) { 1 + self.upper.get(&slot).map_or(0, Vec::len) } else { 0 }
    }

    /// The neighbours of a slot, level by level: none where it is not in the graph.
    pub(crate) fn levels_of(&self, slot: u32) -> impl Iterator<Item = &[u32]> {
        let lowest = self.lowest(slot);
        let upper = lowest.and_then(|_| self.upper.get(&slot)).into_iter().flatten();
        lowest.into_iter().chain(upper.map(|links| &**links))
    }

    /// All levels of a slot.
    pub(crate) fn node(&self, slot: u32) -> Option<Node> {
        self.is_linked(slot).then(|| self.levels_of(slot).map(<[u32]>::to_vec).collect())
    }

    /// The slots that are in it.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        (0..(self.chunks.len() * CHUNK) as u32).filter(|slot| self.is_linked(*slot))
    }

    /// The slots that have a neighbour among some, by the lowest level and all above.
    pub(crate) fn pointing(&self, to: impl Fn(u32) -> bool + Copy) -> Vec<u32> {
        let any = |links: &[u32]| links.iter().any(|link| to(*link));
        let mut found = Vec::new();
        for (chunk, links) in self.chunks.iter().enumerate() {
            for (at, links) in links.chunks_exact(STRIDE).enumerate() {
                if links[0] != NONE && any(&links[1..][..links[0] as usize]) {
                    found.push((chunk * CHUNK + at) as u32);
                }
            }
        }
        found.extend(
            self.upper.iter().filter(|(_, levels)| levels.iter().any(|links| any(links))).map(|(slot, _)| *slot),
        );
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Puts or replaces a slot's neighbours.
    pub(crate) fn set(&mut self, slot: u32, node: &Node) {
        let (index, at) = place(slot);
        while self.chunks.len() <= index {
            self.chunks.push(vec![NONE; CHUNK * STRIDE].into());
        }
        let lowest = &mut self.chunks[index][at * STRIDE..][..STRIDE];
        self.len += usize::from(lowest[0] == NONE);
        lowest[0] = node[0].len() as u32;
        lowest[1..][..node[0].len()].copy_from_slice(&node[0]);
        if node.len() > 1 {
            self.upper.insert(slot, node[1..].iter().map(|links| links.as_slice().into()).collect());
        } else {
            self.upper.remove(&slot);
        }
    }

    /// Takes a slot away. Nothing may point to it any more.
    pub(crate) fn remove(&mut self, slot: u32) {
        let (index, at) = place(slot);
        if let Some(chunk) = self.chunks.get_mut(index) {
            let lowest = &mut chunk[at * STRIDE..][..STRIDE];
            self.len -= usize::from(lowest[0] != NONE);
            lowest.fill(NONE);
        }
        self.upper.remove(&slot);
    }

    /// Gives back the memory behind the last row.
    pub(crate) fn truncate(&mut self, rows: &Rows) {
        self.chunks.truncate(rows.end() as usize / CHUNK);
    }

    /// Chooses where searches begin: on the highest level, at the lowest slot. Is to be called after changes.
    pub(crate) fn choose_entry(&mut self) {
        let highest = self.upper.iter().map(|(slot, levels)| (levels.len(), std::cmp::Reverse(*slot))).max();
        let any = || self.slots().next().map(|slot| (slot, 0));
        self.entry = highest.map(|(level, slot)| (slot.0, level)).or_else(any);
    }

    fn lowest(&self, slot: u32) -> Option<&[u32]> {
        let (chunk, at) = place(slot);
        let links = &self.chunks.get(chunk)?[at * STRIDE..][..STRIDE];
        (links[0] != NONE).then(|| &links[1..][..links[0] as usize])
    }
}

impl Links for Graph {
    fn links(&self, slot: u32, level: usize) -> &[u32] {
        if level == 0 {
            return self.lowest(slot).unwrap_or_default();
        }
        self.upper.get(&slot).and_then(|levels| levels.get(level - 1)).map_or(&[], |links| links)
    }

    fn entry(&self) -> Option<(u32, usize)> {
        self.entry
    }

    fn ask(&self, slot: u32, level: usize) {
        let (chunk, at) = place(slot);
        if level == 0
            && let Some(chunk) = self.chunks.get(chunk)
        {
            ask(&chunk[at * STRIDE..][..STRIDE]);
        }
    }
}

/// The highest level of the vector of item `id`. Chance decides, and it is the same each time.
pub(crate) fn level_of(id: u64) -> usize {
    // SplitMix64: its bits are as good as drawn.
    let mut mixed = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // Four zeros have the probability of 1 in CHOSEN.
    (mixed.trailing_zeros() as usize / 4).min(LEVELS_MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vector_in_sixteen_is_on_the_next_level() {
        let mut counts = [0; LEVELS_MAX];
        (0..100_000).for_each(|id| counts[level_of(id)] += 1);
        for (level, expected) in [(0, 93_750), (1, 5_859), (2, 366)] {
            assert!((counts[level] as f64 / f64::from(expected) - 1.0).abs() < 0.2, "{counts:?}");
        }
    }

    #[test]
    fn searches_begin_at_the_highest_level() {
        let mut graph = Graph::default();
        graph.choose_entry();
        assert_eq!(graph.entry(), None);
        graph.set(7, &vec![vec![3]]);
        graph.choose_entry();
        assert_eq!(graph.entry(), Some((7, 0)));
        graph.set(9, &vec![vec![7], vec![]]);
        graph.set(2000, &vec![vec![7], vec![9]]);
        graph.choose_entry();
        assert_eq!((graph.entry(), graph.len()), (Some((9, 1)), 3));
        assert_eq!(graph.pointing(|slot| slot == 9), [2000]);
        assert_eq!(graph.pointing(|slot| slot == 7), [9, 2000]);
        graph.remove(9);
        graph.choose_entry();
        assert_eq!((graph.entry(), graph.len(), graph.links(9, 0)), (Some((2000, 1)), 2, &[][..]));
    }
}
