//! x86-64.

mod avx2;
mod avx512;

pub(crate) use avx2::{Avx2, panel as panel_avx2};
pub(crate) use avx512::{Avx512, panel as panel_avx512};
