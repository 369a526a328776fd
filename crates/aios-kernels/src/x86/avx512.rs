//! AVX-512 with VNNI: a row a lane, products of unsigned codes and signed activations four columns at a time.

use std::arch::x86_64::*;

use crate::BLOCK;
use crate::matmul::{Operands, Panel, Terms, with_layout};
use crate::matrix::Layout;
use crate::simd::Simd;
use crate::x86::{ask, ask_ahead, prefetch};

/// Registers of 16 numbers.
pub(crate) struct Avx512;

// The contract of every function is that of the trait: the instructions are there, pointers are good for 16 numbers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "each block is one instruction under the trait's contract")]
impl Simd for Avx512 {
    type Lanes = __m512;

    const MANY: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: __m512) {
        unsafe { _mm512_storeu_ps(to, lanes) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut u16, lanes: __m512) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(lanes)) }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn into_exponent(lanes: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(lanes))) }
    }
    #[inline(always)]
    unsafe fn swap_pairs(lanes: __m512) -> __m512 {
        unsafe { _mm512_permute_ps::<0b10_11_00_01>(lanes) }
    }
    #[inline(always)]
    unsafe fn first(lanes: __m512) -> f32 {
        unsafe { _mm512_cvtss_f32(lanes) }
    }
    #[inline(always)]
    unsafe fn sum(lanes: __m512) -> f32 {
        unsafe {
            let halves = _mm256_add_ps(_mm512_castps512_ps256(lanes), upper_half(lanes));
            let four = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(lanes: __m512) -> f32 {
        unsafe {
            let halves = _mm256_max_ps(_mm512_castps512_ps256(lanes), upper_half(lanes));
            let four = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(to: *mut i8, lanes: __m512) -> i32 {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(lanes));
            _mm_storeu_si128(to.cast(), bytes);
            // Sums are of unsigned bytes: so each counts 128 more.
            let sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
            _mm_cvtsi128_si32(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128
        }
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

/// The upper eight numbers.
#[inline(always)]
unsafe fn upper_half(lanes: __m512) -> __m256 {
    // SAFETY: the caller has the instructions.
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes))) }
}

/// Tokens computed together: eight accumulators, eight registers of codes and what lies between them fit the 32 there are.
const TOKENS: usize = 8;

/// One panel's products with all tokens.
///
/// # Safety
/// The CPU has the instructions; the operands are as [`Panel`] and [`Operands`] say.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) unsafe fn panel(layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: passed on.
    unsafe { with_layout!(layout, tokens(panel, operands)) }
}

/// # Safety
/// As for [`panel`]; inlined into it.
#[inline(always)]
unsafe fn tokens<const LAYOUT: usize>(panel: Panel, operands: &Operands) {
    let mut token = 0;
    // SAFETY: passed on; tiles stay below the number of tokens.
    unsafe {
        while token + TOKENS <= operands.tokens {
            tile::<LAYOUT, TOKENS>(panel, operands, token);
            token += TOKENS;
        }
        while token + 2 <= operands.tokens {
            tile::<LAYOUT, 2>(panel, operands, token);
            token += 2;
        }
        if token < operands.tokens {
            tile::<LAYOUT, 1>(panel, operands, token);
        }
    }
}

/// # Safety
/// As for [`panel`]; inlined into it. `first + M` is at most the number of tokens.
#[inline(always)]
unsafe fn tile<const LAYOUT: usize, const M: usize>(panel: Panel, operands: &Operands, first: usize) {
    let layout = Layout::ALL[LAYOUT];
    let blocks = operands.columns / BLOCK;
    // SAFETY: a panel has `blocks` blocks of numbers and of codes; each token has as many blocks of activations and of
    // their terms; the output has 16 numbers for each token.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); M];
        for block in 0..blocks {
            if first == 0 {
                prefetch(layout, panel, block);
            }
            let numbers = panel.numbers.add(block * layout.number_bytes()).cast::<u16>();
            let first_number = Avx512::load_half(numbers);
            let second_number = if layout.numbers() == 2 { Avx512::load_half(numbers.add(16)) } else { first_number };
            let codes = expand::<LAYOUT>(panel.codes.add(block * layout.code_bytes()));
            for (m, sum) in sums.iter_mut().enumerate() {
                let index = (first + m) * blocks + block;
                let quads = operands.codes.add(index * BLOCK).cast::<i32>();
                let terms = operands.terms.add(index);
                let scale = _mm512_set1_ps((*terms).scale);
                let [low, high] = products::<M>(&codes, quads, start(layout, terms));
                if layout.numbers() == 2 && layout.offset().is_some() {
                    let high = _mm512_mul_ps(_mm512_cvtepi32_ps(high), second_number);
                    let both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), first_number, high);
                    *sum = _mm512_fmadd_ps(both, scale, *sum);
                } else {
                    let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(low, high));
                    *sum = _mm512_fmadd_ps(dot, _mm512_mul_ps(first_number, scale), *sum);
                    if layout.offset().is_none() {
                        *sum = _mm512_fmadd_ps(second_number, _mm512_set1_ps((*terms).weighted), *sum);
                    }
                }
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(panel.out.add((first + m) * 16), *sum);
        }
    }
}

