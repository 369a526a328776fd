//! How the memory service finds things again, and how it fills a prompt with them.
//!
//! - [`context`]: which pieces of memory go into a prompt that has room for so many tokens.
//! - [`text`]: full-text search in the tables of the caller's database.
//! - [`pattern`]: a chain of tools that succeeded, for the same goal said in other words.
//! - [`fuse`]: one ranking of what vectors and words found.
//!
//! Nothing here knows a socket, a clock or a model: what a vector is near to, how many tokens a text has and what time it
//! is are told by the caller. docs/recall.md has every formula, weight and threshold, with its source.

#![forbid(unsafe_code)]

pub mod context;
pub mod fuse;
pub mod pattern;
pub mod text;
