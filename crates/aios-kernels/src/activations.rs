//! The other factor: rows of numbers, rounded to eight bits in blocks.

use crate::isa::Isa;
use crate::matmul::Terms;
use crate::simd::{Simd, with_simd};
use crate::{BLOCK, Team};

/// The values of some tokens, each [`BLOCK`] of them as a scale and whole numbers from -127 to 127.
#[derive(Debug)]
pub struct Activations {
    columns: usize,
    tokens: usize,
    /// Whether each token has a second row behind the first: what rounding left of it.
    pub(crate) exact: bool,
    /// `[row][column]`
    pub(crate) codes: Vec<i8>,
    /// `[row][block]`
    pub(crate) terms: Vec<Terms>,
    /// Whether `rows` keeps the values of all tokens.
    kept: bool,
    /// A row for each token where they are kept, else for each thread.
    rows: Vec<f32>,
}

impl Activations {
    /// Tokens that [`fill_exact`](Self::fill_exact) takes at a time.
    pub const EXACT: usize = 8;

    /// Room for `tokens` rows of `columns` values, and for [`EXACT`](Self::EXACT) exact ones, filled by at most `threads`
    /// threads.
    ///
    /// # Panics
    /// Where `columns` is not a multiple of [`BLOCK`].
    pub fn new(tokens: usize, columns: usize, threads: usize) -> Self {
        assert!(columns.is_multiple_of(BLOCK), "rows of {columns} values");
        let room = tokens.max(2 * Self::EXACT) * columns;
        Self {
            columns,
            tokens: 0,
            exact: false,
            codes: vec![0; room],
            terms: vec![Terms::default(); room / BLOCK],
            kept: false,
            rows: vec![0.0; threads * columns],
        }
    }

    /// Keeps the values themselves beside their codes: products with matrices that [take
    /// them](crate::Matrix::takes_values) need this.
    pub fn keep_values(mut self) -> Self {
        self.kept = true;
        self.rows.resize(self.rows.len().max(self.codes.len()), 0.0);
        self
    }

    /// Takes the rows of `tokens` tokens: `row(token, values)` writes each into `values`.
    ///
    /// # Panics
    /// Where there is no room for so many tokens, or for rows of all of the team's threads.
    pub fn fill(&mut self, isa: Isa, team: &Team, tokens: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
        let columns = self.columns;
        let blocks = columns / BLOCK;
        assert!(tokens * columns <= self.codes.len(), "{tokens} tokens where there is room for fewer");
        assert!(team.threads() * columns <= self.rows.len(), "a team of {} threads", team.threads());
        (self.tokens, self.exact) = (tokens, false);
        let codes = Shared(self.codes.as_mut_ptr());
        let terms = Shared(self.terms.as_mut_ptr());
        let (rows, kept) = (Shared(self.rows.as_mut_ptr()), self.kept);
        team.divide(tokens, |range, thread| {
            for token in range {
                let own = if kept { token } else { thread };
                // SAFETY: each thread has a row of its own, and each piece tokens of its own, which all have room.
                unsafe {
                    let values = std::slice::from_raw_parts_mut(rows.get().add(own * columns), columns);
                    row(token, values);
                    let codes = codes.get().add(token * columns);
                    let terms = terms.get().add(token * blocks);
                    round_row(isa, values, codes, terms);
                }
            }
        });
    }

    /// Takes the rows of at most [`EXACT`](Self::EXACT) tokens, which `row(token, values)` writes, in about 15 bits instead
    /// of 8: in two parts, of which the second is what rounding left of the first. Products take as long as those of twice
    /// as many tokens, which read the matrix once.
    ///
    /// # Panics
    /// Where there are more tokens.
    pub fn fill_exact(&mut self, isa: Isa, tokens: usize, mut row: impl FnMut(usize, &mut [f32])) {
        let (columns, blocks) = (self.columns, self.columns / BLOCK);
        assert!(tokens <= Self::EXACT, "{tokens} tokens at a time");
        (self.tokens, self.exact) = (tokens, true);
        let parts = self.codes.chunks_exact_mut(2 * columns).zip(self.terms.chunks_exact_mut(2 * blocks));
        for (token, (codes, terms)) in parts.take(tokens).enumerate() {
            // What is kept stays behind; the row that what rounding leaves is made of lies past all of these.
            let rest = if self.kept { Self::EXACT * columns } else { 0 };
            row(token, &mut self.rows[rest..rest + columns]);
            if self.kept {
                self.rows.copy_within(rest..rest + columns, token * columns);
            }
            let values = &mut self.rows[rest..rest + columns];
            let (first, second) = codes.split_at_mut(columns);
            // SAFETY: a row has as many codes as values, and terms for each block.
            unsafe { round_row(isa, values, first.as_mut_ptr(), terms.as_mut_ptr()) };
            for ((values, codes), terms) in
                values.chunks_exact_mut(BLOCK).zip(first.chunks_exact(BLOCK)).zip(terms.iter())
            {
                for (value, code) in values.iter_mut().zip(codes) {
                    *value -= terms.scale * f32::from(*code);
                }
            }
            // SAFETY: as above.
            unsafe { round_row(isa, values, second.as_mut_ptr(), terms[blocks..].as_mut_ptr()) };
        }
    }

