//! The small steps between products. All values lie panel by panel (see the [crate's](crate) layout of values).

use std::ops::Range;

use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team};

/// Root-mean-square norm of one token's values, times `weight`, into `out`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn rms_norm(isa: Isa, values: &[f32], tokens: usize, token: usize, weight: &[f32], epsilon: f32, out: &mut [f32]) {
    check_row(values, tokens, token, out);
    assert_eq!(weight.len(), out.len(), "a weight for each value");
    // SAFETY: an Isa exists only where the CPU has its instructions; the lengths were checked.
    unsafe {
        with_simd!(isa, norm(values: &[f32], tokens: usize, token: usize, weight: &[f32], epsilon: f32, out: &mut [f32]));
    }
}

fn check_row(values: &[f32], tokens: usize, token: usize, out: &[f32]) {
    assert!(
        token < tokens && out.len().is_multiple_of(LANES) && values.len() == tokens * out.len(),
        "token {token} of {tokens}, {} values into {}",
        values.len(),
        out.len()
    );
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked by [`rms_norm`].
#[inline(always)]
unsafe fn norm<S: Simd>(values: &[f32], tokens: usize, token: usize, weight: &[f32], epsilon: f32, out: &mut [f32]) {
    // SAFETY: each panel has 16 values for the token, and as many weights and results.
    unsafe {
        let at = |panel: usize| values.as_ptr().add((panel * tokens + token) * LANES);
        let panels = out.len() / LANES;
        let mut sum = S::splat(0.0);
        for panel in 0..panels {
            let value = S::load(at(panel));
            sum = S::fma(value, value, sum);
        }
        let scale = S::splat(1.0 / (S::sum(sum) / out.len() as f32 + epsilon).sqrt());
        for panel in 0..panels {
            let scaled = S::mul(S::load(at(panel)), scale);
            S::store(out.as_mut_ptr().add(panel * LANES), S::mul(scaled, S::load(weight.as_ptr().add(panel * LANES))));
        }
    }
}

/// One token's values into `out`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn gather(values: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    check_row(values, tokens, token, out);
    for (panel, out) in out.chunks_exact_mut(LANES).enumerate() {
        out.copy_from_slice(&values[(panel * tokens + token) * LANES..][..LANES]);
    }
}

/// One token's values from `row`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn scatter(row: &[f32], tokens: usize, token: usize, values: &mut [f32]) {
    check_row(values, tokens, token, row);
    for (panel, row) in row.chunks_exact(LANES).enumerate() {
        values[(panel * tokens + token) * LANES..][..LANES].copy_from_slice(row);
    }
}

/// Adds `other` to `values`.
///
/// # Panics
/// Where they have different lengths.
pub fn add(values: &mut [f32], other: &[f32]) {
    assert_eq!(values.len(), other.len(), "as many values");
    values.iter_mut().zip(other).for_each(|(value, other)| *value += other);
}

/// One token's `silu(gate) * up` into `out`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn swiglu(isa: Isa, gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    check_row(gate, tokens, token, out);
    check_row(up, tokens, token, out);
    // SAFETY: an Isa exists only where the CPU has its instructions; the lengths were checked.
    unsafe { with_simd!(isa, gated(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32])) }
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked by [`swiglu`].
#[inline(always)]
unsafe fn gated<S: Simd>(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    // SAFETY: each panel has 16 values for the token, and as many results.
    unsafe {
        for panel in 0..out.len() / LANES {
            let at = (panel * tokens + token) * LANES;
            let gate = S::load(gate.as_ptr().add(at));
            let denominator = S::add(S::splat(1.0), S::exp(S::sub(S::splat(0.0), gate)));
            let result = S::mul(S::div(gate, denominator), S::load(up.as_ptr().add(at)));
            S::store(out.as_mut_ptr().add(panel * LANES), result);
        }
    }
}

/// Rotary position embedding: pairs of values turned by an angle that grows with the position.
#[derive(Debug)]
pub struct Rope {
    head_size: usize,
    /// By pair, in radians per position.
    frequencies: Vec<f64>,
    /// Of the positions set last: `[token][head_size]`, the sine of an even value negated.
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
        Self { head_size, frequencies, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Computes the angles of each token's position, in double precision, as they grow to thousands.
    pub fn set_positions(&mut self, positions: impl Iterator<Item = usize>) {
        self.cosines.clear();
        self.sines.clear();
        for position in positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                self.cosines.extend([cosine as f32; 2]);
                self.sines.extend([-sine as f32, sine as f32]);
            }
        }
    }

    /// Turns all heads in `values`, whose tokens stand at the positions that were set.
    ///
    /// # Panics
    /// Where `values` are not whole heads of as many tokens as there are positions.
    pub fn apply(&self, isa: Isa, team: &Team, values: &mut [f32]) {
        let tokens = self.cosines.len() / self.head_size;
        assert!(tokens > 0 && values.len().is_multiple_of(tokens * self.head_size), "{} values", values.len());
        let panels = values.len() / tokens / LANES;
        let values = crate::activations::Shared(values.as_mut_ptr());
        let work = |range: Range<usize>| {
            let (rope, values, first, last) = (self, values.get(), range.start, range.end);
            // SAFETY: each piece has panels of its own; the lengths were checked; an Isa exists only where the CPU has its
            // instructions.
            unsafe { with_simd!(isa, turn(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize)) }
        };
        // One token is turned sooner than another thread is told about it.
        if tokens == 1 { work(0..panels) } else { team.divide(panels, |range, _| work(range)) }
    }
}

