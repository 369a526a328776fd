//! NEON: four rows a register; with the dot-product instructions four columns at a time, with those for matrices eight
//! columns of two rows with two tokens, else products added up in 16 bits as far as that cannot overflow.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::BLOCK;
use crate::matmul::{Operands, Panel, Terms, with_layout};
use crate::matrix::Layout;
use crate::simd::Simd;

/// Four registers of four numbers.
pub(crate) struct Neon;

// The contract of every function is that of the trait: pointers are good for 16 numbers. Every aarch64 CPU has NEON.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one instruction a quarter, under the trait's contract"
)]
impl Simd for Neon {
    type Lanes = [float32x4_t; 4];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Lanes {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Lanes {
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: Self::Lanes) {
        unsafe {
            vst1q_f32(to, lanes[0]);
            vst1q_f32(to.add(4), lanes[1]);
            vst1q_f32(to.add(8), lanes[2]);
            vst1q_f32(to.add(12), lanes[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self::Lanes {
        unsafe { [four_halves(from), four_halves(from.add(4)), four_halves(from.add(8)), four_halves(from.add(12))] }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self::Lanes {
        unsafe { [four_upper(from), four_upper(from.add(4)), four_upper(from.add(8)), four_upper(from.add(12))] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1]), vaddq_f32(a[2], b[2]), vaddq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1]), vsubq_f32(a[2], b[2]), vsubq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]), vmulq_f32(a[2], b[2]), vmulq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1]), vdivq_f32(a[2], b[2]), vdivq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vmaxq_f32(a[0], b[0]), vmaxq_f32(a[1], b[1]), vmaxq_f32(a[2], b[2]), vmaxq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [vminq_f32(a[0], b[0]), vminq_f32(a[1], b[1]), vminq_f32(a[2], b[2]), vminq_f32(a[3], b[3])] }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        unsafe {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn into_exponent(lanes: Self::Lanes) -> Self::Lanes {
        unsafe { [shift(lanes[0]), shift(lanes[1]), shift(lanes[2]), shift(lanes[3])] }
    }
    #[inline(always)]
    unsafe fn swap_pairs(lanes: Self::Lanes) -> Self::Lanes {
        unsafe { [vrev64q_f32(lanes[0]), vrev64q_f32(lanes[1]), vrev64q_f32(lanes[2]), vrev64q_f32(lanes[3])] }
    }
}

/// Four half-precision numbers. The conversion is in every NEON, but its intrinsic is not in stable Rust.
#[inline(always)]
unsafe fn four_halves(from: *const u16) -> float32x4_t {
    // SAFETY: the caller vouches for four numbers; the instruction touches its registers alone.
    unsafe {
        let halves = vld1_u16(from);
        let numbers: float32x4_t;
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) numbers, in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
        numbers
    }
}

/// The upper halves of four single-precision numbers.
#[inline(always)]
unsafe fn four_upper(from: *const u16) -> float32x4_t {
    // SAFETY: the caller vouches for four numbers.
    unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))) }
}

#[inline(always)]
unsafe fn shift(lanes: float32x4_t) -> float32x4_t {
    // SAFETY: every aarch64 CPU has the instruction.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(lanes))) }
}

/// Tokens computed together: eight accumulators, eight registers of codes, and room for what lies between them.
const TOKENS: usize = 8;

/// One panel's products with all tokens, on any CPU.
///
/// # Safety
/// The operands are as [`Panel`] and [`Operands`] say.
pub(crate) unsafe fn panel(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens::<Eights>(panel, operands)) }
}

/// One panel's products with all tokens.
///
/// # Safety
/// The CPU has the dot-product instructions; the operands are as [`Panel`] and [`Operands`] say.
#[target_feature(enable = "dotprod")]
pub(crate) unsafe fn panel_dotprod(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens::<Quads>(panel, operands)) }
}

/// One panel's products with all tokens.
///
/// # Safety
/// The CPU has the dot-product instructions and those for matrices of bytes; the operands are as [`Panel`] and [`Operands`]
/// say.
#[target_feature(enable = "dotprod,i8mm")]
pub(crate) unsafe fn panel_i8mm(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens::<Squares>(panel, operands)) }
}

