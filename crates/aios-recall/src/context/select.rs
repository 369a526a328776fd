//! Which candidates get into the budget.
//!
//! Choosing goes by what each piece costs alone, so that the counter reads every text a few times and not once for each
//! choice. The whole text is counted afterwards, and that alone decides: what is over the budget is thrown out again, the
//! worst first, and what is left of it is filled once more.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    Candidate, Context, Kind, LeftOut, Options, Piece, Reason, TokenCounter, cut::Ends, duplicate::Seen, layout, score,
};

/// How often what the whole text leaves of the budget is filled again.
const REFILLS: usize = 2;
/// More bytes than this for each token of room are not looked at when a text is cut, nor is a text with more for each token of
/// the budget counted as a whole: a megabyte takes a tokenizer a second.
const MOST_BYTES_OF_TOKEN: usize = 16;

/// Fills `options.budget` with the best of `candidates`.
///
/// Each kind that has something to say first gets its share of the budget, then the best of all get what is left. Every
/// candidate is afterwards either a piece or left out.
pub fn assemble<P: Clone>(candidates: &[Candidate<P>], counter: &impl TokenCounter, options: &Options) -> Context<P> {
    let items = Item::sorted(candidates, options);
    let mut reasons = unusable(&items, options);
    let mut choice = Choice::new(&items, &reasons, counter, options);
    choice.fill_shares();
    choice.fill(options.budget);
    let (text, tokens) = choice.settle();
    let pieces = pieces(&items, &choice.placed, text.ranges);
    for (item, (placed, reason)) in choice.placed.iter().zip(&mut reasons).enumerate() {
        debug_assert!(placed.is_none() || reason.is_none(), "item {item} is in and out");
        if placed.is_none() {
            reason.get_or_insert(Reason::NoRoom);
        }
    }
    let left_out = items.iter().zip(reasons).filter_map(|(item, reason)| {
        reason.map(|reason| LeftOut { kind: item.candidate.kind, id: item.candidate.id, reason })
    });
    Context { text: text.bytes, tokens, pieces, left_out: left_out.collect() }
}

/// A candidate with what is computed of it once.
struct Item<'a, P> {
    candidate: &'a Candidate<P>,
    text: String,
    score: f64,
}

/// An item's place in the context.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Where its text is cut, in bytes of the cleaned text.
    end: Option<usize>,
    /// Tokens of the piece alone.
    cost: usize,
    /// Whether it is there by its kind's share.
    by_share: bool,
}

impl<'a, P> Item<'a, P> {
    /// All candidates, the best first, whatever their order was.
    fn sorted(candidates: &'a [Candidate<P>], options: &Options) -> Vec<Self> {
        let mut items: Vec<_> = candidates
            .iter()
            .map(|candidate| Item {
                candidate,
                text: layout::clean(&candidate.text),
                score: score::score(candidate, options),
            })
            .collect();
        items.sort_by(|one, other| {
            let by_score = other.score.total_cmp(&one.score);
            by_score.then_with(|| one.identity().cmp(&other.identity())).then_with(|| one.text.cmp(&other.text))
        });
        items
    }

    /// Newer before older, then by kind and number, then what may be believed first.
    fn identity(&self) -> impl Ord + use<'a, P> {
        let candidate = self.candidate;
        let key = (candidate.kind, candidate.id, !candidate.trusted, candidate.source.as_str());
        (std::cmp::Reverse(candidate.time), key)
    }

    /// Order in a section: from old to new.
    fn by_time(&self, other: &Self) -> Ordering {
        let key = |item: &Self| (item.candidate.time, item.candidate.id);
        key(self).cmp(&key(other))
    }
}

