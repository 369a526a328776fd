//! Products of rows of bytes, and sums of tables' numbers chosen by four bits at a time.

use std::arch::x86_64::*;

use crate::distance::{GROUP, Scanned, Sums, Table};

/// # Safety
/// The CPU has the instructions; both rows have `length` numbers, a multiple of 16.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn dot_avx2(a: *const i8, b: *const i8, length: usize) -> i32 {
    // SAFETY: the rows have 16 numbers from each multiple of 16 below their length.
    unsafe {
        let mut sums = [_mm256_setzero_si256(); 2];
        for at in (0..length).step_by(16) {
            let sum = &mut sums[at / 16 % 2];
            *sum = _mm256_add_epi32(*sum, sixteen(a.add(at), b.add(at)));
        }
        fold(_mm256_add_epi32(sums[0], sums[1]))
    }
}

/// # Safety
/// As for [`dot_avx2`], and the CPU has AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) unsafe fn dot_avxvnni(a: *const i8, b: *const i8, length: usize) -> i32 {
    // SAFETY: the rows have 32 numbers from each multiple of 32 but the last, from which they have 16 at least.
    unsafe {
        // One factor is unsigned: 128 is added to it, and 128 times the other one is taken away again.
        let [mut sums, mut more] = [_mm256_setzero_si256(); 2];
        let middle = _mm256_set1_epi8(-128);
        let whole = length / 32 * 32;
        for at in (0..whole).step_by(32) {
            let (a, b) = (_mm256_loadu_si256(a.add(at).cast()), _mm256_loadu_si256(b.add(at).cast()));
            sums = _mm256_dpbusd_avx_epi32(sums, _mm256_xor_si256(a, middle), b);
            more = _mm256_dpbusd_avx_epi32(more, middle, b);
        }
        sums = _mm256_sub_epi32(sums, more);
        if whole < length {
            sums = _mm256_add_epi32(sums, sixteen(a.add(whole), b.add(whole)));
        }
        fold(sums)
    }
}

/// # Safety
/// As for [`dot_avx2`], and the CPU has AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn dot_avx512(a: *const i8, b: *const i8, length: usize) -> i32 {
    // SAFETY: the rows have 64 numbers from each multiple of 64 but the last, where only those that there are are read.
    unsafe {
        let [mut sums, mut more] = [_mm512_setzero_si512(); 2];
        let middle = _mm512_set1_epi8(-128);
        let whole = length / 64 * 64;
        for at in (0..whole).step_by(64) {
            let (a, b) = (_mm512_loadu_si512(a.add(at).cast()), _mm512_loadu_si512(b.add(at).cast()));
            sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(a, middle), b);
            more = _mm512_dpbusd_epi32(more, middle, b);
        }
        if whole < length {
            let rest = (1 << (length - whole)) - 1;
            let a = _mm512_maskz_loadu_epi8(rest, a.add(whole));
            let b = _mm512_maskz_loadu_epi8(rest, b.add(whole));
            sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(a, middle), b);
            more = _mm512_dpbusd_epi32(more, middle, b);
        }
        _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, more))
    }
}

/// The products of 16 numbers, two added up in each 32 bits.
#[inline(always)]
unsafe fn sixteen(a: *const i8, b: *const i8) -> __m256i {
    // SAFETY: the caller vouches for 16 numbers, and has the instructions.
    unsafe {
        _mm256_madd_epi16(
            _mm256_cvtepi8_epi16(_mm_loadu_si128(a.cast())),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast())),
        )
    }
}