/// What the two halves of a dot product start from: less the offset times the activations' sums.
#[inline(always)]
unsafe fn start(layout: Layout, terms: *const Terms) -> [__m512i; 2] {
    // SAFETY: the pointer is good, and the caller has the instructions.
    unsafe {
        match layout.offset() {
            None => [_mm512_setzero_si512(); 2],
            Some(offset) => {
                let count = _mm_cvtsi32_si128(offset as i32);
                let [low, high] = (*terms).negated;
                [_mm512_sll_epi32(_mm512_set1_epi32(low), count), _mm512_sll_epi32(_mm512_set1_epi32(high), count)]
            }
        }
    }
}

/// Products of the first and of the second four quads.
#[inline(always)]
unsafe fn products<const M: usize>(codes: &[__m512i; 8], quads: *const i32, start: [__m512i; 2]) -> [__m512i; 2] {
    let [mut low, mut high] = start;
    // SAFETY: there are eight quads, and the caller has the instructions.
    unsafe {
        for quad in 0..4 {
            low = _mm512_dpbusd_epi32(low, codes[quad], _mm512_set1_epi32(quads.add(quad).read_unaligned()));
            high = _mm512_dpbusd_epi32(high, codes[quad + 4], _mm512_set1_epi32(quads.add(quad + 4).read_unaligned()));
        }
    }
    [low, high]
}

/// The codes of a block, a quad in each register.
#[inline(always)]
unsafe fn expand<const LAYOUT: usize>(codes: *const u8) -> [__m512i; 8] {
    let layout = Layout::ALL[LAYOUT];
    // SAFETY: a block of this layout has the bytes that are read, and the caller has the instructions.
    unsafe {
        let mut quads = [_mm512_setzero_si512(); 8];
        if layout == Layout::U8 {
            for (quad, lanes) in quads.iter_mut().enumerate() {
                *lanes = line(codes, quad);
            }
            return quads;
        }
        let four = _mm512_set1_epi8(15);
        for quad in 0..4 {
            let both = line(codes, quad);
            quads[quad] = _mm512_and_si512(both, four);
            quads[quad + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), four);
        }
        match layout {
            Layout::U5 | Layout::U5Minimum => {
                let sixteen = _mm512_set1_epi8(16);
                for (quad, lanes) in quads.iter_mut().enumerate() {
                    let fifth = codes.add(256 + quad * 8).cast::<u64>().read_unaligned();
                    *lanes = _mm512_mask_add_epi8(*lanes, fifth, *lanes, sixteen);
                }
            }
            Layout::U6 => {
                let two = _mm512_set1_epi8(0x30);
                for half in 0..2 {
                    let bits = line(codes, 4 + half);
                    let quads = &mut quads[half * 4..];
                    quads[0] = _mm512_or_si512(quads[0], _mm512_and_si512(_mm512_slli_epi16::<4>(bits), two));
                    quads[1] = _mm512_or_si512(quads[1], _mm512_and_si512(_mm512_slli_epi16::<2>(bits), two));
                    quads[2] = _mm512_or_si512(quads[2], _mm512_and_si512(bits, two));
                    quads[3] = _mm512_or_si512(quads[3], _mm512_and_si512(_mm512_srli_epi16::<2>(bits), two));
                }
            }
            Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
        }
        quads
    }
}

/// 64 bytes.
#[inline(always)]
unsafe fn line(codes: *const u8, index: usize) -> __m512i {
    // SAFETY: the caller vouches for the bytes, and has the instructions.
    unsafe { _mm512_loadu_si512(codes.add(index * 64).cast()) }
}
