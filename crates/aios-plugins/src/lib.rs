//! Plugins: tools that somebody else wrote, as WebAssembly modules that see a few folders and nothing more.
//!
//! A plugin is a [`package`](package::Package) of three files: a [`manifest`](manifest::Manifest) that says which tools
//! it gives and what they may touch, a module, and the signature over both. [`call()`] runs a tool: JSON in, JSON out,
//! within limits on instructions, memory, time and output.
//!
//! The module is interpreted, so no memory has to be executable. It gets the functions of WASI preview 1 for
//! files below the folders that the call hands over; there is no function for a socket, a process or a link.

pub mod call;
pub mod manifest;
pub mod module;
pub mod name;
pub mod package;
pub mod schema;
pub mod trust;
mod wasi;

pub use call::{Call, CallError, Mount, call};
