//! Whose images are run: the board, and what QEMU has to know of its processor's architecture.

use std::fmt;

use crate::{Firmware, ImageKind};

/// A board as `board/<name>/meta` describes it: BOARD, ARCH and FIRMWARE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    pub name: String,
    pub architecture: Architecture,
    /// What starts it, unless another of its firmwares is asked for.
    pub firmware: Firmware,
}

/// The machine that QEMU plays for a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// One of virtio devices on a PCI bus.
    Virtual,
    /// The nearest to newer ones that QEMU 7.2 has: 1 GiB of memory, four processors of its own kind, the disk in its
    /// card slot, everything else on USB.
    RaspberryPi3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Board {
    pub fn new(name: impl Into<String>, architecture: Architecture, firmware: Firmware) -> Self {
        Board { name: name.into(), architecture, firmware }
    }

    /// PCs and virtual machines of the x86_64 architecture.
    pub fn x86_64() -> Self {
        Board::new("x86_64", Architecture::X86_64, Firmware::Uefi)
    }

    /// Machines of the aarch64 architecture that start by UEFI.
    pub fn aarch64() -> Self {
        Board::new("aarch64", Architecture::Aarch64, Firmware::Uefi)
    }

    /// Raspberry Pi 4.
    pub fn rpi4() -> Self {
        Board::new("rpi4", Architecture::Aarch64, Firmware::RaspberryPi)
    }

    pub fn hardware(&self) -> Hardware {
        match self.firmware {
            Firmware::Uefi | Firmware::Bios => Hardware::Virtual,
            Firmware::RaspberryPi => Hardware::RaspberryPi3,
        }
    }

    /// The output that is booted unless another is asked for.
    pub fn image(&self) -> ImageKind {
        match self.hardware() {
            Hardware::Virtual => ImageKind::Qcow2,
            Hardware::RaspberryPi3 => ImageKind::Img,
        }
    }
}

impl Architecture {
    /// The name that `uname -m` and Rust give it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Architecture::X86_64, Architecture::Aarch64].into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether this machine's processor runs its programs, so that hardware virtualisation is possible.
    pub fn is_host(self) -> bool {
        self.name() == std::env::consts::ARCH
    }

    /// The serial line that the kernel's console is on.
    pub fn serial_console(self) -> &'static str {
        match self {
            Architecture::X86_64 => "ttyS0,115200",
            Architecture::Aarch64 => "ttyAMA0,115200",
        }
    }

    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Architecture::X86_64 => "qemu-system-x86_64",
            Architecture::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The Debian package of [`Architecture::qemu`].
    pub(crate) fn qemu_package(self) -> &'static str {
        match self {
            Architecture::X86_64 => "qemu-system-x86",
            Architecture::Aarch64 => "qemu-system-arm",
        }
    }

    /// The Debian package of the UEFI firmware.
    pub(crate) fn firmware_package(self) -> &'static str {
        match self {
            Architecture::X86_64 => "ovmf",
            Architecture::Aarch64 => "qemu-efi-aarch64",
        }
    }

    pub(crate) fn machine(self) -> &'static str {
        match self {
            // `graphics=off` makes SeaBIOS speak on the serial line, where its errors can be seen.
            Architecture::X86_64 => "q35,graphics=off",
            // The interrupt controller that the accelerator has: under KVM it is the host's.
            Architecture::Aarch64 => "virt,gic-version=max",
        }
    }

    /// The processor that the translator plays.
    pub(crate) fn translated_processor(self) -> &'static str {
        match self {
            Architecture::X86_64 => "max",
            // Without pointer authentication, whose standard cipher costs the translator more than all else.
            Architecture::Aarch64 => "max,pauth=off",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_is_found_by_its_name_only() {
        assert_eq!(Architecture::from_name("aarch64"), Some(Architecture::Aarch64));
        assert_eq!(Architecture::from_name("arm64"), None);
    }

    #[test]
    fn one_architecture_is_this_machines() {
        assert!(Architecture::from_name(std::env::consts::ARCH).is_some_and(Architecture::is_host));
        assert!(!(Architecture::X86_64.is_host() && Architecture::Aarch64.is_host()));
    }
}
