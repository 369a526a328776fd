//! `firewall`: rules of the table `inet aios`, through `nft`. Tables of others are never touched.

mod add_rule;
mod apply;
mod confirm;
mod counters;
mod nft;
pub mod pending;
mod remove_rule;
mod revert;
mod rule;
mod show;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<add_rule::AddRule>(),
    Entry::of::<apply::Apply>(),
    Entry::of::<confirm::Confirm>(),
    Entry::of::<counters::Counters>(),
    Entry::of::<remove_rule::RemoveRule>(),
    Entry::of::<revert::Revert>(),
    Entry::of::<show::Show>(),
];
