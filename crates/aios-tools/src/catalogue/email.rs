//! `email`.

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[];
