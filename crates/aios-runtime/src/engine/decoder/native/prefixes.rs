//! Keys and values of prompts' beginnings: prompts that begin alike, with the same instructions and tools, go through the
//! layers once.
//!
//! A tree over blocks of tokens, bounded; what was not used for longest goes first, from the ends inwards. What is taken
//! from it is what would be computed: a token's keys and values depend on nothing but the tokens before it.
//!
//! Pinned beginnings go last, and are on disk as well: what is known there and not here is read when a prompt needs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aios_kernels::{Isa, LANES};

use crate::kept::Kept;
use crate::model::LoadOptions;

/// The tokens of a block.
type Tokens = [u32; LANES];

/// The node that all prompts begin at.
const ROOT: u64 = 0;

/// The prompts of one model that were worked on lately.
#[derive(Debug)]
pub(super) struct Prefixes {
    tree: Mutex<Tree>,
    /// Bytes that its blocks may take.
    limit: usize,
    /// Those on disk.
    kept: Option<Kept>,
    /// Held by whoever reads from disk: who wants the same finds it in the tree then.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Tree {
    nodes: HashMap<(u64, Tokens), Node>,
    bytes: usize,
    last_node: u64,
    /// Grows with every use.
    time: u64,
}

#[derive(Debug)]
struct Node {
    number: u64,
    block: Arc<[u16]>,
    used: u64,
    children: usize,
    pinned: bool,
}

impl Prefixes {
    /// For a model that computes with the instructions of `isa`.
    pub(super) fn new(options: &LoadOptions, isa: Isa) -> Self {
        let kept = options.kept.as_ref().map(|shelf| Kept::new(shelf, isa.name()));
        Self { tree: Mutex::default(), limit: options.prefix_cache, kept, reading: Mutex::default() }
    }

