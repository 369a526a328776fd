//! AVX2: eight rows a register; with AVX-VNNI four columns at a time, else products of bytes added up in 16 bits as far as
//! that cannot overflow.

use std::arch::x86_64::*;

use crate::BLOCK;
use crate::matmul::{Operands, Panel, with_layout};
use crate::matrix::Layout;
use crate::simd::Simd;
use crate::x86::{ask, ask_ahead, prefetch};

/// Pairs of registers of eight numbers.
pub(crate) struct Avx2;

// The contract of every function is that of the trait: the instructions are there, pointers are good for 16 numbers.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one instruction a half, under the trait's contract"
)]
impl Simd for Avx2 {
    type Lanes = [__m256; 2];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Lanes {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Lanes {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: Self::Lanes) {
        unsafe {
            _mm256_storeu_ps(to, lanes[0]);
            _mm256_storeu_ps(to.add(8), lanes[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self::Lanes {
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut u16, lanes: Self::Lanes) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(lanes[0]));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(lanes[1]));
        }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self::Lanes {
        unsafe { [eight_upper(from), eight_upper(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn into_exponent(lanes: Self::Lanes) -> Self::Lanes {
        unsafe {
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(lanes[0]))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(lanes[1]))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn swap_pairs(lanes: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_permute_ps::<0b10_11_00_01>(lanes[0]), _mm256_permute_ps::<0b10_11_00_01>(lanes[1])] }
    }
    #[inline(always)]
    fn ask(at: *const u16) {
        ask(at.cast());
    }
    #[inline(always)]
    fn ask_ahead(from: *const u16) {
        ask_ahead(from.cast());
    }
}

/// The upper halves of eight single-precision numbers.
#[inline(always)]
unsafe fn eight_upper(from: *const u16) -> __m256 {
    // SAFETY: the caller vouches for eight numbers, and has the instructions.
    unsafe {
        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }
}

/// Tokens computed together: four accumulators and eight registers of codes leave four of the 16 there are.
const TOKENS: usize = 4;

/// One panel's products with all tokens.
///
/// # Safety
/// The CPU has the instructions; the operands are as [`Panel`] and [`Operands`] say.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn panel(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens::<Pairs>(panel, operands)) }
}

/// One panel's products with all tokens, by AVX-VNNI.
///
/// # Safety
/// As for [`panel`], and the CPU has AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(crate) unsafe fn panel_vnni(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens::<Quads>(panel, operands)) }
}

/// # Safety
/// As for [`panel`], or with [`Quads`] for [`panel_vnni`]; inlined into it.
#[inline(always)]
unsafe fn tokens<const LAYOUT: usize, D: Dot>(panel: Panel, operands: &Operands) {
    let mut token = 0;
    // SAFETY: passed on; tiles stay below the number of tokens.
    unsafe {
        while token + TOKENS <= operands.tokens {
            tile::<LAYOUT, D, TOKENS>(panel, operands, token, 0);
            tile::<LAYOUT, D, TOKENS>(panel, operands, token, 1);
            token += TOKENS;
        }
        while token < operands.tokens {
            tile::<LAYOUT, D, 1>(panel, operands, token, 0);
            tile::<LAYOUT, D, 1>(panel, operands, token, 1);
            token += 1;
        }
    }
}

/// Rows `8 * half` to `8 * half + 7` of the panel.
///
/// # Safety
/// As for [`tokens`]. `first + M` is at most the number of tokens, `half` is 0 or 1.
#[inline(always)]
unsafe fn tile<const LAYOUT: usize, D: Dot, const M: usize>(
    panel: Panel,
    operands: &Operands,
    first: usize,
    half: usize,
) {
    let layout = Layout::ALL[LAYOUT];
    let blocks = operands.columns / BLOCK;
    // SAFETY: a panel has `blocks` blocks of numbers and of codes; each token has as many blocks of activations and of
    // their terms; the output has 16 numbers for each token.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); M];
        for block in 0..blocks {
            if first == 0 && half == 0 {
                prefetch(layout, panel, block);
            }
            let numbers = panel.numbers.add(block * layout.number_bytes() + half * 16);
            let first_number = _mm256_cvtph_ps(_mm_loadu_si128(numbers.cast()));
            let second_number = match layout.numbers() {
                2 => _mm256_cvtph_ps(_mm_loadu_si128(numbers.add(32).cast())),
                _ => first_number,
            };
            let codes = expand::<LAYOUT>(panel.codes.add(block * layout.code_bytes()), half);
            for (m, sum) in sums.iter_mut().enumerate() {
                let index = (first + m) * blocks + block;
                let quads = operands.codes.add(index * BLOCK).cast::<i32>();
                let terms = operands.terms.add(index);
                let scale = _mm256_set1_ps((*terms).scale);
                let [mut low, mut high] = D::products::<LAYOUT>(&codes, quads);
                // Signed codes have their offset already.
                if let (Some(offset), false) = (layout.offset(), D::signed(layout)) {
                    let count = _mm_cvtsi32_si128(offset as i32);
                    let [first_half, second_half] = (*terms).negated;
                    low = _mm256_add_epi32(low, _mm256_sll_epi32(_mm256_set1_epi32(first_half), count));
                    high = _mm256_add_epi32(high, _mm256_sll_epi32(_mm256_set1_epi32(second_half), count));
                }
                if layout.numbers() == 2 && layout.offset().is_some() {
                    let high = _mm256_mul_ps(_mm256_cvtepi32_ps(high), second_number);
                    let both = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), first_number, high);
                    *sum = _mm256_fmadd_ps(both, scale, *sum);
                } else {
                    let dot = _mm256_cvtepi32_ps(_mm256_add_epi32(low, high));
                    *sum = _mm256_fmadd_ps(dot, _mm256_mul_ps(first_number, scale), *sum);
                    if layout.offset().is_none() {
                        *sum = _mm256_fmadd_ps(second_number, _mm256_set1_ps((*terms).weighted), *sum);
                    }
                }
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            _mm256_storeu_ps(panel.out.add((first + m) * 16 + half * 8), *sum);
        }
    }
}

