//! The best of what was seen so far.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// A slot and how near it is: the nearer one is the greater one, of equally near ones that with the lower slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) slot: u32,
}

impl Ord for Scored {
    fn cmp(&self, other: &Scored) -> Ordering {
        self.score.total_cmp(&other.score).then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Scored) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Scored) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scored {}

/// The nearest few.
#[derive(Debug)]
pub(crate) struct Nearest {
    most: usize,
    heap: BinaryHeap<Reverse<Scored>>,
}

impl Nearest {
    pub(crate) fn new(most: usize) -> Nearest {
        Nearest { most, heap: BinaryHeap::with_capacity(most.min(1 << 12) + 1) }
    }

    pub(crate) fn push(&mut self, scored: Scored) {
        if self.heap.len() < self.most {
            self.heap.push(Reverse(scored));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && scored > worst.0
        {
            *worst = Reverse(scored);
        }
    }

    /// What one has to be above to be taken.
    pub(crate) fn floor(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.is_full() => worst.0.score,
            _ => f32::NEG_INFINITY,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.heap.len() >= self.most
    }

    /// The nearest one first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(scored)| scored).collect()
    }
}
