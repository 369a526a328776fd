//! The small steps between products. All values lie panel by panel (see the [crate's](crate) layout of values).

use std::ops::Range;

use crate::activations::Shared;
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

/// Root-mean-square norm of each head of `values`, times `weight`, which has a number for each value of a head.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn norm_heads(isa: Isa, team: &Team, values: &mut [f32], tokens: usize, weight: &[f32], epsilon: f32) {
    let head = tokens * weight.len();
    assert!(
        head > 0 && weight.len().is_multiple_of(LANES) && values.len().is_multiple_of(head),
        "{} values of {tokens} tokens in heads of {}",
        values.len(),
        weight.len()
    );
    let heads = values.len() / head;
    let values = Shared(values.as_mut_ptr());
    let work = |range: Range<usize>| {
        let (values, first, last) = (values.get(), range.start, range.end);
        // SAFETY: each piece has heads of its own; the lengths were checked; an Isa exists only where the CPU has its
        // instructions.
        unsafe {
            with_simd!(isa, heads_norm(values: *mut f32, first: usize, last: usize, tokens: usize, weight: &[f32], epsilon: f32));
        }
    };
    // One token is done sooner than another thread is told about it.
    if tokens == 1 { work(0..heads) } else { team.divide(heads, |range, _| work(range)) }
}

/// Adds the root-mean-square norm of `other`, times `weight`, to `values`, token by token.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn add_norm(isa: Isa, team: &Team, values: &mut [f32], other: &[f32], tokens: usize, weight: &[f32], epsilon: f32) {
    assert!(
        weight.len().is_multiple_of(LANES) && values.len() == tokens * weight.len() && other.len() == values.len(),
        "{} and {} values of {tokens} tokens, {} weights",
        values.len(),
        other.len(),
        weight.len()
    );
    let values = Shared(values.as_mut_ptr());
    let work = |range: Range<usize>| {
        let (values, first, last) = (values.get(), range.start, range.end);
        // SAFETY: each piece has tokens of its own; the lengths were checked; an Isa exists only where the CPU has its
        // instructions.
        unsafe {
            with_simd!(isa, added_norm(values: *mut f32, other: &[f32], first: usize, last: usize, tokens: usize, weight: &[f32], epsilon: f32));
        }
    };
    if tokens == 1 { work(0..1) } else { team.divide(tokens, |range, _| work(range)) }
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
    let from = values.as_ptr().wrapping_add(token * LANES);
    // SAFETY: each panel has 16 values for the token, and as many weights and results.
    unsafe { panels_norm::<S, false>(from, tokens * LANES, weight, epsilon, out.as_mut_ptr(), LANES) }
}

