//! All that is in memory, and how a batch changes it.

use std::collections::BTreeSet;

use crate::{batch::Staged, codes::Codes, graph::Graph, index::Options, rows::Rows};

/// What searches read.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rows: Rows,
    pub(crate) graph: Graph,
    pub(crate) way: Way,
    /// Number of the last batch that was published.
    pub(crate) generation: u64,
}

/// How is searched.
#[derive(Debug)]
pub(crate) enum Way {
    /// By estimating all.
    Flat(Codes),
    /// By the graph, and computing those slots that are not in it.
    Graph(BTreeSet<u32>),
}

impl State {
    /// What was read from the tables.
    pub(crate) fn new(rows: Rows, graph: Graph, generation: u64) -> State {
        let mut state = State { rows, graph, way: Way::Graph(BTreeSet::new()), generation };
        // So many can be computed in a search, while the rest is linked.
        state.way = if state.graph.len() > 0 && state.unlinked() <= state.graph.len() / 8 {
            Way::Graph(state.slots_without_links().collect())
        } else {
            Way::Flat(Codes::new(&state.rows))
        };
        state
    }

    /// Number of vectors that are not in the graph.
    pub(crate) fn unlinked(&self) -> usize {
        self.rows.len() - self.graph.len()
    }

    /// Whether there is to be a graph.
    pub(crate) fn wants_graph(&self, options: &Options) -> bool {
        self.graph.len() > 0 || self.rows.len() >= options.graph_from
    }

    /// The slots that are not in the graph.
    pub(crate) fn slots_without_links(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.way {
            Way::Graph(unlinked) if !unlinked.is_empty() => Box::new(unlinked.iter().copied()),
            _ => Box::new(self.rows.slots().filter(|slot| !self.graph.is_linked(*slot))),
        }
    }

    /// Takes a batch's changes over.
    pub(crate) fn apply(&mut self, staged: Staged) {
        for slot in &staged.removed {
            match &mut self.way {
                Way::Flat(codes) => codes.remove(&self.rows, *slot),
                Way::Graph(unlinked) => {
                    unlinked.remove(slot);
                }
            }
            self.rows.remove(*slot);
        }
        for (slot, node) in &staged.nodes {
            if node.is_empty() {
                self.graph.remove(*slot)
            } else {
                self.graph.set(*slot, node)
            }
            if let Way::Graph(unlinked) = &mut self.way {
                unlinked.remove(slot);
            }
        }
        if !staged.nodes.is_empty() {
            self.graph.choose_entry();
        }
        for (slot, id, vector) in &staged.inserted {
            self.rows.insert(*slot, *id, vector.scale, vector.numbers.iter().copied());
            match &mut self.way {
                Way::Flat(codes) => codes.insert(&self.rows, *slot),
                Way::Graph(unlinked) => {
                    unlinked.insert(*slot);
                }
            }
        }
        self.graph.truncate(&self.rows);
        self.generation = staged.generation;
        self.choose_way();
    }

    /// Changes from one way to the other: to the graph when it is complete, back when most vectors are not in it.
    fn choose_way(&mut self) {
        let flat = match &mut self.way {
            Way::Flat(codes) => {
                codes.truncate(&self.rows);
                if self.graph.len() > 0 && self.graph.len() == self.rows.len() {
                    self.way = Way::Graph(BTreeSet::new());
                    return;
                }
                codes.are_old(&self.rows)
            }
            Way::Graph(unlinked) => unlinked.len() > self.graph.len() || self.graph.len() == 0,
        };
        if flat {
            self.way = Way::Flat(Codes::new(&self.rows));
        }
    }
}
