//! How a search goes through the graph.

use std::{
    collections::BinaryHeap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    graph::{Graph, Links},
    nearest::{Nearest, Scored},
    quantize::Query,
    rows::Rows,
};

/// What one search has visited, and room for what it does with it.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// By slot: the search that visited it last.
    visited: Vec<u8>,
    /// Number of this search.
    current: u8,
    ahead: BinaryHeap<Scored>,
    fresh: Vec<u32>,
}

/// Walks that no search is using.
#[derive(Debug, Default)]
pub(crate) struct Walks(Mutex<Vec<Walk>>);

impl Walks {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Walk) -> T) -> T {
        let mut walk = self.lock().pop().unwrap_or_default();
        let found = work(&mut walk);
        self.lock().push(walk);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Walk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two things that a walk asks of a slot.
pub(crate) trait Aim {
    /// How near it is.
    fn score(&self, slot: u32) -> f32;
    /// Whether it is wanted. Others are walked over as well.
    fn wants(&self, slot: u32) -> bool;
    /// It is asked for soon.
    fn ask(&self, slot: u32);
}

impl Walk {
    fn begin(&mut self, rows: &Rows) {
        self.visited.resize(rows.end() as usize, 0);
        self.current = self.current.wrapping_add(1);
        if self.current == 0 {
            self.visited.fill(0);
            self.current = 1;
        }
        self.ahead.clear();
    }

    /// Whether it is the first time that this search comes to `slot`.
    fn visit(&mut self, slot: u32) -> bool {
        std::mem::replace(&mut self.visited[slot as usize], self.current) != self.current
    }

    /// Goes along the links of `level` from `from` to what is nearest, and finds the nearest `breadth`.
    pub(crate) fn nearest(
        &mut self,
        links: &impl Links,
        rows: &Rows,
        aim: &impl Aim,
        from: &[Scored],
        level: usize,
        breadth: usize,
    ) -> Vec<Scored> {
        self.begin(rows);
        let mut nearest = Nearest::new(breadth);
        for scored in from {
            self.visit(scored.slot);
            self.ahead.push(*scored);
            if aim.wants(scored.slot) {
                nearest.push(*scored);
            }
        }
        while let Some(next) = self.ahead.pop() {
            if next.score < nearest.floor() {
                break;
            }
            let mut fresh = std::mem::take(&mut self.fresh);
            fresh.clear();
            fresh.extend(links.links(next.slot, level).iter().copied().filter(|slot| self.visit(*slot)));
            fresh.iter().for_each(|slot| aim.ask(*slot));
            for slot in &fresh {
                let scored = Scored { score: aim.score(*slot), slot: *slot };
                if scored.score > nearest.floor() {
                    self.ahead.push(scored);
                    links.ask(*slot, level);
                    if aim.wants(*slot) {
                        nearest.push(scored);
                    }
                }
            }
            self.fresh = fresh;
        }
        nearest.into_sorted()
    }

    /// Goes down from the highest level to `level`, as near as its links lead.
    pub(crate) fn descend(&mut self, links: &impl Links, rows: &Rows, aim: &impl Aim, level: usize) -> Option<Scored> {
        let (slot, top) = links.entry()?;
        let mut at = Scored { score: aim.score(slot), slot };
        for level in (level..=top).rev().take_while(|level| *level > 0) {
            at = self.nearest(links, rows, aim, &[at], level, 1).first().copied().unwrap_or(at);
        }
        Some(at)
    }
}

/// A search for what is near to a query.
struct ToQuery<'a> {
    rows: &'a Rows,
    query: &'a Query,
    filter: &'a dyn Fn(u64) -> bool,
}

impl Aim for ToQuery<'_> {
    fn score(&self, slot: u32) -> f32 {
        self.rows.roughly(self.query, slot)
    }

    fn wants(&self, slot: u32) -> bool {
        (self.filter)(self.rows.id(slot))
    }

    fn ask(&self, slot: u32) {
        self.rows.ask(slot);
    }
}

/// A search for what is near to a vector, wherever it is.
pub(crate) struct ToSlot<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) slot: u32,
}

impl Aim for ToSlot<'_> {
    fn score(&self, slot: u32) -> f32 {
        self.rows.between(self.slot, slot)
    }

    fn wants(&self, _slot: u32) -> bool {
        true
    }

    fn ask(&self, slot: u32) {
        self.rows.ask(slot);
    }
}

/// The slots near to the query among those that pass the filter, the nearest first by the query rounded to bytes.
pub(crate) fn search(
    graph: &Graph,
    rows: &Rows,
    walk: &mut Walk,
    query: &Query,
    breadth: usize,
    filter: &dyn Fn(u64) -> bool,
) -> Vec<Scored> {
    // The way down is for all; what passes the filter counts on the lowest level alone.
    let all = ToQuery { rows, query, filter: &|_| true };
    let Some(at) = walk.descend(graph, rows, &all, 1) else { return Vec::new() };
    let wanted = ToQuery { rows, query, filter };
    walk.nearest(graph, rows, &wanted, &[at], 0, breadth)
}
