//! Whose images are run: the board, and what QEMU has to know of its processor's architecture.

use std::fmt;

/// A board as `board/<name>/meta` describes it: BOARD and ARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    pub name: String,
    pub architecture: Architecture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Board {
    pub fn new(name: impl Into<String>, architecture: Architecture) -> Self {
        Board { name: name.into(), architecture }
    }

    /// PCs and virtual machines of the x86_64 architecture.
    pub fn x86_64() -> Self {
        Board::new("x86_64", Architecture::X86_64)
    }

    /// Machines of the aarch64 architecture that start by UEFI.
    pub fn aarch64() -> Self {
        Board::new("aarch64", Architecture::Aarch64)
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