#[inline(always)]
unsafe fn fold(sums: __m256i) -> i32 {
    // SAFETY: the caller has the instructions.
    unsafe {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
}

/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn scan_avx2(scanned: Scanned<'_>) {
    // SAFETY: the instructions are enabled here.
    unsafe { scanned.run::<Avx2>() }
}

/// # Safety
/// The CPU has AVX2, and AVX-512 F and BW.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
pub(crate) unsafe fn scan_avx512(scanned: Scanned<'_>) {
    // SAFETY: the instructions are enabled here.
    unsafe { scanned.run::<Avx512>() }
}

struct Avx2;

impl Sums for Avx2 {
    #[inline(always)]
    unsafe fn sums(tables: &[Table], codes: &[u8], sums: &mut [u16; GROUP]) {
        // SAFETY: there are two columns of 64 bytes for each four tables of 16, and the caller has the instructions.
        unsafe {
            let four = _mm256_set1_epi8(15);
            let mut even = [_mm256_setzero_si256(); 2];
            let mut odd = even;
            for (number, tables) in tables.chunks_exact(4).enumerate() {
                let tables = tables.as_ptr();
                let tables = [
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.add(1).cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.add(2).cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(tables.add(3).cast())),
                ];
                for half in 0..2 {
                    let from = codes.as_ptr().add(number * 2 * GROUP + half * 32);
                    let first = _mm256_loadu_si256(from.cast());
                    let second = _mm256_loadu_si256(from.add(GROUP).cast());
                    let chosen = [
                        _mm256_shuffle_epi8(tables[0], _mm256_and_si256(first, four)),
                        _mm256_shuffle_epi8(tables[1], _mm256_and_si256(_mm256_srli_epi16::<4>(first), four)),
                        _mm256_shuffle_epi8(tables[2], _mm256_and_si256(second, four)),
                        _mm256_shuffle_epi8(tables[3], _mm256_and_si256(_mm256_srli_epi16::<4>(second), four)),
                    ];
                    // Four numbers of at most 63 fit a byte.
                    let bytes =
                        _mm256_add_epi8(_mm256_add_epi8(chosen[0], chosen[1]), _mm256_add_epi8(chosen[2], chosen[3]));
                    // Of each two bytes the lower one and 256 times the upper one, which is taken away at the end.
                    even[half] = _mm256_add_epi16(even[half], bytes);
                    odd[half] = _mm256_add_epi16(odd[half], _mm256_srli_epi16::<8>(bytes));
                }
            }
            for half in 0..2 {
                even[half] = _mm256_sub_epi16(even[half], _mm256_slli_epi16::<8>(odd[half]));
                let lower = _mm256_unpacklo_epi16(even[half], odd[half]);
                let upper = _mm256_unpackhi_epi16(even[half], odd[half]);
                let to = sums.as_mut_ptr().add(half * 32);
                _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(lower, upper));
                _mm256_storeu_si256(to.add(16).cast(), _mm256_permute2x128_si256::<0x31>(lower, upper));
            }
        }
    }

    #[inline(always)]
    unsafe fn estimates(
        sums: &[u16; GROUP],
        factors: &[f32; GROUP],
        slope: f32,
        offset: f32,
        estimates: &mut [f32; GROUP],
    ) -> f32 {
        // SAFETY: all arrays have 64 numbers, and the caller has the instructions.
        unsafe {
            let (slope, offset) = (_mm256_set1_ps(slope), _mm256_set1_ps(offset));
            let mut most = _mm256_set1_ps(f32::NEG_INFINITY);
            for at in (0..GROUP).step_by(8) {
                let sums = _mm256_cvtepu16_epi32(_mm_loadu_si128(sums.as_ptr().add(at).cast()));
                let whole = _mm256_add_ps(_mm256_mul_ps(slope, _mm256_cvtepi32_ps(sums)), offset);
                let estimate = _mm256_mul_ps(_mm256_loadu_ps(factors.as_ptr().add(at)), whole);
                _mm256_storeu_ps(estimates.as_mut_ptr().add(at), estimate);
                // Where the first is no number, it is the second.
                most = _mm256_max_ps(estimate, most);
            }
            let four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps::<1>(most));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

struct Avx512;

impl Sums for Avx512 {
    #[inline(always)]
    unsafe fn sums(tables: &[Table], codes: &[u8], sums: &mut [u16; GROUP]) {
        // SAFETY: there are two columns of 64 bytes for each four tables of 16, and the caller has the instructions.
        unsafe {
            let four = _mm512_set1_epi8(15);
            let [mut even, mut odd] = [_mm512_setzero_si512(); 2];
            for (number, tables) in tables.chunks_exact(4).enumerate() {
                let tables = tables.as_ptr();
                let tables = [
                    _mm512_broadcast_i32x4(_mm_loadu_si128(tables.cast())),
                    _mm512_broadcast_i32x4(_mm_loadu_si128(tables.add(1).cast())),
                    _mm512_broadcast_i32x4(_mm_loadu_si128(tables.add(2).cast())),
                    _mm512_broadcast_i32x4(_mm_loadu_si128(tables.add(3).cast())),
                ];
                let from = codes.as_ptr().add(number * 2 * GROUP);
                let first = _mm512_loadu_si512(from.cast());
                let second = _mm512_loadu_si512(from.add(GROUP).cast());
                let chosen = [
                    _mm512_shuffle_epi8(tables[0], _mm512_and_si512(first, four)),
                    _mm512_shuffle_epi8(tables[1], _mm512_and_si512(_mm512_srli_epi16::<4>(first), four)),
                    _mm512_shuffle_epi8(tables[2], _mm512_and_si512(second, four)),
                    _mm512_shuffle_epi8(tables[3], _mm512_and_si512(_mm512_srli_epi16::<4>(second), four)),
                ];
                // Four numbers of at most 63 fit a byte.
                let bytes =
                    _mm512_add_epi8(_mm512_add_epi8(chosen[0], chosen[1]), _mm512_add_epi8(chosen[2], chosen[3]));
                // Of each two bytes the lower one and 256 times the upper one, which is taken away at the end.
                even = _mm512_add_epi16(even, bytes);
                odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(bytes));
            }
            even = _mm512_sub_epi16(even, _mm512_slli_epi16::<8>(odd));
            // Each quarter of the registers has the sums of 16 vectors, first those of the lower eight.
            let lower = _mm512_unpacklo_epi16(even, odd);
            let upper = _mm512_unpackhi_epi16(even, odd);
            let first = _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), upper);
            let second = _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), upper);
            _mm512_storeu_si512(sums.as_mut_ptr().cast(), first);
            _mm512_storeu_si512(sums.as_mut_ptr().add(32).cast(), second);
        }
    }

    #[inline(always)]
    unsafe fn estimates(
        sums: &[u16; GROUP],
        factors: &[f32; GROUP],
        slope: f32,
        offset: f32,
        estimates: &mut [f32; GROUP],
    ) -> f32 {
        // SAFETY: all arrays have 64 numbers, and the caller has the instructions.
        unsafe {
            let (slope, offset) = (_mm512_set1_ps(slope), _mm512_set1_ps(offset));
            let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
            for at in (0..GROUP).step_by(16) {
                let sums = _mm512_cvtepu16_epi32(_mm256_loadu_si256(sums.as_ptr().add(at).cast()));
                let whole = _mm512_add_ps(_mm512_mul_ps(slope, _mm512_cvtepi32_ps(sums)), offset);
                let estimate = _mm512_mul_ps(_mm512_loadu_ps(factors.as_ptr().add(at)), whole);
                _mm512_storeu_ps(estimates.as_mut_ptr().add(at), estimate);
                // Where the first is no number, it is the second.
                most = _mm512_max_ps(estimate, most);
            }
            _mm512_reduce_max_ps(most)
        }
    }
}
