//! The best texts for some terms, without looking at those that can't be among them.
//!
//! MaxScore (H. Turtle, J. Flood: Query evaluation: strategies and optimizations, 1995): once `k` texts are found, texts
//! that have only terms which say too little together to reach the worst of these are passed by. Terms that most texts
//! have say little, and their long lists are then only looked up in, block by block.

use std::{cmp::Ordering, collections::BinaryHeap};

use redb::{AccessGuard, ReadOnlyTable};

use super::{
    Hit, Statistics, TextError,
    block::{self, Bounds, Posting},
    postings::{key, parse_key},
    rank::Weight,
    tables::storage,
};

/// Bounds are sums in another order than scores: this much larger, they are bounds all the same.
const SLACK: f64 = 1.0 + 1e-9;

/// A block of the list, still in the database's page.
struct Block {
    first: u64,
    bounds: Bounds,
    bytes: AccessGuard<'static, &'static [u8]>,
}

/// The texts that have a term, read in the order of their numbers.
pub(super) struct List {
    weight: Weight,
    blocks: Vec<Block>,
    /// Most that the term says of any text.
    most: f64,
    /// Index of the block that `postings` is of.
    block: usize,
    postings: Vec<Posting>,
    /// Index of the posting in `postings` that is next.
    place: usize,
}

impl List {
    /// The list of `term`, which is `times` in the query; none where no text has it.
    pub fn open(
        index: &str,
        table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        term: &str,
        times: u32,
        totals: Statistics,
    ) -> Result<Option<List>, TextError> {
        let (from, to) = (key(term, 0), key(term, u64::MAX));
        let range = table.range(from.as_slice()..=to.as_slice()).map_err(|error| storage(index, error))?;
        let (mut blocks, mut with) = (Vec::new(), 0_u64);
        for row in range {
            let (key, bytes) = row.map_err(|error| storage(index, error))?;
            let block = parse_key(key.value())
                .and_then(|(_, first)| Some((first, block::bounds(first, bytes.value())?)))
                .map(|(first, bounds)| Block { first, bounds, bytes });
            let block = block.ok_or_else(|| damaged(index, term))?;
            with += u64::from(block.bounds.count);
            blocks.push(block);
        }
        if blocks.is_empty() {
            return Ok(None);
        }
        let weight = Weight::new(times, with, totals.texts, totals.terms);
        let most = blocks.iter().map(|block| weight.score(block.bounds.times, block.bounds.length));
        let most = most.fold(0.0, f64::max);
        let mut list = List { weight, blocks, most, block: 0, postings: Vec::new(), place: 0 };
        list.load(index, 0)?;
        Ok(Some(list))
    }

    /// The next text.
    fn head(&self) -> Option<Posting> {
        self.postings.get(self.place).copied()
    }

    /// Goes to the first text from `id` on.
    fn seek(&mut self, index: &str, id: u64) -> Result<(), TextError> {
        if self.block < self.blocks.len() && self.blocks[self.block].bounds.last < id {
            let after = self.blocks[self.block..].partition_point(|block| block.bounds.last < id);
            self.load(index, self.block + after)?;
        }
        // Mostly it is one of the next.
        while self.place < self.postings.len() && self.postings[self.place].id < id {
            self.place += 1;
        }
        Ok(())
    }

    /// Goes behind the text that is next.
    fn advance(&mut self, index: &str) -> Result<(), TextError> {
        self.place += 1;
        if self.place == self.postings.len() { self.load(index, self.block + 1) } else { Ok(()) }
    }

    /// Reads the block of that index, none where there is no such.
    fn load(&mut self, index: &str, block: usize) -> Result<(), TextError> {
        (self.block, self.place) = (block, 0);
        self.postings.clear();
        let Some(block) = self.blocks.get(block) else { return Ok(()) };
        let read = block::decode(block.first, block.bytes.value(), &mut self.postings);
        read.ok_or_else(|| damaged(index, &format!("text {}", block.first)))
    }
}

/// A hit by its place: the worst is the greatest, so that a heap gives it first.
struct Worst(Hit);

impl Ord for Worst {
    fn cmp(&self, other: &Worst) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.id.cmp(&other.0.id))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Worst) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Worst) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}

/// The `k` best texts of `lists` that `filter` lets through, the best first.
///
/// A text's score is the sum in the order of `lists`, whatever order they are looked at in: so it has the same bits as
/// one that is computed plainly.
pub(super) fn best(
    index: &str,
    mut lists: Vec<List>,
    k: usize,
    filter: impl Fn(u64) -> bool,
) -> Result<Vec<Hit>, TextError> {
    // The lists by what they say at most, and what those up to each say together.
    let mut order: Vec<usize> = (0..lists.len()).collect();
    order.sort_by(|one, other| lists[*one].most.total_cmp(&lists[*other].most));
    let sums: Vec<f64> = order
        .iter()
        .scan(0.0, |sum, list| {
            *sum += lists[*list].most;
            Some(*sum * SLACK)
        })
        .collect();
    let mut found: BinaryHeap<Worst> = BinaryHeap::new();
    let mut parts = vec![0.0; lists.len()];
    // How many of `order` can't bring a text in by themselves.
    let mut minor = 0;
    loop {
        let limit = if found.len() < k { 0.0 } else { found.peek().map_or(0.0, |worst| worst.0.score) };
        while minor < order.len() && found.len() == k && sums[minor] <= limit {
            minor += 1;
        }
        let heads = order[minor..].iter().filter_map(|list| lists[*list].head());
        let Some(id) = heads.map(|posting| posting.id).min() else { break };
        parts.fill(0.0);
        let mut sum = 0.0;
        for list in &order[minor..] {
            let list_of = &mut lists[*list];
            if let Some(posting) = list_of.head().filter(|posting| posting.id == id) {
                parts[*list] = list_of.weight.score(posting.times, posting.length);
                sum += parts[*list];
                list_of.advance(index)?;
            }
        }
        let mut is_reachable = true;
        for (place, list) in order[..minor].iter().enumerate().rev() {
            if (sum + sums[place]) * SLACK <= limit {
                is_reachable = false;
                break;
            }
            let list_of = &mut lists[*list];
            list_of.seek(index, id)?;
            if let Some(posting) = list_of.head().filter(|posting| posting.id == id) {
                parts[*list] = list_of.weight.score(posting.times, posting.length);
                sum += parts[*list];
            }
        }
        // Texts come by rising number, so one that is as good as the worst is behind it.
        let score: f64 = parts.iter().sum();
        if !is_reachable || (found.len() == k && score <= limit) || !filter(id) {
            continue;
        }
        if found.len() == k {
            found.pop();
        }
        found.push(Worst(Hit { id, score }));
    }
    Ok(found.into_sorted_vec().into_iter().map(|worst| worst.0).collect())
}

fn damaged(index: &str, what: &str) -> TextError {
    TextError::Damaged { index: index.to_owned(), what: format!("a block of '{what}' can't be read") }
}
