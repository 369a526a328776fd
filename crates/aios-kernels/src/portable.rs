//! Without vector instructions by name: loops that a compiler vectorizes with what every CPU of the architecture has.

use crate::matmul::{Operands, Panel};
use crate::matrix::Layout;
use crate::{BLOCK, LANES, float16, pack};

/// One panel's products with all tokens.
///
/// # Safety
/// The operands are as [`Panel`] and [`Operands`] say.
pub(crate) unsafe fn panel(layout: Layout, panel: Panel, operands: &Operands) {
    let blocks = operands.columns / BLOCK;
    // SAFETY: a panel has `blocks` blocks of numbers and of codes; each token has as many blocks of activations and of
    // their terms; the output has 16 numbers for each token.
    unsafe {
        let out = std::slice::from_raw_parts_mut(panel.out, operands.tokens * LANES);
        let terms = std::slice::from_raw_parts(operands.terms, operands.tokens * blocks);
        let activations = std::slice::from_raw_parts(operands.codes, operands.tokens * operands.columns);
        let numbers = std::slice::from_raw_parts(panel.numbers, blocks * layout.number_bytes());
        let codes = std::slice::from_raw_parts(panel.codes, blocks * layout.code_bytes());
        out.fill(0.0);
        let mut expanded = [0; LANES * BLOCK];
        for block in 0..blocks {
            pack::expand(layout, &codes[block * layout.code_bytes()..][..layout.code_bytes()], &mut expanded);
            let numbers = &numbers[block * layout.number_bytes()..][..layout.number_bytes()];
            let first = lanes(numbers);
            let second = if layout.numbers() == 2 { lanes(&numbers[LANES * 2..]) } else { first };
            for (token, out) in out.chunks_exact_mut(LANES).enumerate() {
                let terms = &terms[token * blocks + block];
                let activations = &activations[token * operands.columns + block * BLOCK..][..BLOCK];
                let halves = [0, 1].map(|half| {
                    let start = layout.offset().map_or(0, |offset| terms.negated[half] << offset);
                    dot(&expanded[half * 256..][..256], &activations[half * 16..][..16], start)
                });
                for lane in 0..LANES {
                    let [low, high] = [halves[0][lane] as f32, halves[1][lane] as f32];
                    out[lane] += match (layout.numbers(), layout.offset()) {
                        (2, Some(_)) => terms.scale * (low * first[lane] + high * second[lane]),
                        (_, Some(_)) => terms.scale * first[lane] * (low + high),
                        (_, None) => terms.scale * first[lane] * (low + high) + terms.weighted * second[lane],
                    };
                }
            }
        }
    }
}

#[inline(always)]
fn lanes(numbers: &[u8]) -> [f32; LANES] {
    std::array::from_fn(|lane| float16::to_f32(u16::from_le_bytes([numbers[lane * 2], numbers[lane * 2 + 1]])))
}

/// Four quads of codes with 16 activations.
#[inline(always)]
fn dot(codes: &[u8], activations: &[i8], start: i32) -> [i32; LANES] {
    let mut sums = [start; LANES];
    for (quad, activations) in codes.chunks_exact(64).zip(activations.chunks_exact(4)) {
        for (sum, codes) in sums.iter_mut().zip(quad.chunks_exact(4)) {
            let products =
                codes.iter().zip(activations).map(|(&code, &activation)| i32::from(code) * i32::from(activation));
            *sum += products.sum::<i32>();
        }
    }
    sums
}
