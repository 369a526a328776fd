//! `pkg`: what the system is made of, whether it is what it was, and which slot of it is started.

mod list;
mod mark_bad;
mod mark_good;
mod rauc;
mod rollback;
mod sbom;
mod show;
mod slots;
mod verify;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<list::List>(),
    Entry::of::<mark_bad::MarkBad>(),
    Entry::of::<mark_good::MarkGood>(),
    Entry::of::<rollback::Rollback>(),
    Entry::of::<show::Show>(),
    Entry::of::<slots::Slots>(),
    Entry::of::<verify::Verify>(),
];
