//! Resources as sets of strings: inclusion and intersection.

use super::Symbol;

/// Whether every string that `narrow` matches is one that `wide` matches.
///
/// `wide` reads the symbols of `narrow` as an automaton whose state is a place in `wide`. A wildcard of `narrow` is read
/// as one symbol, which only a wildcard that stands for at least as much can take: whatever it stands for, `wide` reads
/// it in the same state. So a reading that succeeds is one of every string. It costs at most the product of the lengths.
pub(super) fn includes(wide: &[Symbol], narrow: &[Symbol]) -> bool {
    let mut states = States::new(wide.len());
    let mut next = States::new(wide.len());
    states.reach(wide, 0);
    for symbol in narrow {
        for &at in &states.list {
            match (wide.get(at), symbol) {
                (Some(Symbol::Any), _) | (Some(Symbol::Segment), Symbol::Segment) => next.reach(wide, at),
                (Some(Symbol::Segment), Symbol::Char(c)) if *c != '/' => next.reach(wide, at),
                (Some(Symbol::Char(wanted)), Symbol::Char(c)) if wanted == c => next.reach(wide, at + 1),
                _ => {}
            }
        }
        std::mem::swap(&mut states, &mut next);
        next.clear();
        if states.list.is_empty() {
            return false;
        }
    }
    states.list.contains(&wide.len())
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

/// A set of places in a pattern.
struct States {
    list: Vec<usize>,
    member: Vec<bool>,
}

impl States {
    fn new(length: usize) -> States {
        States { list: Vec::new(), member: vec![false; length + 1] }
    }

    /// Adds a place, and those behind it that are reached by wildcards which stand for nothing.
    fn reach(&mut self, pattern: &[Symbol], mut at: usize) {
        while !self.member[at] {
            self.member[at] = true;
            self.list.push(at);
            if !pattern.get(at).is_some_and(|symbol| is_wildcard(*symbol)) {
                return;
            }
            at += 1;
        }
    }

    fn clear(&mut self) {
        for at in self.list.drain(..) {
            self.member[at] = false;
        }
    }
}
