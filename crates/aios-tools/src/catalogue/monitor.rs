//! `monitor`: how much of everything is in use.

mod cgroups;
mod cpu;
mod disk;
mod load;
mod memory;
mod network;
mod pressure;
mod proc_stat;
mod summary;
mod temperature;
mod trace;
mod tracefs;
mod vmstat;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<cgroups::Cgroups>(),
    Entry::of::<cpu::Cpu>(),
    Entry::of::<disk::Disk>(),
    Entry::of::<load::Load>(),
    Entry::of::<memory::Memory>(),
    Entry::of::<network::Network>(),
    Entry::of::<pressure::Pressure>(),
    Entry::of::<summary::Summary>(),
    Entry::of::<temperature::Temperature>(),
    Entry::of::<trace::Trace>(),
    Entry::of::<vmstat::Vmstat>(),
];
