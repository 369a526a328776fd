//! Nearest neighbours among text embeddings, kept in the database of the items that they belong to.
//!
//! ```text
//!  insert, remove ─▶ Batch ── finish: rows and links, in the caller's transaction ─▶ Staged
//!                                                     caller commits, then publish ─▶ Index (memory) ─▶ search
//! ```
//!
//! The tables (docs/formats/vectors.md draws them) are all that lasts. What is in memory is read from them by
//! [`Index::open`], so there is nothing to rebuild after a crash: a vector is there exactly when its item is.
//!
//! # How a search goes
//!
//! Vectors are rounded to eight bits a dimension. Among few of them, all are estimated from one bit a dimension, and those
//! that can be among the nearest by their estimate are computed. Beyond [`Options::graph_from`] vectors a graph of neighbours
//! (HNSW) is built, a few vectors in each batch that [asks for it](Batch::link); searches use it from when it is complete,
//! and compute what has come since and is not in it yet.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a panic is how a test fails"))]

mod batch;
mod codes;
mod error;
mod flat;
mod graph;
mod index;
mod load;
mod nearest;
mod quantize;
mod rows;
mod state;
mod store;
mod tables;

pub use batch::{Batch, Staged};
pub use error::{BatchError, OpenError, PublishError, VectorError};
pub use index::{Hit, Index, Options, Stats};
pub use tables::{clear, copy};
