//! What lies at a path, with all below it: taken down, compared, and brought back.
//!
//! Every step goes by the open folder above it and follows no symbolic link, so that somebody who moves things about
//! meanwhile can't lead it elsewhere.

mod bring_back;
mod node;
mod take_down;
mod way;

pub use bring_back::bring_back;
pub use node::{Attributes, Blobs, Name, Node};
pub use take_down::{Keep, Limits, take_down};
pub use way::{Entry, TreeError};

#[cfg(test)]
mod tests;
