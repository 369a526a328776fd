//! `service`: the units that PID 1 runs.

mod dependency;
mod list;
mod log;
mod restart;
mod start;
pub mod state;
mod status;
mod stop;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<list::List>(),
    Entry::of::<log::Log>(),
    Entry::of::<restart::Restart>(),
    Entry::of::<start::Start>(),
    Entry::of::<status::Status>(),
    Entry::of::<stop::Stop>(),
];
