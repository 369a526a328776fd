//! Rotary position embedding: pairs of a head's values turned by an angle that grows with the position.

use std::ops::Range;

use crate::activations::Shared;
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team};

/// Which values of a head are a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairs {
    /// Neighbours.
    Adjacent,
    /// Those at the same place of the first and of the second half.
    Halves,
}

/// Pairs of values turned by an angle that grows with the position.
#[derive(Debug)]
pub struct Rope {
    pairs: Pairs,
    head_size: usize,
    /// By pair, in radians per position.
    frequencies: Vec<f64>,
    /// Numbers of a token in the tables.
    width: usize,
    /// Of the positions set last: `[token][width]`. For neighbours each number is there twice, the sine of an even value
    /// negated.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rope {
    /// Neighbouring values are a pair, turned by `frequencies` (one for each pair) times the position.
    ///
    /// # Panics
    /// Where the size of a head, twice the number of frequencies, is not a multiple of [`LANES`].
    pub fn adjacent(frequencies: Vec<f64>) -> Self {
        let head_size = frequencies.len() * 2;
        assert!(head_size.is_multiple_of(LANES), "heads of {head_size} values");
        Self::new(Pairs::Adjacent, head_size, frequencies)
    }

    /// A value of the first half of a head and the one at the same place of the second half are a pair, turned by
    /// `frequencies` (one for each pair) times the position.
    ///
    /// # Panics
    /// Where half the size of a head, the number of frequencies, is not a multiple of [`LANES`].
    pub fn halves(frequencies: Vec<f64>) -> Self {
        assert!(frequencies.len().is_multiple_of(LANES), "half heads of {} values", frequencies.len());
        Self::new(Pairs::Halves, frequencies.len(), frequencies)
    }

    fn new(pairs: Pairs, width: usize, frequencies: Vec<f64>) -> Self {
        let (cosines, sines) = (Vec::new(), Vec::new());
        Self { pairs, head_size: frequencies.len() * 2, frequencies, width, cosines, sines }
    }

    /// Computes the angles of each token's position, in double precision, as they grow to thousands.
    pub fn set_positions(&mut self, positions: impl Iterator<Item = usize>) {
        self.cosines.clear();
        self.sines.clear();
        for position in positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                match self.pairs {
                    Pairs::Adjacent => {
                        self.cosines.extend([cosine as f32; 2]);
                        self.sines.extend([-sine as f32, sine as f32]);
                    }
                    Pairs::Halves => {
                        self.cosines.push(cosine as f32);
                        self.sines.push(sine as f32);
                    }
                }
            }
        }
    }

    /// Turns all heads in `values`, whose tokens stand at the positions that were set.
    ///
    /// # Panics
    /// Where `values` are not whole heads of as many tokens as there are positions.
    pub fn apply(&self, isa: Isa, team: &Team, values: &mut [f32]) {
        let tokens = self.cosines.len() / self.width;
        assert!(tokens > 0 && values.len().is_multiple_of(tokens * self.head_size), "{} values", values.len());
        let heads = values.len() / tokens / self.head_size;
        // A piece of work is a panel of neighbours, or one of a first half with the one of the second half.
        let pieces = heads * self.width / LANES;
        let values = Shared(values.as_mut_ptr());
        let work = |range: Range<usize>| {
            let (rope, values, first, last) = (self, values.get(), range.start, range.end);
            // SAFETY: each piece has panels of its own; the lengths were checked; an Isa exists only where the CPU has its
            // instructions.
            unsafe {
                match self.pairs {
                    Pairs::Adjacent => {
                        with_simd!(isa, turn_neighbours(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize))
                    }
                    Pairs::Halves => {
                        with_simd!(isa, turn_halves(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize))
                    }
                }
            }
        };
        // One token is turned sooner than another thread is told about it.
        if tokens == 1 { work(0..pieces) } else { team.divide(pieces, |range, _| work(range)) }
    }
}

/// # Safety
/// The instructions of `S` are enabled; `values` has all panels below `last`.
#[inline(always)]
unsafe fn turn_neighbours<S: Simd>(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize) {
    for panel in first..last {
        for token in 0..tokens {
            let angle = token * rope.width + panel * LANES % rope.width;
            // SAFETY: the caller vouches for the panels; the tables have `width` numbers for each token.
            unsafe {
                let at = values.add((panel * tokens + token) * LANES);
                let value = S::load(at);
                let turned = S::mul(S::swap_pairs(value), S::load(rope.sines.as_ptr().add(angle)));
                S::store(at, S::fma(value, S::load(rope.cosines.as_ptr().add(angle)), turned));
            }
        }
    }
}

