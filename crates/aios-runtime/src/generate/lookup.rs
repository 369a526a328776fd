//! Drafts by prompt lookup: where the last tokens have come before, what followed them then is likely to follow again.
//!
//! Answers about a text quote it, JSON repeats its keys, code its names. A draft that is right costs one pass through the
//! layers for all of its tokens; one that is wrong costs a part of a pass, so drafting pauses where it fails.

/// Most tokens of a draft.
const LONGEST: usize = 8;
/// Most tokens that a draft is looked up by, and fewest: fewer occur everywhere.
const KEYS: [usize; 2] = [3, 2];
/// Drafts in a row without a right token after which drafting pauses.
const MISSES: usize = 2;
/// Tokens that the first pause lasts, and the longest: each is twice as long as the one before.
const PAUSES: [usize; 2] = [8, 128];

/// Drafts for one answer, and how well they did.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Prompt and answer so far.
    context: Vec<u32>,
    length: usize,
    misses: usize,
    pause: usize,
    /// Length of the context from which on drafts are made again.
    resume: usize,
}

impl Lookup {
    pub(super) fn new(prompt: &[u32]) -> Self {
        Self { context: prompt.to_vec(), length: LONGEST / 2, misses: 0, pause: PAUSES[0], resume: 0 }
    }

    /// Goes on with the answer.
    pub(super) fn extend(&mut self, tokens: &[u32]) {
        self.context.extend_from_slice(tokens);
    }

    /// What may come next, or nothing.
    pub(super) fn draft(&self) -> &[u32] {
        if self.context.len() < self.resume {
            return &[];
        }
        let found = KEYS.iter().find_map(|&key| self.find(key));
        found.map_or(&[], |start| &self.context[start..self.context.len().min(start + self.length)])
    }

    /// Where the last occurrence of the context's last `key` tokens ends, before those themselves.
    fn find(&self, key: usize) -> Option<usize> {
        let before = self.context.len().checked_sub(key)?;
        let (_, last) = self.context.split_at(before);
        let occurrences = self.context[..self.context.len() - 1].windows(key);
        occurrences.rev().position(|window| window == last).map(|back| self.context.len() - 1 - back)
    }

    /// Learns how many tokens of a draft were right.
    pub(super) fn learn(&mut self, drafted: usize, right: usize) {
        if right == drafted {
            self.length = (self.length * 2).min(LONGEST);
        } else {
            self.length = (right + 1).min(LONGEST);
        }
        if right > 0 {
            self.misses = 0;
            self.pause = PAUSES[0];
            return;
        }
        self.misses += 1;
        if self.misses == MISSES {
            self.misses = 0;
            self.resume = self.context.len() + self.pause;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_tokens_before_is_drafted() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 6, 7, 9, 2, 3, 8, 1, 2, 3]);
        assert_eq!(lookup.draft(), [4, 5, 6, 7], "three tokens say more than two");
        lookup.extend(&[8]);
        assert_eq!(lookup.draft(), [1, 2, 3, 8], "the last occurrence of three counts");
        lookup.extend(&[77]);
        assert_eq!(lookup.draft(), [0u32; 0]);
    }

    #[test]
    fn a_repetition_is_drafted_as_far_as_it_is_known() {
        assert_eq!(Lookup::new(&[5, 5, 5, 5]).draft(), [5]);
        assert_eq!(Lookup::new(&[]).draft(), [0u32; 0]);
        assert_eq!(Lookup::new(&[5]).draft(), [0u32; 0]);
    }

    #[test]
    fn drafts_grow_where_they_are_right_and_pause_where_they_are_not() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3]);
        assert_eq!(lookup.draft().len(), 4);
        lookup.learn(4, 4);
        assert_eq!(lookup.draft().len(), 8);
        lookup.learn(8, 2);
        assert_eq!(lookup.draft().len(), 3);
        lookup.learn(3, 0);
        assert_eq!(lookup.draft().len(), 1);
        lookup.learn(1, 0);
        assert_eq!(lookup.draft().len(), 0);
        (0..PAUSES[0]).for_each(|_| lookup.extend(&[1, 2, 3]));
        assert_ne!(lookup.draft().len(), 0);
    }
}
