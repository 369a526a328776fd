//! The one door to the system: what can be done on this device, and what must be true before it is done.
//!
//! A tool is one file below [`catalogue`]: typed arguments, typed result, and a [`tool::ToolSpec`] that says what it is.

pub mod access;
pub mod approvals;
pub mod args;
mod beneath;
pub mod catalogue;
mod confined;
pub mod daemon;
pub mod error;
pub mod facts;
mod grpc;
pub mod host;
mod http;
mod init;
pub mod job;
pub mod journal;
mod kept;
mod mcp;
pub mod pipeline;
mod profile;
mod program;
mod recorder;
mod replacement;
mod server;
pub mod sessions;
mod sockets;
#[cfg(test)]
mod testing;
mod text;
mod tokens;
pub mod tool;
pub mod tree;