/// # Safety
/// As for [`panel`], [`panel_dotprod`] or [`panel_i8mm`], depending on `D`; inlined into it.
#[inline(always)]
unsafe fn tokens<const LAYOUT: usize, D: Dot>(panel: Panel, operands: &Operands) {
    // SAFETY: passed on; tiles stay below the number of tokens.
    unsafe {
        for quarter in 0..4 {
            let mut token = 0;
            while token + TOKENS <= operands.tokens {
                tile::<LAYOUT, D, TOKENS>(panel, operands, token, quarter);
                token += TOKENS;
            }
            while token + 2 <= operands.tokens {
                tile::<LAYOUT, D, 2>(panel, operands, token, quarter);
                token += 2;
            }
            if token < operands.tokens {
                tile::<LAYOUT, D, 1>(panel, operands, token, quarter);
            }
        }
    }
}

/// Rows `4 * quarter` to `4 * quarter + 3` of the panel.
///
/// # Safety
/// As for [`tokens`]. `M` is even or 1, `first + M` at most the number of tokens, `quarter` below 4.
#[inline(always)]
unsafe fn tile<const LAYOUT: usize, D: Dot, const M: usize>(
    panel: Panel,
    operands: &Operands,
    first: usize,
    quarter: usize,
) {
    let layout = Layout::ALL[LAYOUT];
    let blocks = operands.columns / BLOCK;
    // SAFETY: a panel has `blocks` blocks of numbers and of codes; each token has as many blocks of activations and of
    // their terms; the output has 16 numbers for each token.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); M];
        for block in 0..blocks {
            let numbers = panel.numbers.add(block * layout.number_bytes()).cast::<u16>().add(quarter * 4);
            let first_number = four_halves(numbers);
            let numbers =
                [first_number, if layout.numbers() == 2 { four_halves(numbers.add(16)) } else { first_number }];
            let codes = expand::<LAYOUT>(panel.codes.add(block * layout.code_bytes()), quarter);
            let index = |m: usize| (first + m) * blocks + block;
            let activations = |m: usize| operands.codes.add(index(m) * BLOCK);
            let terms = |m: usize| &*operands.terms.add(index(m));
            if M == 1 {
                let dots = D::one::<LAYOUT>(&codes, activations(0));
                sums[0] = scaled::<LAYOUT>(sums[0], dots, numbers, terms(0));
                continue;
            }
            let codes = D::arrange(codes);
            for (pair, sums) in sums.chunks_exact_mut(2).enumerate() {
                let m = pair * 2;
                let dots = D::two::<LAYOUT>(&codes, [activations(m), activations(m + 1)]);
                sums[0] = scaled::<LAYOUT>(sums[0], dots[0], numbers, terms(m));
                sums[1] = scaled::<LAYOUT>(sums[1], dots[1], numbers, terms(m + 1));
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            vst1q_f32(panel.out.add((first + m) * 16 + quarter * 4), *sum);
        }
    }
}

/// `sum` and what a block's dot products add to it.
#[inline(always)]
unsafe fn scaled<const LAYOUT: usize>(
    sum: float32x4_t,
    [mut low, mut high]: [int32x4_t; 2],
    numbers: [float32x4_t; 2],
    terms: &Terms,
) -> float32x4_t {
    let layout = Layout::ALL[LAYOUT];
    // SAFETY: every aarch64 CPU has these instructions.
    unsafe {
        // Eight bits are multiplied as signed codes, which have their offset already.
        if let (Some(offset), true) = (layout.offset(), layout != Layout::U8) {
            low = vaddq_s32(low, vdupq_n_s32(terms.negated[0] << offset));
            high = vaddq_s32(high, vdupq_n_s32(terms.negated[1] << offset));
        }
        if layout.numbers() == 2 && layout.offset().is_some() {
            let both = vmulq_f32(vcvtq_f32_s32(high), numbers[1]);
            let both = vfmaq_f32(both, vcvtq_f32_s32(low), numbers[0]);
            return vfmaq_n_f32(sum, both, terms.scale);
        }
        let dot = vcvtq_f32_s32(vaddq_s32(low, high));
        let sum = vfmaq_f32(sum, dot, vmulq_n_f32(numbers[0], terms.scale));
        match layout.offset() {
            None => vfmaq_n_f32(sum, numbers[1], terms.weighted),
            Some(_) => sum,
        }
    }
}

