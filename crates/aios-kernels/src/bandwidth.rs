//! How fast a team reads memory: what products of one token are bound by.

use std::io;
use std::time::Instant;

use crate::arena::Arena;
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team};

/// What is summed up in registers of its own, so that no addition waits for the one before.
const SUMS: usize = 4;
/// Numbers in a step.
const STEP: usize = SUMS * LANES;
/// Passes, of which the fastest counts: a pass that something else held up says nothing about memory.
const PASSES: usize = 10;

/// Bytes per second that `team` reads of a piece of memory, at least `bytes` long, with the means that products have: memory
/// from the same source, asked for ahead, and vectors as long as those of `isa`. Take more than fits into the caches.
pub fn read_bandwidth(isa: Isa, team: &Team, bytes: usize) -> io::Result<f64> {
    let steps = bytes.div_ceil(STEP * size_of::<f32>());
    let length = steps * STEP * size_of::<f32>();
    let mut region = Arena::new(length)?.take(length);
    // Memory that was never written is one page of zeros.
    // SAFETY: the region has so many bytes.
    unsafe { region.as_mut_ptr().write_bytes(1, length) };
    let numbers = region.as_slice().as_ptr().cast::<f32>();
    let start = Start(numbers);
    let mut fastest = f64::INFINITY;
    for _ in 0..PASSES {
        let started = Instant::now();
        team.divide(steps, |range, _| {
            let (from, count, mut sum) = (start.at(range.start), range.len(), 0.0);
            let out = &mut sum;
            // SAFETY: an Isa exists only where the CPU has its instructions; the range is inside of the region.
            unsafe { with_simd!(isa, read(from: *const f32, count: usize, out: &mut f32)) };
            std::hint::black_box(sum);
        });
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    Ok(length as f64 / fastest)
}

/// The region's first number, for all threads.
struct Start(*const f32);

// SAFETY: while it is used, nobody writes to the region.
unsafe impl Sync for Start {}

impl Start {
    /// Where a step begins.
    fn at(&self, step: usize) -> *const f32 {
        self.0.wrapping_add(step * STEP)
    }
}

/// # Safety
/// The instructions of `S` are enabled, and there are `steps` steps behind `from`.
#[inline(always)]
unsafe fn read<S: Simd>(from: *const f32, steps: usize, out: &mut f32) {
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [S::splat(0.0); SUMS];
        for step in 0..steps {
            for (index, sum) in sums.iter_mut().enumerate() {
                let at = from.add(step * STEP + index * LANES);
                S::ask_ahead(at.cast());
                *sum = S::add(*sum, S::load(at));
            }
        }
        *out = sums.into_iter().map(|sum| S::sum(sum)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_instructions_reads_all_of_it() {
        for isa in Isa::available() {
            for (threads, bytes) in [(1, 1), (2, 1 << 20)] {
                let rate = read_bandwidth(isa, &Team::new(threads), bytes).unwrap();
                assert!(rate.is_finite() && rate > 0.0, "{isa}, {threads} threads, {bytes} bytes: {rate}");
            }
            let numbers: Vec<f32> = (0..STEP as u16 * 3).map(f32::from).collect();
            let (from, steps, mut sum) = (numbers.as_ptr(), 3, 0.0);
            let out = &mut sum;
            // SAFETY: the set is available, and there are three steps of numbers.
            unsafe { with_simd!(isa, read(from: *const f32, steps: usize, out: &mut f32)) };
            assert_eq!(sum, numbers.iter().sum::<f32>());
        }
    }
}