    /// The blocks of the longest known beginning of `tokens`, each of `length` numbers. The disk is asked only for what
    /// goes beyond `known` tokens.
    pub(super) fn find(&self, tokens: &[u32], known: usize, length: usize) -> Vec<Arc<[u16]>> {
        let found = self.tree().find(tokens);
        let Some(kept) = &self.kept else { return found };
        if kept.longest(tokens) <= found.len().max(known / LANES) {
            return found;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.tree().find(tokens);
        if kept.longest(tokens) <= found.len() {
            return found;
        }
        let Some(blocks) = kept.read(tokens, length) else { return found };
        self.insert(&tokens[..blocks.len() * LANES], true, |index| Arc::clone(&blocks[index]));
        if blocks.len() > found.len() { blocks } else { found }
    }

    /// Takes the whole blocks of `tokens`; `block` gives those that are not known yet.
    pub(super) fn keep(&self, tokens: &[u32], block: impl Fn(usize) -> Vec<u16>) {
        self.insert(tokens, false, |index| block(index).into());
    }

    /// Takes the whole blocks of `tokens` as [`keep`](Self::keep) does, as ones that go last, and has them written to disk:
    /// as many as there is memory for.
    pub(super) fn pin(&self, tokens: &[u32], block: impl Fn(usize) -> Vec<u16>) {
        let blocks = self.insert(tokens, true, |index| block(index).into());
        if let Some(kept) = &self.kept {
            kept.put(&tokens[..blocks.len() * LANES], blocks);
        }
    }

    /// Takes whole blocks, and returns those of them that there is room for.
    fn insert(&self, tokens: &[u32], pinned: bool, block: impl Fn(usize) -> Arc<[u16]>) -> Vec<Arc<[u16]>> {
        let mut tree = self.tree();
        tree.time += 1;
        let (mut parent, time) = ((ROOT, None), tree.time);
        let mut blocks = Vec::new();
        for (index, tokens) in tokens.as_chunks().0.iter().enumerate() {
            let key = (parent.0, *tokens);
            if let Some(node) = tree.nodes.get_mut(&key) {
                node.used = time;
                node.pinned |= pinned;
                blocks.push(Arc::clone(&node.block));
                parent = (node.number, Some(key));
                continue;
            }
            let block = block(index);
            let bytes = size_of_val(&*block);
            // What this very prompt has put there is not given up for more of it.
            while tree.bytes + bytes > self.limit && tree.drop_oldest(time) {}
            if tree.bytes + bytes > self.limit {
                break;
            }
            tree.last_node += 1;
            let number = tree.last_node;
            tree.bytes += bytes;
            if let Some(node) = parent.1.and_then(|key| tree.nodes.get_mut(&key)) {
                node.children += 1;
            }
            blocks.push(Arc::clone(&block));
            tree.nodes.insert(key, Node { number, block, used: time, children: 0, pinned });
            parent = (number, Some(key));
        }
        blocks
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn find(&mut self, tokens: &[u32]) -> Vec<Arc<[u16]>> {
        self.time += 1;
        let (mut parent, time) = (ROOT, self.time);
        let mut blocks = Vec::new();
        for tokens in tokens.as_chunks().0 {
            let Some(node) = self.nodes.get_mut(&(parent, *tokens)) else { break };
            node.used = time;
            parent = node.number;
            blocks.push(Arc::clone(&node.block));
        }
        blocks
    }

    /// Drops the end that was not used for longest, if that was before `time`; a pinned one only where there are no others.
    fn drop_oldest(&mut self, time: u64) -> bool {
        let ends = self.nodes.iter().filter(|(_, node)| node.children == 0 && node.used < time);
        let Some((key, _)) = ends.min_by_key(|(_, node)| (node.pinned, node.used)) else { return false };
        let key = *key;
        if let Some(node) = self.nodes.remove(&key) {
            self.bytes -= size_of_val(&*node.block);
        }
        if let Some(parent) = self.nodes.values_mut().find(|node| node.number == key.0) {
            parent.children -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(numbers: &[u32]) -> Vec<u32> {
        numbers.iter().flat_map(|number| [*number; LANES]).collect()
    }

    /// A block that tells what prompt and place it is of.
    fn keep(prefixes: &Prefixes, numbers: &[u32]) {
        prefixes.keep(&tokens(numbers), |index| vec![numbers[index] as u16; 8]);
    }

    fn pin(prefixes: &Prefixes, numbers: &[u32]) {
        prefixes.pin(&tokens(numbers), |index| vec![numbers[index] as u16; 8]);
    }

    fn prefixes(limit: usize) -> Prefixes {
        Prefixes::new(&LoadOptions { prefix_cache: limit, ..LoadOptions::new(512) }, Isa::detect())
    }

    fn found(prefixes: &Prefixes, numbers: &[u32]) -> Vec<u16> {
        prefixes.find(&tokens(numbers), 0, 8).iter().map(|block| block[0]).collect()
    }

    #[test]
    fn the_longest_common_beginning_is_found() {
        let prefixes = prefixes(1 << 20);
        keep(&prefixes, &[1, 2, 3]);
        keep(&prefixes, &[1, 2, 4, 5]);
        assert_eq!(found(&prefixes, &[1, 2, 3, 9]), [1, 2, 3]);
        assert_eq!(found(&prefixes, &[1, 2, 4, 5]), [1, 2, 4, 5]);
        assert!(found(&prefixes, &[2]).is_empty());
        let mut partial = tokens(&[1, 2]);
        partial.pop();
        assert_eq!(prefixes.find(&partial, 0, 8).len(), 1, "only whole blocks count");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_never_a_middle() {
        let block = size_of::<[u16; 8]>();
        let prefixes = prefixes(4 * block);
        keep(&prefixes, &[1, 2]);
        keep(&prefixes, &[3, 4]);
        found(&prefixes, &[1, 2]);
        keep(&prefixes, &[5]);
        assert_eq!(found(&prefixes, &[3, 4]), [3], "the end went, its beginning stayed");
        assert_eq!(found(&prefixes, &[1, 2]), [1, 2]);
        keep(&prefixes, &[6, 7, 8, 9, 10]);
        assert_eq!(found(&prefixes, &[6, 7, 8, 9, 10]), [6, 7, 8, 9], "as much as there is room for");
        assert_eq!(prefixes.tree().bytes, 4 * block);
        assert_eq!(prefixes.tree().nodes.len(), 4);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let prefixes = prefixes(0);
        keep(&prefixes, &[1]);
        assert!(found(&prefixes, &[1]).is_empty());
    }
    #[test]
    fn pinned_beginnings_go_last_and_still_have_a_bound() {
        let block = size_of::<[u16; 8]>();
        let prefixes = prefixes(4 * block);
        pin(&prefixes, &[1, 2]);
        keep(&prefixes, &[3, 4]);
        keep(&prefixes, &[5, 6]);
        assert_eq!(found(&prefixes, &[1, 2]), [1, 2]);
        assert_eq!(found(&prefixes, &[5, 6]), [5, 6]);
        assert!(found(&prefixes, &[3, 4]).is_empty());
        pin(&prefixes, &[5, 6]);
        pin(&prefixes, &[7]);
        assert_eq!(found(&prefixes, &[1, 2]), [1], "of pinned ones, the one that was not used for longest goes");
        keep(&prefixes, &[8, 9, 10, 11, 12]);
        assert_eq!(found(&prefixes, &[8, 9, 10, 11, 12]).len(), 4, "what is pinned does not keep others out");
        assert_eq!(prefixes.tree().bytes, 4 * block);
    }
}
