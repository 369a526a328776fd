//! How fast a team reads memory: what products of one token are bound by.

use std::io;
use std::time::Instant;

use crate::arena::{Arena, Region};
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team};

/// What is summed up in registers of its own, so that no addition waits for the one before.
const SUMS: usize = 4;
/// Numbers in a step.
const STEP: usize = SUMS * LANES;
/// A piece of memory to read, as often as wanted.
#[derive(Debug)]
pub struct Bandwidth {
    isa: Isa,
    region: Region,
    steps: usize,
}

impl Bandwidth {
    /// Takes at least `bytes` bytes from where weights are taken from. Take more than fits into the caches.
    pub fn new(isa: Isa, bytes: usize) -> io::Result<Self> {
        let steps = bytes.div_ceil(STEP * size_of::<f32>());
        let length = steps * STEP * size_of::<f32>();
        let mut region = Arena::new(length)?.take(length);
        // Memory that was never written is one page of zeros.
        // SAFETY: the region has so many bytes.
        unsafe { region.as_mut_ptr().write_bytes(1, length) };
        Ok(Self { isa, region, steps })
    }

    /// Bytes per second that `team` reads of it, once, with the means that products have: asked for ahead, in vectors as
    /// long as those of the instructions.
    pub fn read(&self, team: &Team) -> f64 {
        let start = Start(self.region.as_slice().as_ptr().cast());
        let started = Instant::now();
        team.divide(self.steps, |range, _| {
            let (from, count, mut sum) = (start.at(range.start), range.len(), 0.0);
            let out = &mut sum;
            // SAFETY: an Isa exists only where the CPU has its instructions; the range is inside of the region.
            unsafe { with_simd!(self.isa, read(from: *const f32, count: usize, out: &mut f32)) };
            std::hint::black_box(sum);
        });
        self.region.as_slice().len() as f64 / started.elapsed().as_secs_f64()
    }
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
                let rate = Bandwidth::new(isa, bytes).unwrap().read(&Team::new(threads));
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