/// How codes, four rows a quad in each register, are multiplied with 32 activations of a token: products of the first and
/// of the second four quads; for layouts that need only their sum perhaps all in the first.
///
/// # Safety
/// All functions may only be called where the CPU has the instructions, inlined into a function that enables them.
trait Dot {
    unsafe fn one<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: *const i8) -> [int32x4_t; 2];

    /// As [`Self::two`] takes them.
    #[inline(always)]
    unsafe fn arrange(codes: [int8x16_t; 8]) -> [int8x16_t; 8] {
        codes
    }

    /// With two tokens.
    #[inline(always)]
    unsafe fn two<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: [*const i8; 2]) -> [[int32x4_t; 2]; 2] {
        // SAFETY: passed on.
        unsafe { [Self::one::<LAYOUT>(codes, activations[0]), Self::one::<LAYOUT>(codes, activations[1])] }
    }
}

/// On any CPU: a product of a code and an activation (at most 127) is added up in 16 bits. 8 of them with codes of four or
/// five bits still fit, 4 with six, 2 with eight.
struct Eights;

impl Dot for Eights {
    #[inline(always)]
    unsafe fn one<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: *const i8) -> [int32x4_t; 2] {
        let together = match Layout::ALL[LAYOUT] {
            Layout::U4 | Layout::U4Minimum | Layout::U5 | Layout::U5Minimum => 8,
            Layout::U6 => 4,
            Layout::U8 => 2,
        };
        // SAFETY: the caller vouches for 32 activations.
        unsafe {
            let mut halves = [vdupq_n_s32(0); 2];
            for group in 0..8 / together {
                let mut sums = [vdupq_n_s16(0); 2];
                let activations = activations.add(group * together * 4).cast::<i32>();
                for (quad, codes) in codes[group * together..][..together].iter().enumerate() {
                    let four = vreinterpret_s8_s32(vdup_n_s32(activations.add(quad).read_unaligned()));
                    sums[0] = vmlal_s8(sums[0], vget_low_s8(*codes), four);
                    sums[1] = vmlal_s8(sums[1], vget_high_s8(*codes), four);
                }
                let half = &mut halves[group * together / 4];
                *half = vaddq_s32(*half, vpaddq_s32(vpaddlq_s16(sums[0]), vpaddlq_s16(sums[1])));
            }
            halves
        }
    }
}

/// With the dot-product instructions, whose intrinsics are not in stable Rust.
struct Quads;

impl Dot for Quads {
    #[inline(always)]
    unsafe fn one<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: *const i8) -> [int32x4_t; 2] {
        // SAFETY: the caller vouches for 32 activations and the instructions, which touch their registers alone.
        unsafe {
            let mut halves = [vdupq_n_s32(0); 2];
            for (index, half) in halves.iter_mut().enumerate() {
                let quads = vld1q_s8(activations.add(index * 16));
                let [a, b, c, d] = [codes[index * 4], codes[index * 4 + 1], codes[index * 4 + 2], codes[index * 4 + 3]];
                asm!(
                    "sdot {sum:v}.4s, {a:v}.16b, {quads:v}.4b[0]",
                    "sdot {sum:v}.4s, {b:v}.16b, {quads:v}.4b[1]",
                    "sdot {sum:v}.4s, {c:v}.16b, {quads:v}.4b[2]",
                    "sdot {sum:v}.4s, {d:v}.16b, {quads:v}.4b[3]",
                    sum = inout(vreg) *half, quads = in(vreg) quads,
                    a = in(vreg) a, b = in(vreg) b, c = in(vreg) c, d = in(vreg) d,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            halves
        }
    }
}

/// With the instructions for matrices too: a register of two rows, eight columns each, times one of two tokens gives all
/// four products. Their intrinsics are not in stable Rust either.
struct Squares;

impl Dot for Squares {
    #[inline(always)]
    unsafe fn one<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: *const i8) -> [int32x4_t; 2] {
        // SAFETY: passed on.
        unsafe { Quads::one::<LAYOUT>(codes, activations) }
    }

    /// Two neighbouring quads of four rows become eight columns of the first and of the second two rows.
    #[inline(always)]
    unsafe fn arrange(codes: [int8x16_t; 8]) -> [int8x16_t; 8] {
        // SAFETY: every aarch64 CPU has these instructions.
        unsafe {
            std::array::from_fn(|index| {
                let first = vreinterpretq_s32_s8(codes[index / 2 * 2]);
                let second = vreinterpretq_s32_s8(codes[index / 2 * 2 + 1]);
                let rows = if index % 2 == 0 { vzip1q_s32(first, second) } else { vzip2q_s32(first, second) };
                vreinterpretq_s8_s32(rows)
            })
        }
    }

    #[inline(always)]
    unsafe fn two<const LAYOUT: usize>(codes: &[int8x16_t; 8], activations: [*const i8; 2]) -> [[int32x4_t; 2]; 2] {
        // SAFETY: passed on.
        unsafe {
            let [first_low, second_low] = squares(codes, activations, 0);
            let [first_high, second_high] = squares(codes, activations, 2);
            [[first_low, first_high], [second_low, second_high]]
        }
    }
}

