//! Sixteen numbers at a time, in whichever registers there are: what attention and the steps between products are
//! written in, once for all instruction sets.

/// Vector operations on [`LANES`](crate::LANES) numbers.
///
/// # Safety
/// All of them may only be called where the CPU has the instructions of the implementation, inlined into a function that
/// enables these; pointers must be valid for what is read or written through them. They need no alignment.
pub(crate) trait Simd {
    type Lanes: Copy;

    /// Whether there are registers for twenty times all lanes.
    const MANY: bool = false;

    unsafe fn splat(value: f32) -> Self::Lanes;
    unsafe fn load(from: *const f32) -> Self::Lanes;
    unsafe fn store(to: *mut f32, lanes: Self::Lanes);
    /// Half-precision numbers.
    unsafe fn load_half(from: *const u16) -> Self::Lanes;
    /// To half-precision numbers, ties to even.
    #[inline(always)]
    unsafe fn store_half(to: *mut u16, lanes: Self::Lanes) {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { to.cast::<[u16; 16]>().write_unaligned(Self::to_array(lanes).map(crate::float16::from_f32)) }
    }
    /// The upper halves of single-precision numbers (bfloat16).
    unsafe fn load_upper(from: *const u16) -> Self::Lanes;
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn sub(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn mul(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn div(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn max(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn min(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a * b + c`.
    unsafe fn fma(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// The bits of each number moved 23 places to the left: its low bits become an exponent.
    unsafe fn into_exponent(lanes: Self::Lanes) -> Self::Lanes;
    /// Neighbours exchanged: lane `i` has what lane `i ^ 1` had.
    unsafe fn swap_pairs(lanes: Self::Lanes) -> Self::Lanes;

    /// Asks for the cache line of `at`, which may lie outside of what there is.
    #[inline(always)]
    fn ask(_at: *const u16) {}

    /// Asks for the cache line of what is read a while after `from`, which may be the end of what there is.
    #[inline(always)]
    fn ask_ahead(_from: *const u16) {}

    #[inline(always)]
    unsafe fn to_array(lanes: Self::Lanes) -> [f32; 16] {
        let mut array = [0.0; 16];
        // SAFETY: the caller keeps the trait's contract, and the array has room for all lanes.
        unsafe { Self::store(array.as_mut_ptr(), lanes) };
        array
    }

    /// The number in the first lane.
    #[inline(always)]
    unsafe fn first(lanes: Self::Lanes) -> f32 {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { Self::to_array(lanes)[0] }
    }

    #[inline(always)]
    unsafe fn sum(lanes: Self::Lanes) -> f32 {
        // SAFETY: the caller keeps the trait's contract.
        let array = unsafe { Self::to_array(lanes) };
        let eight: [f32; 8] = std::array::from_fn(|lane| array[lane] + array[lane + 8]);
        let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }

    #[inline(always)]
    unsafe fn largest(lanes: Self::Lanes) -> f32 {
        // SAFETY: the caller keeps the trait's contract.
        let array = unsafe { Self::to_array(lanes) };
        let eight: [f32; 8] = std::array::from_fn(|lane| array[lane].max(array[lane + 8]));
        let four: [f32; 4] = std::array::from_fn(|lane| eight[lane].max(eight[lane + 4]));
        four[0].max(four[2]).max(four[1].max(four[3]))
    }

    /// Writes the low bytes of the numbers' bits, and sums them up as signed ones.
    #[inline(always)]
    unsafe fn store_low_bytes(to: *mut i8, lanes: Self::Lanes) -> i32 {
        // SAFETY: the caller keeps the trait's contract.
        unsafe {
            let bytes = Self::to_array(lanes).map(|value| value.to_bits() as i8);
            to.cast::<[i8; 16]>().write_unaligned(bytes);
            bytes.iter().map(|byte| i32::from(*byte)).sum()
        }
    }

    /// `e` to the power of each number, between the smallest and the largest normal number; relative error below 2e-7.
    #[inline(always)]
    unsafe fn exp(lanes: Self::Lanes) -> Self::Lanes {
        // Adding this to a number of moderate size rounds it to a whole one, whose sum with 127 is in the low bits then.
        const ROUND: f32 = 12_582_912.0 + 127.0;
        // ln 2 in two parts, the first with few bits, so that its multiples are exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // SAFETY: the caller keeps the trait's contract.
        unsafe {
            let x = Self::max(Self::min(lanes, Self::splat(88.0)), Self::splat(-87.0));
            let shifted = Self::fma(x, Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND));
            let whole = Self::sub(shifted, Self::splat(ROUND));
            let rest = Self::fma(whole, Self::splat(-LN2_HIGH), x);
            let rest = Self::fma(whole, Self::splat(-LN2_LOW), rest);
            let mut sum = Self::splat(1.0 / 720.0);
            for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                sum = Self::fma(sum, rest, Self::splat(coefficient));
            }
            Self::mul(sum, Self::into_exponent(shifted))
        }
    }
}

/// Plain arrays.
pub(crate) struct Portable;

impl Simd for Portable {
    type Lanes = [f32; 16];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Lanes {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Lanes {
        // SAFETY: the caller vouches for 16 numbers.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: Self::Lanes) {
        // SAFETY: the caller vouches for 16 numbers.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(lanes) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self::Lanes {
        // SAFETY: the caller vouches for 16 numbers.
        unsafe { from.cast::<[u16; 16]>().read_unaligned() }.map(crate::float16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self::Lanes {
        // SAFETY: the caller vouches for 16 numbers.
        unsafe { from.cast::<[u16; 16]>().read_unaligned() }.map(crate::float16::from_upper)
    }
    #[inline(always)]
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }
    #[inline(always)]
    unsafe fn div(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] / b[lane])
    }
    #[inline(always)]
    unsafe fn max(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn into_exponent(lanes: Self::Lanes) -> Self::Lanes {
        lanes.map(|value| f32::from_bits(value.to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn swap_pairs(lanes: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| lanes[lane ^ 1])
    }
}

/// Calls `$body::<S>($arguments)` with the [`Simd`] of `$isa`, inside a function that enables its instructions.
macro_rules! with_simd {
    ($isa:expr, $body:ident($($argument:ident: $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2($($argument: $type),*) {
            // SAFETY: the instructions are enabled here; the caller answers for the rest.
            unsafe { $body::<$crate::x86::Avx2>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn avx512($($argument: $type),*) {
            // SAFETY: as above.
            unsafe { $body::<$crate::x86::Avx512>($($argument),*) }
        }
        match $isa.kind() {
            $crate::isa::Kind::Portable => $body::<$crate::simd::Portable>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Kind::Avx2 | $crate::isa::Kind::AvxVnni => avx2($($argument),*),
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Kind::Avx512 => avx512($($argument),*),
            #[cfg(target_arch = "aarch64")]
            $crate::isa::Kind::Neon | $crate::isa::Kind::Dotprod | $crate::isa::Kind::I8mm => {
                $body::<$crate::aarch64::Neon>($($argument),*)
            }
        }
    }};
}
pub(crate) use with_simd;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[inline(always)]
    unsafe fn exponentials<S: Simd>(values: &mut [f32; 16]) {
        // SAFETY: the array has 16 numbers, and the caller enables the instructions.
        unsafe { S::store(values.as_mut_ptr(), S::exp(S::load(values.as_ptr()))) }
    }

    struct Folded {
        sum: f32,
        largest: f32,
        first: f32,
        bytes: [i8; 16],
        byte_sum: i32,
    }

    #[inline(always)]
    unsafe fn fold<S: Simd>(values: &[f32; 16], out: &mut Folded) {
        // SAFETY: the array has 16 numbers, and the caller enables the instructions.
        unsafe {
            let lanes = S::load(values.as_ptr());
            (out.sum, out.largest, out.first) = (S::sum(lanes), S::largest(lanes), S::first(lanes));
            out.byte_sum = S::store_low_bytes(out.bytes.as_mut_ptr(), lanes);
        }
    }

    #[test]
    fn lanes_are_folded_to_the_same_bits_everywhere() {
        let folded = |isa: Isa, values: &[f32; 16]| {
            let mut out = Folded { sum: 0.0, largest: 0.0, first: 0.0, bytes: [0; 16], byte_sum: 0 };
            let folded = &mut out;
            // SAFETY: the set is available.
            unsafe { with_simd!(isa, fold(values: &[f32; 16], folded: &mut Folded)) };
            let Folded { sum, largest, first, bytes, byte_sum } = out;
            assert_eq!(byte_sum, bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>(), "{isa}");
            (sum.to_bits(), largest.to_bits(), first.to_bits(), bytes)
        };
        for step in 1..200 {
            let values =
                std::array::from_fn(|lane| ((step * 16 + lane) as f32 * 0.7).sin() * ((lane + 1) * step) as f32);
            let found: Vec<_> = Isa::available().into_iter().map(|isa| folded(isa, &values)).collect();
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}: {found:?}");
        }
    }

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for isa in Isa::available() {
            for step in -870i32..880 {
                let mut values: [f32; 16] = std::array::from_fn(|lane| step as f32 / 10.0 + lane as f32 / 173.0);
                let expected = values.map(|value| f64::from(value.min(88.0)).exp());
                let lanes = &mut values;
                // SAFETY: the set is available.
                unsafe { with_simd!(isa, exponentials(lanes: &mut [f32; 16])) };
                for (value, expected) in values.iter().zip(expected) {
                    assert!(
                        (f64::from(*value) / expected - 1.0).abs() < 3e-7,
                        "{}: {value} and {expected}",
                        isa.name()
                    );
                }
            }
        }
    }
}
