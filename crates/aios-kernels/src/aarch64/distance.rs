//! Products of rows of bytes, and sums of tables' numbers chosen by four bits at a time.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::distance::{GROUP, Scanned, Sums, Table};

/// # Safety
/// Both rows have `length` numbers, a multiple of 16.
pub(crate) unsafe fn dot_neon(a: *const i8, b: *const i8, length: usize) -> i32 {
    // SAFETY: the rows have 16 numbers from each multiple of 16 below their length. Every aarch64 CPU has NEON.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 2];
        for at in (0..length).step_by(16) {
            let (a, b) = (vld1q_s8(a.add(at)), vld1q_s8(b.add(at)));
            sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            sums[1] = vpadalq_s16(sums[1], vmull_high_s8(a, b));
        }
        vaddvq_s32(vaddq_s32(sums[0], sums[1]))
    }
}

/// # Safety
/// As for [`dot_neon`], and the CPU has the dot-product instructions.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn dot_dotprod(a: *const i8, b: *const i8, length: usize) -> i32 {
    // SAFETY: the rows have 16 numbers from each multiple of 16 below their length, and the CPU has the instruction, which
    // touches its registers alone.
    unsafe {
        let mut sums = [vdupq_n_s32(0); 2];
        for at in (0..length).step_by(16) {
            let (a, b) = (vld1q_s8(a.add(at)), vld1q_s8(b.add(at)));
            asm!(
                "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
                sum = inout(vreg) sums[at / 16 % 2], a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        vaddvq_s32(vaddq_s32(sums[0], sums[1]))
    }
}

/// Asks for the cache line of `at`.
#[inline(always)]
pub(crate) fn ask(at: *const u8) {
    // SAFETY: a prefetch changes no register and reads nothing; an address that is not mapped is ignored.
    unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) };
}

/// # Safety
/// None but that of all: every aarch64 CPU has NEON.
pub(crate) unsafe fn scan_neon(scanned: Scanned<'_>) {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe { scanned.run::<Neon>() }
}

struct Neon;

impl Sums for Neon {
    #[inline(always)]
    unsafe fn sums(tables: &[Table], codes: &[u8], sums: &mut [u16; GROUP]) {
        // SAFETY: there are two columns of 64 bytes for each four tables of 16. Every aarch64 CPU has NEON.
        unsafe {
            let four = vdupq_n_u8(15);
            let mut lower = [vdupq_n_u16(0); 4];
            let mut upper = lower;
            for (number, tables) in tables.chunks_exact(4).enumerate() {
                let tables: [uint8x16_t; 4] = std::array::from_fn(|table| vld1q_u8(tables[table].as_ptr()));
                for quarter in 0..4 {
                    let from = codes.as_ptr().add(number * 2 * GROUP + quarter * 16);
                    let (first, second) = (vld1q_u8(from), vld1q_u8(from.add(GROUP)));
                    let chosen = [
                        vqtbl1q_u8(tables[0], vandq_u8(first, four)),
                        vqtbl1q_u8(tables[1], vshrq_n_u8::<4>(first)),
                        vqtbl1q_u8(tables[2], vandq_u8(second, four)),
                        vqtbl1q_u8(tables[3], vshrq_n_u8::<4>(second)),
                    ];
                    // Four numbers of at most 63 fit a byte.
                    let bytes = vaddq_u8(vaddq_u8(chosen[0], chosen[1]), vaddq_u8(chosen[2], chosen[3]));
                    lower[quarter] = vaddw_u8(lower[quarter], vget_low_u8(bytes));
                    upper[quarter] = vaddw_high_u8(upper[quarter], bytes);
                }
            }
            for quarter in 0..4 {
                vst1q_u16(sums.as_mut_ptr().add(quarter * 16), lower[quarter]);
                vst1q_u16(sums.as_mut_ptr().add(quarter * 16 + 8), upper[quarter]);
            }
        }
    }
}
