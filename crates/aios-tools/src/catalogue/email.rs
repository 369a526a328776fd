//! `email`: mail through the server that the device's configuration names.

mod check;
mod send;
mod smtp;
#[cfg(test)]
mod tests;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[Entry::of::<check::Check>(), Entry::of::<send::Send>()];