/// How codes are multiplied with activations.
trait Dot {
    /// Whether codes of this layout are made signed before.
    fn signed(layout: Layout) -> bool;

    /// Products of the first and of the second four quads; for layouts that need only their sum perhaps all in the first.
    ///
    /// # Safety
    /// The CPU has the instructions; there are eight quads.
    unsafe fn products<const LAYOUT: usize>(codes: &[__m256i; 8], quads: *const i32) -> [__m256i; 2];
}

/// With AVX2: `maddubs` adds two products of a code and an activation (at most 127) in 16 bits, so that 8 of them with codes
/// of four bits, 4 with five and 2 with six still fit.
struct Pairs;

impl Dot for Pairs {
    #[inline(always)]
    fn signed(layout: Layout) -> bool {
        layout == Layout::U8
    }

    #[inline(always)]
    unsafe fn products<const LAYOUT: usize>(codes: &[__m256i; 8], quads: *const i32) -> [__m256i; 2] {
        let layout = Layout::ALL[LAYOUT];
        // SAFETY: there are eight quads, and the caller has the instructions.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let together = match layout {
                Layout::U4 | Layout::U4Minimum => 8,
                Layout::U5 | Layout::U5Minimum => 4,
                Layout::U6 => 2,
                Layout::U8 => 1,
            };
            let mut halves = [_mm256_setzero_si256(); 2];
            for group in 0..8 / together {
                let mut sum = pairs::<LAYOUT>(codes, quads, group * together);
                for quad in 1..together {
                    sum = _mm256_add_epi16(sum, pairs::<LAYOUT>(codes, quads, group * together + quad));
                }
                let half = &mut halves[group * together / 4];
                *half = _mm256_add_epi32(*half, _mm256_madd_epi16(sum, ones));
            }
            halves
        }
    }
}

