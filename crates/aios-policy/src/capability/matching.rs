//! Resources as sets of strings: inclusion and intersection.

use std::collections::BTreeMap;

use super::Symbol;

/// Whether every string that `narrow` matches is one that `wide` matches.
///
/// `wide` reads the symbols of `narrow` as an automaton whose state is a place in `wide`; all states are kept at once, a bit
/// each. A wildcard of `narrow` is read as one symbol, which only a wildcard that stands for at least as much can take:
/// whatever it stands for, `wide` reads it in the same state. So a reading that succeeds is one of every string.
///
/// Costs a sixty-fourth of the product of the lengths: whoever makes a token chooses both.
pub(super) fn includes(wide: &[Symbol], narrow: &[Symbol]) -> bool {
    let is_same = |(a, b): &(&Symbol, &Symbol)| a == b && !is_wildcard(**a);
    let same = wide.iter().zip(narrow).take_while(is_same).count();
    let (wide, narrow) = (&wide[same..], &narrow[same..]);
    let mut any = Places::none(wide.len());
    let mut wild = Places::none(wide.len());
    let mut chars: BTreeMap<char, Places> = BTreeMap::new();
    for (at, symbol) in wide.iter().enumerate() {
        match symbol {
            Symbol::Char(c) => chars.entry(*c).or_insert_with(|| Places::none(wide.len())).add(at),
            Symbol::Segment => wild.add(at),
            Symbol::Any => {
                any.add(at);
                wild.add(at);
            }
        }
    }
    let mut states = Places::none(wide.len());
    states.add(0);
    states.skip(&wild);
    for symbol in narrow {
        let (stay, advance) = match symbol {
            Symbol::Any => (&any, None),
            Symbol::Char(c @ '/') => (&any, chars.get(c)),
            Symbol::Char(c) => (&wild, chars.get(c)),
            Symbol::Segment => (&wild, None),
        };
        states.read(stay, advance);
        states.skip(&wild);
        if states.is_empty() {
            return false;
        }
    }
    states.contains(wide.len())
}

/// Whether there is a string that both match.
///
/// Walks the pairs of places that one string reaches in both, row by row; a wildcard may stand for nothing.
pub(super) fn intersect(a: &[Symbol], b: &[Symbol]) -> bool {
    // row[j]: some string leads through a[..i] and through b[..j].
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    for j in 0..b.len() {
        row[j + 1] = row[j] && is_wildcard(b[j]);
    }
    for &x in a {
        let mut below = vec![false; b.len() + 1];
        below[0] = row[0] && is_wildcard(x);
        for (j, &y) in b.iter().enumerate() {
            below[j + 1] = match (is_wildcard(x), is_wildcard(y)) {
                (true, true) => row[j + 1] || below[j],
                (true, false) => row[j + 1] || (below[j] && takes(x, y)),
                (false, true) => below[j] || (row[j + 1] && takes(y, x)),
                (false, false) => row[j] && x == y,
            };
        }
        if !below.contains(&true) {
            return false;
        }
        row = below;
    }
    row[b.len()]
}

fn is_wildcard(symbol: Symbol) -> bool {
    !matches!(symbol, Symbol::Char(_))
}

/// Whether the wildcard may stand for the character.
fn takes(wildcard: Symbol, character: Symbol) -> bool {
    wildcard == Symbol::Any || character != Symbol::Char('/')
}

/// A set of places in a pattern, its end included.
struct Places(Vec<u64>);

impl Places {
    fn none(length: usize) -> Places {
        Places(vec![0; length / 64 + 1])
    }

    fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// From each place: it is kept if it is in `stay`, and the next one is reached if it is in `advance`.
    fn read(&mut self, stay: &Places, advance: Option<&Places>) {
        let mut carry = 0;
        for (i, word) in self.0.iter_mut().enumerate() {
            let leaving = *word & advance.map_or(0, |advance| advance.0[i]);
            *word = (*word & stay.0[i]) | leaving << 1 | carry;
            carry = leaving >> 63;
        }
    }

    /// Adds the places behind those wildcards that are reached: they may stand for nothing.
    fn skip(&mut self, wild: &Places) {
        let mut carry = 0;
        for (word, wild) in self.0.iter_mut().zip(&wild.0) {
            *word |= carry;
            // Wildcards in a row are skipped one by one.
            loop {
                let behind = *word | (*word & wild) << 1;
                if behind == *word {
                    break;
                }
                *word = behind;
            }
            carry = (*word & wild) >> 63;
        }
    }
}
