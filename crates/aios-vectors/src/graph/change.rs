//! What a batch changes of the graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    graph::{
        CHOSEN, Graph, Links, Node, level_of, room,
        walk::{ToSlot, Walk},
    },
    nearest::Scored,
    rows::Rows,
};

/// How many near ones are looked for when a vector is linked. More make a better graph, and take longer.
const BREADTH: usize = 96;

/// The graph as it will be.
pub(crate) struct Change<'a> {
    graph: &'a Graph,
    rows: &'a Rows,
    /// The slots that change; those without levels leave the graph.
    nodes: BTreeMap<u32, Node>,
    /// A bit for each slot that is in `nodes`: most that a walk asks about are not, and a tree is slow to say so.
    changed: Vec<u64>,
    entry: Option<(u32, usize)>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(graph: &'a Graph, rows: &'a Rows) -> Change<'a> {
        let changed = vec![0; rows.end() as usize / 64];
        Change { graph, rows, nodes: BTreeMap::new(), changed, entry: graph.entry() }
    }

    /// What changes, by slot.
    pub(crate) fn into_nodes(self) -> BTreeMap<u32, Node> {
        self.nodes
    }

    /// Takes slots out. Who had them as neighbours is linked to their neighbours instead. All links of the graph are looked
    /// through once, because a slot does not know who points to it.
    pub(crate) fn remove(&mut self, gone: &BTreeSet<u32>) {
        let linked: BTreeSet<u32> = gone.iter().copied().filter(|slot| self.graph.is_linked(*slot)).collect();
        if linked.is_empty() {
            return;
        }
        for slot in self.graph.pointing(|link| linked.contains(&link)) {
            if linked.contains(&slot) {
                continue;
            }
            let mut node = self.graph.node(slot).expect("invariant: what points to others is in the graph");
            for (level, links) in node.iter_mut().enumerate() {
                self.bypass(slot, level, links, &linked);
            }
            self.put(slot, node);
        }
        for slot in &linked {
            self.put(*slot, Node::new());
        }
        if self.entry.is_some_and(|(slot, _)| linked.contains(&slot)) {
            self.entry = self.highest();
        }
    }

    /// Replaces those of `links` that are gone by their neighbours.
    fn bypass(&self, slot: u32, level: usize, links: &mut Vec<u32>, gone: &BTreeSet<u32>) {
        let through: Vec<u32> = links.iter().copied().filter(|link| gone.contains(link)).collect();
        if through.is_empty() {
            return;
        }
        let others = through.iter().flat_map(|link| self.graph.links(*link, level));
        let mut candidates: Vec<u32> =
            links.iter().chain(others).copied().filter(|link| *link != slot && !gone.contains(link)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        *links = choose(self.rows, self.scored(slot, &candidates), room(level));
    }

    /// The slot on the highest level, of several the lowest one.
    fn highest(&self) -> Option<(u32, usize)> {
        let kept = |slot: &u32| self.nodes.get(slot).is_none_or(|node| !node.is_empty());
        let slots = self.rows.slots().filter(|slot| self.graph.is_linked(*slot)).filter(kept);
        slots
            .map(|slot| (self.graph.levels(slot) - 1, std::cmp::Reverse(slot)))
            .max()
            .map(|(level, slot)| (slot.0, level))
    }

    /// Links a slot that is not in the graph.
    pub(crate) fn link(&mut self, walk: &mut Walk, slot: u32) {
        let own = level_of(self.rows.id(slot));
        let mut node = vec![Vec::new(); own + 1];
        if let Some((_, top)) = self.entry {
            let aim = ToSlot { rows: self.rows, slot };
            let start = walk.descend(self, self.rows, &aim, own + 1);
            let mut near: Vec<Scored> = start.into_iter().collect();
            for level in (0..=own.min(top)).rev() {
                near = walk.nearest(self, self.rows, &aim, &near, level, BREADTH);
                node[level] = choose(self.rows, near.clone(), CHOSEN);
            }
        }
        for (level, links) in node.iter().enumerate() {
            links.iter().for_each(|neighbour| self.link_back(*neighbour, level, slot));
        }
        self.put(slot, node);
        if self.entry.is_none_or(|(_, top)| own > top) {
            self.entry = Some((slot, own));
        }
    }

    /// Makes `slot` a neighbour of `of`, if it is among the best.
    fn link_back(&mut self, of: u32, level: usize, slot: u32) {
        let mut links = self.links(of, level).to_vec();
        links.push(slot);
        if links.len() > room(level) {
            links = choose(self.rows, self.scored(of, &links), room(level));
            if !links.contains(&slot) {
                return;
            }
        }
        if !self.is_changed(of) {
            self.put(of, self.graph.node(of).unwrap_or_default());
        }
        if let Some(level) = self.nodes.get_mut(&of).and_then(|node| node.get_mut(level)) {
            *level = links;
        }
    }

    fn put(&mut self, slot: u32, node: Node) {
        self.changed[slot as usize / 64] |= 1 << (slot % 64);
        self.nodes.insert(slot, node);
    }

    fn is_changed(&self, slot: u32) -> bool {
        self.changed[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    fn scored(&self, slot: u32, others: &[u32]) -> Vec<Scored> {
        let score = |other: &u32| Scored { score: self.rows.between(slot, *other), slot: *other };
        let mut scored: Vec<_> = others.iter().map(score).collect();
        scored.sort_unstable_by(|a, b| b.cmp(a));
        scored
    }
}

impl Links for Change<'_> {
    fn links(&self, slot: u32, level: usize) -> &[u32] {
        if !self.is_changed(slot) {
            return self.graph.links(slot, level);
        }
        self.nodes.get(&slot).and_then(|node| node.get(level)).map_or(&[], |links| links)
    }

    fn entry(&self) -> Option<(u32, usize)> {
        self.entry
    }

    fn ask(&self, slot: u32, level: usize) {
        self.graph.ask(slot, level);
    }
}

/// Chooses neighbours from candidates, of which the nearest come first: those that are nearer to the slot than to any that
/// was chosen before. So links lead into all directions, also out of a cluster. Where these are few, the nearest others are
/// taken as well: among copies of one text, no other would be.
fn choose(rows: &Rows, candidates: Vec<Scored>, most: usize) -> Vec<u32> {
    let mut chosen: Vec<u32> = Vec::with_capacity(most);
    let mut others = Vec::new();
    for candidate in candidates {
        if chosen.len() == most {
            break;
        }
        if chosen.iter().all(|other| rows.between(*other, candidate.slot) < candidate.score) {
            chosen.push(candidate.slot);
        } else {
            others.push(candidate.slot);
        }
    }
    let missing = (most / 2).saturating_sub(chosen.len());
    chosen.extend(others.into_iter().take(missing));
    chosen
}