    /// Values of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Tokens whose rows were filled last.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// `[token][column]`, where they are kept.
    pub(crate) fn values(&self) -> Option<&[f32]> {
        self.kept.then(|| &self.rows[..self.tokens * self.columns])
    }
}

/// A pointer that threads may share; what each of them does with it is its user's business.
pub(crate) struct Shared<T>(pub(crate) *mut T);
// SAFETY: the users of a Shared give each thread a part of its own.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

/// # Safety
/// `codes` has room for as many bytes as there are values, `terms` for a value per block.
unsafe fn round_row(isa: Isa, values: &[f32], codes: *mut i8, terms: *mut Terms) {
    // SAFETY: an Isa exists only where the CPU has its instructions; the rest is passed on.
    unsafe { with_simd!(isa, round_blocks(values: &[f32], codes: *mut i8, terms: *mut Terms)) }
}

/// # Safety
/// As for [`round_row`], where the instructions of `S` are enabled.
#[inline(always)]
unsafe fn round_blocks<S: Simd>(values: &[f32], codes: *mut i8, terms: *mut Terms) {
    for (block, values) in values.chunks_exact(BLOCK).enumerate() {
        // SAFETY: a block has two times 16 values; the caller answers for the rest.
        unsafe {
            let halves = [S::load(values.as_ptr()), S::load(values.as_ptr().add(16))];
            let zero = S::splat(0.0);
            let [low, high] = halves;
            let largest = S::largest(S::max(S::max(low, high), S::sub(zero, S::min(low, high))));
            let scale = largest / 127.0;
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            // Adding 1.5 * 2^23 rounds to a whole number, ties to even, and leaves it in the low bits, of which the lowest
            // byte is it: what is no number becomes any code, and its product is no number either, by the scale.
            let round = S::splat(12_582_912.0);
            let mut negated = [0; 2];
            for half in 0..2 {
                let rounded = S::fma(halves[half], S::splat(inverse), round);
                negated[half] = -S::store_low_bytes(codes.add(block * BLOCK + half * 16), rounded);
            }
            let weighted = -scale * (negated[0] + negated[1]) as f32;
            terms.add(block).write(Terms { scale, weighted, negated });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_values_are_within_half_a_step_and_their_sums_are_right() {
        let team = Team::new(2);
        for isa in Isa::available() {
            let mut activations = Activations::new(3, 64, 2);
            let value = |token: usize, column: usize| ((token * 64 + column) as f32 * 0.37).sin() * (column + 1) as f32;
            activations.fill(isa, &team, 3, |token, row| {
                row.iter_mut().enumerate().for_each(|(column, out)| *out = value(token, column));
            });
            for token in 0..3 {
                for block in 0..2 {
                    let terms = activations.terms[token * 2 + block];
                    let codes = &activations.codes[token * 64 + block * 32..][..32];
                    for (column, code) in codes.iter().enumerate() {
                        let error = f32::from(*code) * terms.scale - value(token, block * 32 + column);
                        assert!(error.abs() <= terms.scale * 0.5001, "{}: error {error}", isa.name());
                    }
                    for half in 0..2 {
                        let sum: i32 = codes[half * 16..][..16].iter().map(|code| i32::from(*code)).sum();
                        assert_eq!(terms.negated[half], -sum);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let mut activations = Activations::new(1, 32, 1);
        activations.fill(Isa::detect(), &Team::new(1), 1, |_, row| row.fill(0.0));
        assert_eq!(activations.terms[0].scale, 0.0);
        assert!(activations.codes.iter().all(|code| *code == 0));
    }
}
