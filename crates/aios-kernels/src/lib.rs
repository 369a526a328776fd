//! Arithmetic of transformer models on CPUs: products of quantized matrices, attention, and the small steps between them;
//! and of search among vectors: products of rows of bytes, estimates from one bit a dimension.
//!
//! ```text
//!  GGUF blocks ── Packer::pack ──▶ panels of 16 rows ──┐
//!  f32 rows ── Activations::fill ─▶ 8-bit blocks ──────┴─ matmul ──▶ f32, panel by panel
//! ```
//!
//! Matrices of 16-bit numbers, which are not quantized, are multiplied with the f32 rows themselves.
//!
//! Every operation takes an [`Isa`], which can only be had for instructions that the CPU has; so everything public here is
//! safe to call. All instruction sets compute on the same bytes.
//!
//! # Layout of values
//!
//! Between operations, the values of several tokens lie in panels of [`LANES`]. Value `panel * LANES + lane` of `token` is
//! at `(panel * tokens + token) * LANES + lane`. So a thread that computes some panels of a product writes one contiguous
//! part of it, and for one token the layout is the plain one.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a panic is how a test fails"))]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
mod arena;
mod attention;
mod bandwidth;
mod cache;
mod distance;
mod float16;
mod halves;
mod isa;
mod matmul;
mod matrix;
mod pace;
mod pack;
mod portable;
mod rope;
#[cfg(test)]
mod samples;
mod simd;
mod team;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::Activations;
pub use attention::{Attention, Sequence, attend};
pub use bandwidth::Bandwidth;
pub use cache::{Cache, Span};
pub use distance::{GROUP, Scan, TABLE_MAX, Table, ask, dot};
pub use isa::{Isa, IsaError};
pub use matmul::matmul;
pub use matrix::{Format, Matrix, PackError, Packer, Shape};
pub use rope::Rope;
pub use team::Team;
pub use vector::{add, add_bias, add_norm, gather, geglu, norm_heads, rms_norm, scatter, swiglu};

/// Rows of a matrix that are computed together, one in each lane.
pub const LANES: usize = 16;

/// Values of a row that share a scale.
pub const BLOCK: usize = 32;