/// With AVX-VNNI: four products of an unsigned code and an activation added up in 32 bits at once.
struct Quads;

impl Dot for Quads {
    #[inline(always)]
    fn signed(_layout: Layout) -> bool {
        false
    }

    #[inline(always)]
    unsafe fn products<const LAYOUT: usize>(codes: &[__m256i; 8], quads: *const i32) -> [__m256i; 2] {
        // SAFETY: there are eight quads, and the caller has the instructions.
        unsafe {
            let mut halves = [_mm256_setzero_si256(); 2];
            for (quad, codes) in codes.iter().enumerate() {
                let activations = _mm256_set1_epi32(quads.add(quad).read_unaligned());
                halves[quad / 4] = _mm256_dpbusd_avx_epi32(halves[quad / 4], *codes, activations);
            }
            halves
        }
    }
}

/// Products of one quad, two added up in each 16 bits.
#[inline(always)]
unsafe fn pairs<const LAYOUT: usize>(codes: &[__m256i; 8], quads: *const i32, quad: usize) -> __m256i {
    // SAFETY: there are eight quads, and the caller has the instructions.
    unsafe {
        let activations = _mm256_set1_epi32(quads.add(quad).read_unaligned());
        if Layout::ALL[LAYOUT] == Layout::U8 {
            let signed = _mm256_xor_si256(codes[quad], _mm256_set1_epi8(-128));
            return _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(activations, signed));
        }
        _mm256_maddubs_epi16(codes[quad], activations)
    }
}

/// The codes of a block, of eight rows a quad in each register.
#[inline(always)]
unsafe fn expand<const LAYOUT: usize>(codes: *const u8, half: usize) -> [__m256i; 8] {
    let layout = Layout::ALL[LAYOUT];
    // SAFETY: a block of this layout has the bytes that are read, and the caller has the instructions.
    unsafe {
        let mut quads = [_mm256_setzero_si256(); 8];
        if layout == Layout::U8 {
            for (quad, lanes) in quads.iter_mut().enumerate() {
                *lanes = line(codes, quad, half);
            }
            return quads;
        }
        let four = _mm256_set1_epi8(15);
        for quad in 0..4 {
            let both = line(codes, quad, half);
            quads[quad] = _mm256_and_si256(both, four);
            quads[quad + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), four);
        }
        match layout {
            Layout::U5 | Layout::U5Minimum => {
                // Byte `i` of a register takes bit `i % 8` of byte `i / 8` of its 32 bits.
                let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                let select = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
                let sixteen = _mm256_set1_epi8(16);
                for (quad, lanes) in quads.iter_mut().enumerate() {
                    let bits = codes.add(256 + quad * 8 + half * 4).cast::<i32>().read_unaligned();
                    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
                    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), select);
                    *lanes = _mm256_or_si256(*lanes, _mm256_and_si256(set, sixteen));
                }
            }
            Layout::U6 => {
                let two = _mm256_set1_epi8(0x30);
                for part in 0..2 {
                    let bits = line(codes, 4 + part, half);
                    let quads = &mut quads[part * 4..];
                    quads[0] = _mm256_or_si256(quads[0], _mm256_and_si256(_mm256_slli_epi16::<4>(bits), two));
                    quads[1] = _mm256_or_si256(quads[1], _mm256_and_si256(_mm256_slli_epi16::<2>(bits), two));
                    quads[2] = _mm256_or_si256(quads[2], _mm256_and_si256(bits, two));
                    quads[3] = _mm256_or_si256(quads[3], _mm256_and_si256(_mm256_srli_epi16::<2>(bits), two));
                }
            }
            Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
        }
        quads
    }
}

/// Half of 64 bytes.
#[inline(always)]
unsafe fn line(codes: *const u8, index: usize, half: usize) -> __m256i {
    // SAFETY: the caller vouches for the bytes, and has the instructions.
    unsafe { _mm256_loadu_si256(codes.add(index * 64 + half * 32).cast()) }
}
