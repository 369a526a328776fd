//! `container`: containers of podman, through its service.

mod images;
mod list;
mod logs;
mod podman;
mod remove;
mod run;
mod stop;
#[cfg(test)]
mod tests;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<images::Images>(),
    Entry::of::<list::List>(),
    Entry::of::<logs::Logs>(),
    Entry::of::<remove::Remove>(),
    Entry::of::<run::Run>(),
    Entry::of::<stop::Stop>(),
];
