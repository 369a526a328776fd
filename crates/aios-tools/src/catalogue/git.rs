//! `git`: repositories, by a library that runs no program: no hook, filter, pager, helper or file system monitor.

mod branches;
mod changes;
mod clone;
mod commit;
mod diff;
mod init;
mod log;
mod patch;
mod remote;
mod repository;
mod show;
mod status;

#[cfg(test)]
mod testing;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<branches::Branches>(),
    Entry::of::<clone::Clone>(),
    Entry::of::<commit::Commit>(),
    Entry::of::<diff::Diff>(),
    Entry::of::<init::Init>(),
    Entry::of::<log::Log>(),
    Entry::of::<show::Show>(),
    Entry::of::<status::Status>(),
];
