//! All tools, by namespace. A namespace is a file that lists its tools; a tool is a file in the folder beside it.

pub mod container;
#[cfg(test)]
mod decisions;
pub mod email;
pub mod firewall;
pub mod fs;
pub mod git;
pub mod hw;
pub mod monitor;
pub mod net;
pub mod pkg;
pub mod plugin;
pub mod process;
pub mod sec;
pub mod self_;
pub mod service;
pub mod web;

use crate::tool::Entry;

/// The tools of each namespace, namespaces in the order of their names.
const NAMESPACES: [&[Entry]; 15] = [
    container::TOOLS,
    email::TOOLS,
    firewall::TOOLS,
    fs::TOOLS,
    git::TOOLS,
    hw::TOOLS,
    monitor::TOOLS,
    net::TOOLS,
    pkg::TOOLS,
    plugin::TOOLS,
    process::TOOLS,
    sec::TOOLS,
    self_::TOOLS,
    service::TOOLS,
    web::TOOLS,
];

/// All tools.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    NAMESPACES.into_iter().flatten()
}

/// The tool of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    all().find(|tool| tool.spec.name == name)
}

#[cfg(test)]
mod tests;
