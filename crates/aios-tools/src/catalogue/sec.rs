//! `sec`: what is open, what has changed, and who may do what on this device.

mod baseline;
mod check_baseline;
mod files;
mod integrity;
mod listeners;
mod privileges;
mod snapshot;
mod suid;
mod users;
mod world_writable;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<baseline::Baseline>(),
    Entry::of::<check_baseline::CheckBaseline>(),
    Entry::of::<integrity::Integrity>(),
    Entry::of::<listeners::Listeners>(),
    Entry::of::<privileges::Privileges>(),
    Entry::of::<suid::Suid>(),
    Entry::of::<users::Users>(),
    Entry::of::<world_writable::WorldWritable>(),
];