/// Products of 16 columns with two tokens, from the eight columns `first` on.
///
/// # Safety
/// As for [`Squares`]' functions. `first` is 0 or 2.
#[inline(always)]
unsafe fn squares(codes: &[int8x16_t; 8], activations: [*const i8; 2], first: usize) -> [int32x4_t; 2] {
    // SAFETY: the caller vouches for 32 activations of each token and the instructions, which touch their registers alone.
    unsafe {
        // Two rows in each: the first one's products with both tokens, then the second one's.
        let [mut upper, mut lower] = [vdupq_n_s32(0); 2];
        for eight in [first, first + 1] {
            let tokens = vcombine_s8(vld1_s8(activations[0].add(eight * 8)), vld1_s8(activations[1].add(eight * 8)));
            asm!(
                "smmla {upper:v}.4s, {a:v}.16b, {tokens:v}.16b",
                "smmla {lower:v}.4s, {b:v}.16b, {tokens:v}.16b",
                upper = inout(vreg) upper, lower = inout(vreg) lower, tokens = in(vreg) tokens,
                a = in(vreg) codes[eight * 2], b = in(vreg) codes[eight * 2 + 1],
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        [vuzp1q_s32(upper, lower), vuzp2q_s32(upper, lower)]
    }
}

/// The codes of a block, of four rows a quad in each register.
#[inline(always)]
unsafe fn expand<const LAYOUT: usize>(codes: *const u8, quarter: usize) -> [int8x16_t; 8] {
    let layout = Layout::ALL[LAYOUT];
    // SAFETY: a block of this layout has the bytes that are read.
    unsafe {
        let line = |index: usize| vld1q_u8(codes.add(index * 64 + quarter * 16));
        let mut quads = [vdupq_n_u8(0); 8];
        if layout == Layout::U8 {
            for (quad, lanes) in quads.iter_mut().enumerate() {
                *lanes = veorq_u8(line(quad), vdupq_n_u8(0x80));
            }
            return quads.map(|lanes| vreinterpretq_s8_u8(lanes));
        }
        for quad in 0..4 {
            let both = line(quad);
            quads[quad] = vandq_u8(both, vdupq_n_u8(15));
            quads[quad + 4] = vshrq_n_u8::<4>(both);
        }
        match layout {
            Layout::U5 | Layout::U5Minimum => {
                // Byte `i` takes bit `i % 8` of byte `i / 8` of its 16 bits.
                let select = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
                for (quad, lanes) in quads.iter_mut().enumerate() {
                    let bits = codes.add(256 + quad * 8 + quarter * 2);
                    let bytes = vcombine_u8(vdup_n_u8(*bits), vdup_n_u8(*bits.add(1)));
                    *lanes = vorrq_u8(*lanes, vandq_u8(vtstq_u8(bytes, select), vdupq_n_u8(16)));
                }
            }
            Layout::U6 => {
                let two = vdupq_n_u8(0x30);
                for part in 0..2 {
                    let bits = line(4 + part);
                    let quads = &mut quads[part * 4..];
                    quads[0] = vorrq_u8(quads[0], vandq_u8(vshlq_n_u8::<4>(bits), two));
                    quads[1] = vorrq_u8(quads[1], vandq_u8(vshlq_n_u8::<2>(bits), two));
                    quads[2] = vorrq_u8(quads[2], vandq_u8(bits, two));
                    quads[3] = vorrq_u8(quads[3], vandq_u8(vshrq_n_u8::<2>(bits), two));
                }
            }
            Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
        }
        quads.map(|lanes| vreinterpretq_s8_u8(lanes))
    }
}
