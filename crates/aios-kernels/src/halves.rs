//! Products of matrices whose numbers have 16 bits, with the activations' own values: nothing is rounded on the way.

use crate::LANES;
use crate::isa::Isa;
use crate::matmul::{Operands, Panel};
use crate::matrix::Half;
use crate::simd::{Simd, with_simd};

/// Tokens computed together: their sums and a column of the panel fit the registers of each instruction set.
const TOKENS: usize = 3;
/// Sums of a token, of every other column each: an addition need not wait for the one before.
const SUMS: usize = 2;

/// One panel's products with all tokens.
///
/// # Safety
/// The operands are as [`Panel`] and [`Operands`] say, and have values.
pub(crate) unsafe fn panel(isa: Isa, half: Half, panel: Panel, operands: &Operands) {
    // SAFETY: an Isa exists only where the CPU has its instructions; the rest is passed on.
    unsafe {
        match half {
            Half::Ieee => with_simd!(isa, ieee(panel: Panel, operands: &Operands)),
            Half::Upper => with_simd!(isa, upper(panel: Panel, operands: &Operands)),
        }
    }
}

/// # Safety
/// As for [`panel`]; inlined into a function that enables the instructions of `S`.
#[inline(always)]
unsafe fn ieee<S: Simd>(panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { tokens::<S, false>(panel, operands) }
}

/// # Safety
/// As for [`ieee`].
#[inline(always)]
unsafe fn upper<S: Simd>(panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { tokens::<S, true>(panel, operands) }
}

/// # Safety
/// As for [`ieee`].
#[inline(always)]
unsafe fn tokens<S: Simd, const UPPER: bool>(panel: Panel, operands: &Operands) {
    let mut token = 0;
    // SAFETY: passed on; tiles stay below the number of tokens.
    unsafe {
        while token + TOKENS <= operands.tokens {
            tile::<S, UPPER, TOKENS>(panel, operands, token);
            token += TOKENS;
        }
        while token < operands.tokens {
            tile::<S, UPPER, 1>(panel, operands, token);
            token += 1;
        }
    }
}

/// # Safety
/// As for [`tokens`]. `first + M` is at most the number of tokens.
#[inline(always)]
unsafe fn tile<S: Simd, const UPPER: bool, const M: usize>(panel: Panel, operands: &Operands, first: usize) {
    // SAFETY: a panel has 16 numbers for each column, each token a value; the output has 16 numbers for each token.
    unsafe {
        let numbers = panel.codes.cast::<u16>();
        let values: [*const f32; M] = std::array::from_fn(|m| operands.values.add((first + m) * operands.columns));
        let mut sums = [[S::splat(0.0); SUMS]; M];
        for column in (0..operands.columns).step_by(SUMS) {
            // Two columns share a cache line. Other tokens find it in the cache.
            if first == 0 {
                S::ask_ahead(numbers.add(column * LANES));
            }
            for index in 0..SUMS {
                let weights = load::<S, UPPER>(numbers.add((column + index) * LANES));
                for (sums, values) in sums.iter_mut().zip(values) {
                    sums[index] = S::fma(weights, S::splat(*values.add(column + index)), sums[index]);
                }
            }
        }
        for (m, [even, odd]) in sums.into_iter().enumerate() {
            S::store(panel.out.add((first + m) * LANES), S::add(even, odd));
        }
    }
}

/// Sixteen numbers of a column.
///
/// # Safety
/// As for [`ieee`]; there are as many.
#[inline(always)]
unsafe fn load<S: Simd, const UPPER: bool>(from: *const u16) -> S::Lanes {
    // SAFETY: passed on.
    unsafe { if UPPER { S::load_upper(from) } else { S::load_half(from) } }
}