/// Why an item can't be in the context whatever the room; by item.
fn unusable<P>(items: &[Item<'_, P>], options: &Options) -> Vec<Option<Reason>> {
    let mut seen = Seen::new(options.duplicate);
    let reason = |(index, item): (usize, &Item<'_, P>)| {
        if item.text.is_empty() {
            return Some(Reason::Empty);
        }
        let same = &items[seen.find_or_add(index, &item.text)?].candidate;
        Some(Reason::SameAs { kind: same.kind, id: same.id })
    };
    items.iter().enumerate().map(reason).collect()
}

/// A text with the bytes of each item in it.
struct Laid {
    bytes: String,
    ranges: Vec<(usize, std::ops::Range<usize>)>,
}

/// What is in the context so far.
struct Choice<'a, P, C> {
    items: &'a [Item<'a, P>],
    counter: &'a C,
    options: &'a Options,
    /// Items that may not be placed: unusable ones, and those that were thrown out.
    barred: Vec<bool>,
    placed: Vec<Option<Placed>>,
    /// Tokens of each item's whole piece, where they were counted.
    whole: Vec<Option<usize>>,
}

impl<'a, P, C: TokenCounter> Choice<'a, P, C> {
    fn new(items: &'a [Item<'a, P>], reasons: &[Option<Reason>], counter: &'a C, options: &'a Options) -> Self {
        let barred = reasons.iter().map(Option::is_some).collect();
        let (placed, whole) = (vec![None; items.len()], vec![None; items.len()]);
        Choice { items, counter, options, barred, placed, whole }
    }

    /// Gives each kind its share.
    fn fill_shares(&mut self) {
        let shares = Kind::LAYOUT.map(|kind| (kind, score::unit(self.options.share.of(kind))));
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        for (kind, share) in shares {
            // Rounded down, so that all shares together are within the budget.
            let mut room = (self.options.budget as f64 * share / sum.max(1.0)) as usize;
            room = room.saturating_sub(self.count(&layout::heading(kind)));
            for index in 0..self.items.len() {
                if self.items[index].candidate.kind != kind || self.barred[index] {
                    continue;
                }
                if let Some(placed) = self.best_within(index, room) {
                    room -= placed.cost;
                    self.placed[index] = Some(Placed { by_share: true, ..placed });
                }
            }
        }
    }

    /// Adds the best of all kinds, as long as their costs are within `budget`.
    fn fill(&mut self, budget: usize) {
        for index in 0..self.items.len() {
            let now = self.placed[index];
            if self.barred[index] || now.is_some_and(|placed| placed.end.is_none()) {
                continue;
            }
            let kind = self.items[index].candidate.kind;
            let heading = if self.has(kind) { 0 } else { self.count(&layout::heading(kind)) };
            let others = self.cost() - now.map_or(0, |placed| placed.cost);
            let room = budget.saturating_sub(others).saturating_sub(heading);
            if let Some(better) = self.best_within(index, room)
                && now.is_none_or(|now| better.end.is_none_or(|end| now.end.is_some_and(|before| end > before)))
            {
                let by_share = now.is_some_and(|placed| placed.by_share);
                self.placed[index] = Some(Placed { by_share, ..better });
            }
        }
    }

    /// As much of an item as costs no more than `room`.
    fn best_within(&mut self, index: usize, room: usize) -> Option<Placed> {
        let item = &self.items[index];
        let piece = |end| layout::piece(item.candidate, &item.text, end, self.options.now);
        let cost = match self.whole[index] {
            Some(cost) => cost,
            None if item.text.len() > self.options.budget.saturating_mul(MOST_BYTES_OF_TOKEN) => usize::MAX,
            None => *self.whole[index].insert(self.counter.count(&piece(None))),
        };
        if cost <= room {
            return Some(Placed { end: None, cost, by_share: false });
        }
        if room < self.options.least_cut {
            return None;
        }
        let ends = Ends::of(&item.text, room.saturating_mul(MOST_BYTES_OF_TOKEN));
        let end = ends.last_that(|end| self.counter.count(&piece(Some(end))) <= room)?;
        let cost = self.counter.count(&piece(Some(end)));
        (self.options.least_cut..=room).contains(&cost).then_some(Placed { end: Some(end), cost, by_share: false })
    }

    /// The text of what is placed with its tokens, within the budget: what does not fit together is thrown out.
    fn settle(&mut self) -> (Laid, usize) {
        let (mut laid, mut tokens) = self.fit();
        for _ in 0..REFILLS {
            let before = self.placed.clone();
            let left = self.options.budget.saturating_sub(tokens);
            self.fill(self.cost().saturating_add(left));
            let (text, count) = self.laid();
            if count > self.options.budget || text.bytes == laid.bytes {
                self.placed = before;
                break;
            }
            (laid, tokens) = (text, count);
        }
        (laid, tokens)
    }

    /// Throws out the worst until the text is within the budget.
    fn fit(&mut self) -> (Laid, usize) {
        // Those that are there by a share go last: a kind that has something to say should be heard.
        let mut order: Vec<usize> = (0..self.items.len()).filter(|index| self.placed[*index].is_some()).collect();
        order.sort_by_key(|index| (!self.placed[*index].is_some_and(|placed| placed.by_share), *index));
        let mut at_least = 1;
        loop {
            let (laid, tokens) = self.laid();
            if tokens <= self.options.budget {
                return (laid, tokens);
            }
            let over = tokens - self.options.budget;
            let (mut freed, mut count) = (0_usize, 0);
            while freed < over || count < at_least {
                let Some(worst) = order.pop() else { break };
                freed = freed.saturating_add(self.placed[worst].take().map_or(0, |placed| placed.cost));
                self.barred[worst] = true;
                count += 1;
            }
            // Twice as many each time, so that a counter of any kind is asked a few times only.
            at_least *= 2;
        }
    }

    /// The text of what is placed, and its tokens. No text has none: it adds nothing to a prompt.
    fn laid(&self) -> (Laid, usize) {
        let mut sections: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
        for index in (0..self.items.len()).filter(|index| self.placed[*index].is_some()) {
            sections.entry(self.items[index].candidate.kind).or_default().push(index);
        }
        let mut laid = Laid { bytes: String::new(), ranges: Vec::new() };
        for kind in Kind::LAYOUT {
            let Some(mut section) = sections.remove(&kind) else { continue };
            section.sort_by(|one, other| self.items[*one].by_time(&self.items[*other]).then(one.cmp(other)));
            laid.bytes.push_str(&layout::heading(kind));
            for index in section {
                let (start, item) = (laid.bytes.len(), &self.items[index]);
                let end = self.placed[index].and_then(|placed| placed.end);
                laid.bytes.push_str(&layout::piece(item.candidate, &item.text, end, self.options.now));
                laid.ranges.push((index, start..laid.bytes.len()));
            }
        }
        let tokens = if laid.bytes.is_empty() { 0 } else { self.count(&laid.bytes) };
        (laid, tokens)
    }

    /// What everything that is placed costs, each alone.
    fn cost(&self) -> usize {
        let pieces = self.placed.iter().flatten().map(|placed| placed.cost);
        let headings = Kind::LAYOUT.into_iter().filter(|kind| self.has(*kind));
        let headings = headings.map(|kind| self.count(&layout::heading(kind)));
        pieces.chain(headings).fold(0, usize::saturating_add)
    }

    fn has(&self, kind: Kind) -> bool {
        self.items.iter().zip(&self.placed).any(|(item, placed)| placed.is_some() && item.candidate.kind == kind)
    }

    fn count(&self, text: &str) -> usize {
        self.counter.count(text)
    }
}

/// The pieces of a text.
fn pieces<P: Clone>(
    items: &[Item<'_, P>],
    placed: &[Option<Placed>],
    ranges: Vec<(usize, std::ops::Range<usize>)>,
) -> Vec<Piece<P>> {
    let piece = |(index, range): (usize, std::ops::Range<usize>)| {
        let item = &items[index];
        Piece {
            kind: item.candidate.kind,
            id: item.candidate.id,
            range,
            is_cut: placed[index].is_some_and(|placed| placed.end.is_some()),
            score: item.score,
            trusted: item.candidate.trusted,
            provenance: item.candidate.provenance.clone(),
        }
    };
    ranges.into_iter().map(piece).collect()
}
