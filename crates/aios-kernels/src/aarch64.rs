//! 64-bit Arm.

mod neon;

pub(crate) use neon::{Neon, panel as panel_neon, panel_dotprod, panel_i8mm};
