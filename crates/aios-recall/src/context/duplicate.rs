//! Texts that say the same.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Words of a run that two texts may share.
const RUN: usize = 3;
/// Most runs of a text that are compared: its beginning decides.
const MOST_RUNS: usize = 512;

/// What a text is compared by.
#[derive(Debug)]
struct Print {
    /// Hashes of its runs of words.
    runs: BTreeSet<u64>,
    /// Hash of the words with a digit in them, in their order: texts with other numbers or addresses say something else.
    figures: u64,
}

/// The texts seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    /// From which Jaccard index on texts are the same.
    limit: f64,
    /// By their figures: only these can be the same.
    by_figures: HashMap<u64, Vec<(usize, BTreeSet<u64>)>>,
}

impl Seen {
    pub fn new(limit: f64) -> Seen {
        Seen { limit, by_figures: HashMap::new() }
    }

    /// The index of the text that says the same; where none does, `text` is remembered as `index`.
    pub fn find_or_add(&mut self, index: usize, text: &str) -> Option<usize> {
        let print = Print::of(text);
        let others = self.by_figures.entry(print.figures).or_default();
        let same = others.iter().find(|(_, runs)| likeness(runs, &print.runs) >= self.limit);
        if let Some((other, _)) = same {
            return Some(*other);
        }
        others.push((index, print.runs));
        None
    }
}

impl Print {
    fn of(text: &str) -> Print {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower
            .split_whitespace()
            .map(|word| word.trim_matches(|char: char| !char.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .take(MOST_RUNS + RUN)
            .collect();
        let mut figures = DefaultHasher::new();
        words.iter().filter(|word| word.contains(char::is_numeric)).for_each(|word| word.hash(&mut figures));
        let runs = match words.len() {
            // Punctuation alone: the same only where it is the same.
            0 => BTreeSet::from([hash(&lower)]),
            1..=RUN => BTreeSet::from([hash(&words)]),
            _ => words.windows(RUN).map(|run| hash(&run)).collect(),
        };
        Print { runs, figures: figures.finish() }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Jaccard index: what both have, of what either has.
fn likeness(one: &BTreeSet<u64>, other: &BTreeSet<u64>) -> f64 {
    let both = one.intersection(other).count();
    both as f64 / (one.len() + other.len() - both) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_same(one: &str, other: &str) -> bool {
        let mut seen = Seen::new(0.8);
        seen.find_or_add(0, one);
        seen.find_or_add(1, other).is_some()
    }

    #[test]
    fn case_punctuation_and_spacing_make_no_difference() {
        assert!(are_same("The disk is full.", "the  disk is FULL"));
        assert!(are_same("Full", "full!"));
    }

    #[test]
    fn a_changed_word_in_a_long_text_makes_no_difference_and_in_a_short_one_it_does() {
        let long = "the unit was started by the supervisor after its readiness was told and all of those it needs were ready \
                    and nothing was in the log that would have told of any failure at all before it";
        assert!(are_same(long, &long.replace("before it", "before this")));
        assert!(!are_same("restart nginx now", "restart sshd now"));
    }

    #[test]
    fn other_numbers_are_another_fact() {
        let long = "the connection of the fleet service to its broker was closed by the other side after 30 seconds without \
                    any packet and it was opened again without a loss of any message that was waiting to be sent";
        assert!(are_same(long, long));
        assert!(!are_same(long, &long.replace("30", "31")));
    }
}
