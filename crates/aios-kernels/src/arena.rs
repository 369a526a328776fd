//! Memory for what stays: one mapping that many matrices share, on huge pages where the system gives them.
//!
//! A product of one token reads every weight once, so it needs a new page every 4 KiB; with pages of 2 MiB the walks
//! through the page tables vanish. Matrices of small models are smaller than such a page: so they share them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{Advice, MmapMut, MmapRaw};

/// What regions start at: a cache line, so that a vector of 64 bytes lies in one.
const LINE: usize = 64;

/// The size of a huge page on x86-64, and with pages of 4 KiB on arm64.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that is handed out once, region by region, and given back with the last of them.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: Arc<Memory>,
    used: AtomicUsize,
}

#[derive(Debug)]
struct Memory {
    map: MmapRaw,
    /// Where the first huge page begins.
    start: usize,
    length: usize,
}

/// Bytes that belong to their holder alone, zero at first.
#[derive(Debug)]
pub(crate) struct Region {
    memory: Arc<Memory>,
    start: usize,
    length: usize,
}

impl Arena {
    /// Room for regions that take `length` bytes together, each rounded up to whole lines. The system gives the memory as
    /// it is first written.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let map = MmapRaw::from(MmapMut::map_anon(length.max(1).next_multiple_of(HUGE_PAGE) + HUGE_PAGE)?);
        let start = map.as_ptr().align_offset(HUGE_PAGE);
        // A system without huge pages refuses; then there are small ones.
        let _ = map.advise(Advice::HugePage);
        Ok(Self { memory: Arc::new(Memory { map, start, length }), used: AtomicUsize::new(0) })
    }

    /// What a region of `length` bytes takes of an arena.
    pub(crate) fn room(length: usize) -> usize {
        length.next_multiple_of(LINE)
    }

    /// The next `length` bytes.
    ///
    /// # Panics
    /// Where there are not so many left.
    pub(crate) fn take(&self, length: usize) -> Region {
        let start = self.used.fetch_add(Self::room(length), Ordering::Relaxed);
        let end = start.checked_add(length).expect("fewer than 2^64 bytes");
        assert!(end <= self.memory.length, "bytes {start} to {end} of an arena of {}", self.memory.length);
        Region { memory: Arc::clone(&self.memory), start: self.memory.start + start, length }
    }
}

impl Region {
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping holds these bytes as long as it lives (`take` compared them with its length), and they were
        // handed out to this region alone, whose owner can't change them while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.memory.map.as_ptr().add(self.start), self.length) }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: as above: it stays inside the mapping.
        unsafe { self.memory.map.as_mut_ptr().add(self.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_lines_of_their_own_and_outlive_their_arena() {
        let arena = Arena::new(64 + 128 + 64).unwrap();
        let mut regions: Vec<Region> = [1, 100, 64].map(|length| arena.take(length)).into();
        drop(arena);
        for (index, region) in regions.iter_mut().enumerate() {
            assert_eq!(region.as_mut_ptr() as usize % 64, 0);
            assert!(region.as_slice().iter().all(|byte| *byte == 0));
            // SAFETY: the region has a first byte.
            unsafe { region.as_mut_ptr().write(index as u8 + 1) };
        }
        assert_eq!(regions.iter().map(|region| region.as_slice()[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(regions.iter().map(|region| region.as_slice().len()).collect::<Vec<_>>(), [1, 100, 64]);
    }

    #[test]
    #[should_panic = "bytes 64 to 65 of an arena of 64"]
    fn there_is_no_more_than_was_asked_for() {
        let arena = Arena::new(64).unwrap();
        arena.take(1);
        arena.take(1);
    }
}
