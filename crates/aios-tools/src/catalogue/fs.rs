//! `fs`: files and folders. Links are never followed (`beneath.rs`).

mod chmod;
mod chown;
mod copy;
mod delete;
pub(in crate::catalogue) mod duplicate;
mod edit;
mod find;
mod glob;
pub(in crate::catalogue) mod hash;
mod list;
mod mkdir;
mod mode;
mod move_;
mod read;
pub(in crate::catalogue) mod remove;
mod search;
pub(in crate::catalogue) mod stat;
mod symlink;
mod tail;
mod transfer;
mod usage;
mod walk;
mod write;

#[cfg(test)]
pub(in crate::catalogue) mod testing;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<chmod::Chmod>(),
    Entry::of::<chown::Chown>(),
    Entry::of::<copy::Copy>(),
    Entry::of::<delete::Delete>(),
    Entry::of::<edit::Edit>(),
    Entry::of::<find::Find>(),
    Entry::of::<hash::Hash>(),
    Entry::of::<list::List>(),
    Entry::of::<mkdir::Mkdir>(),
    Entry::of::<move_::Move>(),
    Entry::of::<read::Read>(),
    Entry::of::<search::Search>(),
    Entry::of::<stat::Stat>(),
    Entry::of::<symlink::Symlink>(),
    Entry::of::<tail::Tail>(),
    Entry::of::<usage::Usage>(),
    Entry::of::<write::Write>(),
];
