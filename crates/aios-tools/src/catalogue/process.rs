//! `process`: what runs on the device.

mod files;
#[cfg(test)]
mod fixture;
mod list;
mod pid;
mod priority;
mod proc_file;
mod show;
mod signal;
mod tree;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<files::Files>(),
    Entry::of::<list::List>(),
    Entry::of::<priority::Priority>(),
    Entry::of::<show::Show>(),
    Entry::of::<signal::Signal>(),
    Entry::of::<tree::Tree>(),
];
