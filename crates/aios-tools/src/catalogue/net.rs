//! `net`: links, addresses, routes, names, and whether others can be reached.

mod add_address;
mod add_route;
mod address;
mod addresses;
mod dns;
mod interfaces;
mod neighbours;
mod netlink;
mod ping;
mod probe;
mod remove_address;
mod remove_route;
mod resolve;
mod route;
mod routes;
mod set_link;
mod sockets;

pub(crate) use dns::{lookup, sees};

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<add_address::AddAddress>(),
    Entry::of::<add_route::AddRoute>(),
    Entry::of::<addresses::Addresses>(),
    Entry::of::<interfaces::Interfaces>(),
    Entry::of::<neighbours::Neighbours>(),
    Entry::of::<ping::Ping>(),
    Entry::of::<probe::Probe>(),
    Entry::of::<remove_address::RemoveAddress>(),
    Entry::of::<remove_route::RemoveRoute>(),
    Entry::of::<resolve::Resolve>(),
    Entry::of::<routes::Routes>(),
    Entry::of::<set_link::SetLink>(),
    Entry::of::<sockets::Sockets>(),
];