/// # Safety
/// The instructions of `S` are enabled; `values` has all heads below `last`, lengths were checked by [`norm_heads`].
#[inline(always)]
unsafe fn heads_norm<S: Simd>(
    values: *mut f32,
    first: usize,
    last: usize,
    tokens: usize,
    weight: &[f32],
    epsilon: f32,
) {
    for head in first..last {
        for token in 0..tokens {
            // SAFETY: a head has a panel for each 16 weights, of which each has 16 values for the token.
            unsafe {
                let values = values.add(head * weight.len() * tokens + token * LANES);
                panels_norm::<S, false>(values, tokens * LANES, weight, epsilon, values, tokens * LANES);
            }
        }
    }
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked by [`add_norm`], `last` is at most the number of tokens.
#[inline(always)]
unsafe fn added_norm<S: Simd>(
    values: *mut f32,
    other: &[f32],
    first: usize,
    last: usize,
    tokens: usize,
    weight: &[f32],
    epsilon: f32,
) {
    for token in first..last {
        // SAFETY: both have a panel for each 16 weights, of which each has 16 values for the token.
        unsafe {
            let (to, from) = (values.add(token * LANES), other.as_ptr().add(token * LANES));
            panels_norm::<S, true>(from, tokens * LANES, weight, epsilon, to, tokens * LANES);
        }
    }
}

/// Writes the norm of the values in as many panels as there are weights to as many others, or adds it to what is there.
/// The first panels are `step` numbers behind each other, the second `to_step`; both may be the same.
///
/// # Safety
/// The instructions of `S` are enabled; the pointers are good for all panels.
#[inline(always)]
unsafe fn panels_norm<S: Simd, const ADD: bool>(
    from: *const f32,
    step: usize,
    weight: &[f32],
    epsilon: f32,
    to: *mut f32,
    to_step: usize,
) {
    // SAFETY: the caller vouches for the panels.
    unsafe {
        let panels = weight.len() / LANES;
        let mut sum = S::splat(0.0);
        for panel in 0..panels {
            let value = S::load(from.add(panel * step));
            sum = S::fma(value, value, sum);
        }
        let scale = S::splat(1.0 / (S::sum(sum) / weight.len() as f32 + epsilon).sqrt());
        for panel in 0..panels {
            let scaled = S::mul(S::load(from.add(panel * step)), scale);
            let mut result = S::mul(scaled, S::load(weight.as_ptr().add(panel * LANES)));
            let to = to.add(panel * to_step);
            if ADD {
                result = S::add(S::load(to), result);
            }
            S::store(to, result);
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

/// Adds `bias` to each token's values.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn add_bias(values: &mut [f32], tokens: usize, bias: &[f32]) {
    let fits = bias.len().is_multiple_of(LANES) && values.len() == tokens * bias.len();
    assert!(fits, "{} values of {tokens} tokens, {} of a bias", values.len(), bias.len());
    for (panel, bias) in values.chunks_exact_mut(tokens * LANES).zip(bias.as_chunks::<LANES>().0) {
        for values in panel.as_chunks_mut::<LANES>().0 {
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }
}

/// One token's `silu(gate) * up` into `out`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn swiglu(isa: Isa, gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    check_row(gate, tokens, token, out);
    check_row(up, tokens, token, out);
    // SAFETY: an Isa exists only where the CPU has its instructions; the lengths were checked.
    unsafe { with_simd!(isa, gated_by_silu(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32])) }
}

/// One token's `gelu(gate) * up` into `out`, where `gelu(x)` is `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
///
/// That is computed as `x` times the logistic function of twice the argument of `tanh`, within `4e-7 |x|`.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn geglu(isa: Isa, gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    check_row(gate, tokens, token, out);
    check_row(up, tokens, token, out);
    // SAFETY: an Isa exists only where the CPU has its instructions; the lengths were checked.
    unsafe { with_simd!(isa, gated_by_gelu(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32])) }
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked by [`swiglu`].
#[inline(always)]
unsafe fn gated_by_silu<S: Simd>(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    // SAFETY: passed on.
    unsafe { gated::<S, false>(gate, up, tokens, token, out) }
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked by [`geglu`].
#[inline(always)]
unsafe fn gated_by_gelu<S: Simd>(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    // SAFETY: passed on.
    unsafe { gated::<S, true>(gate, up, tokens, token, out) }
}

/// # Safety
/// The instructions of `S` are enabled; lengths were checked.
#[inline(always)]
unsafe fn gated<S: Simd, const GELU: bool>(gate: &[f32], up: &[f32], tokens: usize, token: usize, out: &mut [f32]) {
    // -2 sqrt(2 / pi), and 0.044715 times that.
    const FIRST: f32 = -1.595_769;
    const THIRD: f32 = -0.071_354_82;
    // SAFETY: each panel has 16 values for the token, and as many results.
    unsafe {
        for panel in 0..out.len() / LANES {
            let at = (panel * tokens + token) * LANES;
            let gate = S::load(gate.as_ptr().add(at));
            let exponent = match GELU {
                true => S::mul(gate, S::fma(S::mul(gate, gate), S::splat(THIRD), S::splat(FIRST))),
                false => S::sub(S::splat(0.0), gate),
            };
            let denominator = S::add(S::splat(1.0), S::exp(exponent));
            let result = S::mul(S::div(gate, denominator), S::load(up.as_ptr().add(at)));
            S::store(out.as_mut_ptr().add(panel * LANES), result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{at, number};

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

    /// Of two tokens and columns that `seed` numbers.
    fn pair(seed: usize, scale: f32) -> Vec<f32> {
        (0..64).map(|index| number(index + seed) * scale).collect()
    }

    #[test]
    fn the_gate_of_the_gaussian_is_that_of_the_formula() {
        // Besides what models have: both ends, where exponentials and cubes are out of bounds.
        let far = [0.0, -0.0, 1e-30, 20.0, -20.0, 1e6, -1e6, 1e20, -1e20, 1e38, -1e38];
        for isa in Isa::available() {
            for round in 0..200 {
                let mut gate = pair(round * 64, 0.01 * (round + 1) as f32);
                gate[..far.len()].copy_from_slice(&far);
                let up = vec![1.0; 64];
                for token in 0..2 {
                    let mut out = vec![0.0; 32];
                    geglu(isa, &gate, &up, 2, token, &mut out);
                    for (column, out) in out.iter().enumerate() {
                        let x = at(&gate, 2, token, column);
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                        let expected = 0.5 * x * (1.0 + inner.tanh());
                        let error = (f64::from(*out) - expected).abs();
                        assert!(error <= 4e-7 * x.abs(), "{}: {out} of {x} is {expected}", isa.name());
                    }
                }
            }
            let mut out = vec![0.0; 32];
            let up = pair(7, 1.0);
            geglu(isa, &vec![3.0; 64], &up, 2, 1, &mut out);
            for (column, out) in out.iter().enumerate() {
                assert!((f64::from(*out) / at(&up, 2, 1, column) - 2.996_362_6).abs() < 1e-5, "{}", isa.name());
            }
        }
    }

    #[test]
    fn each_head_has_a_norm_of_its_own() {
        let (tokens, heads, size) = (3, 2, 48);
        let weight: Vec<f32> = (0..size).map(|column| 1.0 + column as f32 / 100.0).collect();
        let before: Vec<f32> =
            (0..tokens * heads * size).map(|index| number(index) * (1 + index / 70) as f32).collect();
        for (isa, tokens, heads) in
            Isa::available().into_iter().flat_map(|isa| [(isa, tokens, heads), (isa, 1, tokens * heads)])
        {
            let mut after = before.clone();
            norm_heads(isa, &Team::new(2), &mut after, tokens, &weight, 1e-5);
            for (token, head) in (0..tokens).flat_map(|token| (0..heads).map(move |head| (token, head))) {
                let columns = head * size..(head + 1) * size;
                let square: f64 = columns.clone().map(|column| at(&before, tokens, token, column).powi(2)).sum();
                let scale = 1.0 / (square / size as f64 + 1e-5).sqrt();
                for column in columns {
                    let expected = at(&before, tokens, token, column) * scale * f64::from(weight[column % size]);
                    assert!((at(&after, tokens, token, column) - expected).abs() < 1e-5, "{}", isa.name());
                }
            }
        }
    }

    #[test]
    fn a_norm_is_added_token_by_token() {
        let (tokens, columns) = (5, 48);
        let weight: Vec<f32> = (0..columns).map(|column| 1.0 - column as f32 / 100.0).collect();
        let other: Vec<f32> = (0..tokens * columns).map(|index| number(index + 99)).collect();
        for isa in Isa::available() {
            let mut sum: Vec<f32> = (0..tokens * columns).map(number).collect();
            let before = sum.clone();
            add_norm(isa, &Team::new(2), &mut sum, &other, tokens, &weight, 1e-6);
            for token in 0..tokens {
                let mut normed = vec![0.0; columns];
                rms_norm(isa, &other, tokens, token, &weight, 1e-6, &mut normed);
                for (column, normed) in normed.iter().enumerate() {
                    let expected = at(&before, tokens, token, column) + f64::from(*normed);
                    assert!((at(&sum, tokens, token, column) - expected).abs() < 1e-6, "{}", isa.name());
                }
            }
        }
    }

    #[test]
    fn a_bias_goes_to_each_token() {
        let (tokens, columns) = (3, 32);
        let before: Vec<f32> = (0..tokens * columns).map(number).collect();
        let bias: Vec<f32> = (0..columns).map(|column| number(column + 5)).collect();
        let mut after = before.clone();
        add_bias(&mut after, tokens, &bias);
        for (token, column) in (0..tokens).flat_map(|token| (0..columns).map(move |column| (token, column))) {
            let expected = at(&before, tokens, token, column) + f64::from(bias[column]);
            assert!((at(&after, tokens, token, column) - expected).abs() < 1e-6);
        }
    }
}
