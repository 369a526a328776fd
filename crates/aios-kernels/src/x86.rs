//! x86-64.

mod avx2;
mod avx512;
mod distance;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::matmul::Panel;
use crate::matrix::Layout;

pub(crate) use avx2::{Avx2, panel as panel_avx2, panel_vnni as panel_avxvnni};
pub(crate) use avx512::{Avx512, panel as panel_avx512};
pub(crate) use distance::{dot_avx2, dot_avx512, dot_avxvnni, scan_avx2, scan_avx512};

/// How far ahead of their use weights are asked for, in bytes. The CPU's own prefetching ends with each page; measured, a
/// product of one token is more than twice as fast with this.
const AHEAD: usize = 8 << 10;

/// Asks for what is read a while after this block: in the same panel, or in the one behind it. Past the end of the last one
/// it does nothing.
#[inline(always)]
fn prefetch(layout: Layout, panel: Panel, block: usize) {
    let bytes = layout.number_bytes() + layout.code_bytes();
    let from = panel.numbers.wrapping_add(block * bytes);
    for line in 0..bytes.div_ceil(64) {
        ask_ahead(from.wrapping_add(line * 64));
    }
}

#[inline(always)]
fn ask_ahead(from: *const u8) {
    ask(from.wrapping_add(AHEAD));
}

#[inline(always)]
pub(crate) fn ask(at: *const u8) {
    // SAFETY: a prefetch reads nothing; an address that is not mapped is ignored. All x86-64 CPUs have it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}
