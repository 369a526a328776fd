//! 64-bit Arm.

mod distance;
mod neon;

pub(crate) use distance::{ask, dot_dotprod, dot_neon, scan_neon};
pub(crate) use neon::{Neon, panel as panel_neon, panel_dotprod, panel_i8mm};
