//! `self`: this system as a whole.

mod config;
mod health;
mod hostname;
mod kernel_log;
mod poweroff;
mod reboot;
mod set_config;
pub(in crate::catalogue) mod settings;
mod tools;
mod version;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<config::Config>(),
    Entry::of::<health::Health>(),
    Entry::of::<hostname::Hostname>(),
    Entry::of::<kernel_log::KernelLog>(),
    Entry::of::<poweroff::Poweroff>(),
    Entry::of::<reboot::Reboot>(),
    Entry::of::<set_config::SetConfig>(),
    Entry::of::<tools::Tools>(),
    Entry::of::<version::Version>(),
];
