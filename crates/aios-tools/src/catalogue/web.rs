//! `web`: pages and files of web servers.

mod download;
mod fetch;
mod head;
mod page;
mod post;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<download::Download>(),
    Entry::of::<fetch::Fetch>(),
    Entry::of::<head::Head>(),
    Entry::of::<post::Post>(),
];