/// # Safety
/// The instructions of `S` are enabled; `values` has all heads of which pieces below `last` are a part.
#[inline(always)]
unsafe fn turn_halves<S: Simd>(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize) {
    let half = rope.width / LANES;
    for piece in first..last {
        let (head, place) = (piece / half, piece % half);
        for token in 0..tokens {
            let angle = token * rope.width + place * LANES;
            // SAFETY: the caller vouches for the heads, which have two times `half` panels; the tables have `width` numbers
            // for each token.
            unsafe {
                let low = values.add(((head * 2 * half + place) * tokens + token) * LANES);
                let high = low.add(half * tokens * LANES);
                let (x, y) = (S::load(low), S::load(high));
                let (cosine, sine) =
                    (S::load(rope.cosines.as_ptr().add(angle)), S::load(rope.sines.as_ptr().add(angle)));
                S::store(low, S::sub(S::mul(x, cosine), S::mul(y, sine)));
                S::store(high, S::fma(x, sine, S::mul(y, cosine)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{at, number, panels};

    /// Turns two heads of 32 or 64 values; `pair(head, index)` tells the columns of a pair.
    fn check(rope: &mut Rope, frequencies: &[f64], pair: impl Fn(usize, usize) -> (usize, usize)) {
        let size = frequencies.len() * 2;
        for (first, tokens) in [(0, 1), (1000, 3)] {
            rope.set_positions(first..first + tokens);
            for isa in Isa::available() {
                let before: Vec<f32> = (0..tokens * 2 * size).map(number).collect();
                let mut after = before.clone();
                rope.apply(isa, &Team::new(2), &mut after);
                for (token, head, index) in (0..tokens)
                    .flat_map(|token| (0..2).flat_map(move |head| (0..size / 2).map(move |index| (token, head, index))))
                {
                    let (sine, cosine) = ((first + token) as f64 * frequencies[index]).sin_cos();
                    let (one, other) = pair(head, index);
                    let (x, y) = (at(&before, tokens, token, one), at(&before, tokens, token, other));
                    let found = (at(&after, tokens, token, one), at(&after, tokens, token, other));
                    let error = (found.0 - (x * cosine - y * sine)).abs() + (found.1 - (x * sine + y * cosine)).abs();
                    assert!(error < 1e-5, "{} {found:?}", isa.name());
                }
            }
        }
    }

    fn frequencies(pairs: usize) -> Vec<f64> {
        (0..pairs).map(|pair| 10000f64.powf(-(pair as f64) / pairs as f64)).collect()
    }

    #[test]
    fn neighbours_turn_by_their_angle() {
        for pairs in [16, 24] {
            let frequencies = frequencies(pairs);
            let mut rope = Rope::adjacent(frequencies.clone());
            check(&mut rope, &frequencies, |head, index| {
                (head * 2 * pairs + 2 * index, head * 2 * pairs + 2 * index + 1)
            });
        }
    }

    #[test]
    fn values_of_both_halves_turn_by_their_angle() {
        for pairs in [16, 32] {
            let frequencies = frequencies(pairs);
            let mut rope = Rope::halves(frequencies.clone());
            check(&mut rope, &frequencies, |head, index| (head * 2 * pairs + index, head * 2 * pairs + pairs + index));
        }
    }

    #[test]
    fn what_a_token_gets_does_not_depend_on_the_rest_of_its_batch() {
        let mut rope = Rope::halves(frequencies(32));
        let value = |token: usize, column: usize| number(token * 1009 + column);
        for isa in Isa::available() {
            rope.set_positions(5..8);
            let mut together = panels(128, 3, value);
            rope.apply(isa, &Team::new(2), &mut together);
            for token in 0..3 {
                rope.set_positions(std::iter::once(5 + token));
                let mut alone: Vec<f32> = (0..128).map(|column| value(token, column)).collect();
                rope.apply(isa, &Team::new(2), &mut alone);
                assert!((0..128).all(|column| f64::from(alone[column]) == at(&together, 3, token, column)));
            }
        }
    }
}
