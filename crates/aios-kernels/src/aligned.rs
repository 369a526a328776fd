//! Memory that starts at a cache line.

/// Bytes whose address is a multiple of 64, so that a vector of 64 bytes lies in one cache line.
#[derive(Clone, Default)]
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

impl AlignedBytes {
    /// Zeros; `length` is rounded up to whole lines.
    pub(crate) fn zeroed(length: usize) -> Self {
        Self { lines: vec![Line([0; LINE]); length.div_ceil(LINE)] }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: a Line is 64 bytes without padding (repr(C) of a byte array whose size is its alignment), and the vector
        // holds `lines.len()` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * LINE) }
    }
}
