//! `hw`: what the device is made of.

mod block;
mod clock;
mod cpu;
mod firmware;
mod gpio;
mod memory;
mod modules;
mod pci;
mod sensors;
mod smbios;
mod sysfs;
mod usb;

use crate::tool::Entry;

/// The tools of this namespace, by name.
pub const TOOLS: &[Entry] = &[
    Entry::of::<block::Block>(),
    Entry::of::<clock::Clock>(),
    Entry::of::<cpu::Cpu>(),
    Entry::of::<firmware::Firmware>(),
    Entry::of::<gpio::Gpio>(),
    Entry::of::<memory::Memory>(),
    Entry::of::<modules::Modules>(),
    Entry::of::<pci::Pci>(),
    Entry::of::<sensors::Sensors>(),
    Entry::of::<usb::Usb>(),
];