/// # Safety
/// The instructions of `S` are enabled; `values` has all panels below `last`.
#[inline(always)]
unsafe fn turn<S: Simd>(rope: &Rope, values: *mut f32, first: usize, last: usize, tokens: usize) {
    for panel in first..last {
        for token in 0..tokens {
            let angle = token * rope.head_size + panel * LANES % rope.head_size;
            // SAFETY: the caller vouches for the panels; the tables have `head_size` numbers for each token.
            unsafe {
                let at = values.add((panel * tokens + token) * LANES);
                let value = S::load(at);
                let turned = S::mul(S::swap_pairs(value), S::load(rope.sines.as_ptr().add(angle)));
                S::store(at, S::fma(value, S::load(rope.cosines.as_ptr().add(angle)), turned));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(seed: usize) -> f32 {
        ((seed * 7919 + 13) as f32 * 0.37).sin() * 3.0
    }

    /// Value `column` of `token` among `tokens`.
    fn at(values: &[f32], tokens: usize, token: usize, column: usize) -> f64 {
        f64::from(values[(column / LANES * tokens + token) * LANES + column % LANES])
    }

    #[test]
    fn the_norm_is_that_of_the_formula() {
        let (tokens, columns) = (3, 48);
        let values: Vec<f32> = (0..tokens * columns).map(number).collect();
        let weight: Vec<f32> = (0..columns).map(|column| 1.0 + column as f32 / 100.0).collect();
        for isa in Isa::available() {
            for token in 0..tokens {
                let mut out = vec![0.0; columns];
                rms_norm(isa, &values, tokens, token, &weight, 1e-5, &mut out);
                let square: f64 = (0..columns).map(|column| at(&values, tokens, token, column).powi(2)).sum();
                let scale = 1.0 / (square / columns as f64 + 1e-5).sqrt();
                for column in 0..columns {
                    let expected = at(&values, tokens, token, column) * scale * f64::from(weight[column]);
                    assert!((f64::from(out[column]) - expected).abs() < 1e-5, "{}", isa.name());
                }
            }
        }
    }

    #[test]
    fn the_gate_is_that_of_the_formula() {
        let (tokens, columns) = (2, 32);
        let gate: Vec<f32> = (0..tokens * columns).map(|index| number(index) * 10.0).collect();
        let up: Vec<f32> = (0..tokens * columns).map(|index| number(index + 999)).collect();
        for isa in Isa::available() {
            for token in 0..tokens {
                let mut out = vec![0.0; columns];
                swiglu(isa, &gate, &up, tokens, token, &mut out);
                for (column, out) in out.iter().enumerate() {
                    let gate = at(&gate, tokens, token, column);
                    let expected = gate / (1.0 + (-gate).exp()) * at(&up, tokens, token, column);
                    assert!((f64::from(*out) - expected).abs() < 1e-4, "{}", isa.name());
                }
            }
        }
    }

    #[test]
    fn neighbours_turn_by_their_angle() {
        let frequencies: Vec<f64> = (0..16).map(|pair| 10000f64.powf(-(pair as f64) / 16.0)).collect();
        let mut rope = Rope::adjacent(frequencies.clone());
        for (first, tokens) in [(0, 1), (1000, 3)] {
            rope.set_positions(first..first + tokens);
            for isa in Isa::available() {
                let before: Vec<f32> = (0..tokens * 64).map(number).collect();
                let mut after = before.clone();
                rope.apply(isa, &Team::new(2), &mut after);
                for token in 0..tokens {
                    for pair in 0..32 {
                        let (sine, cosine) = ((first + token) as f64 * frequencies[pair % 16]).sin_cos();
                        let (x, y) = (at(&before, tokens, token, 2 * pair), at(&before, tokens, token, 2 * pair + 1));
                        let found = (at(&after, tokens, token, 2 * pair), at(&after, tokens, token, 2 * pair + 1));
                        let error =
                            (found.0 - (x * cosine - y * sine)).abs() + (found.1 - (x * sine + y * cosine)).abs();
                        assert!(error < 1e-5, "{} {found:?}", isa.name());
                    }
                }
            }
        }
    }
}
