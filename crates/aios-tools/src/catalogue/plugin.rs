//! `plugin`: tools that somebody else wrote, as WebAssembly modules (docs/plugins.md).

mod call;
mod call_high;
mod handed;
mod install;
mod installed;
mod list;
mod package;
mod remove;
mod show;
#[cfg(test)]
mod tests;
mod verify;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<call::Call>(),
    Entry::of::<call_high::CallHigh>(),
    Entry::of::<install::Install>(),
    Entry::of::<list::List>(),
    Entry::of::<remove::Remove>(),
    Entry::of::<show::Show>(),
    Entry::of::<verify::Verify>(),
];
