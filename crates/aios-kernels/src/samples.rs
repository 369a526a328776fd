//! Values for tests.

use crate::LANES;

/// A sequence without a pattern, from -3 to 3.
pub(crate) fn number(seed: usize) -> f32 {
    ((seed * 7919 + 13) as f32 * 0.37).sin() * 3.0
}

/// Value `column` of `token` among `tokens`.
pub(crate) fn at(values: &[f32], tokens: usize, token: usize, column: usize) -> f64 {
    f64::from(values[(column / LANES * tokens + token) * LANES + column % LANES])
}

/// The values of `tokens`, panel by panel; `value(token, column)` tells each.
pub(crate) fn panels(columns: usize, tokens: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    (0..columns * tokens)
        .map(|index| value(index / LANES % tokens, index / LANES / tokens * LANES + index % LANES))
        .collect()
}
