//! `fs`: files and folders.

mod read;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[Entry::of::<read::Read>()];
