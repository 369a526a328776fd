//! BIOS (QEMU brings its own, for x86_64), UEFI (EDK II, from the distribution), and the Raspberry Pi's (`raspberrypi`).

use std::path::{Path, PathBuf};

use crate::{Architecture, StartError};

/// Who starts the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Uefi,
    Bios,
    /// Its own, which starts the kernel itself.
    RaspberryPi,
}

/// The two flash images of UEFI: the code, shared and read-only, and the template of the variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uefi {
    pub code: PathBuf,
    pub vars_template: PathBuf,
}

/// Where distributions put UEFI without Secure Boot keys; the first pair that exists is taken.
const X86_64: [(&str, &str); 7] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"), // Debian, Ubuntu
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),       // Debian 11
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"), // Arch
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"), // Fedora
    ("/usr/share/edk2-ovmf/OVMF_CODE.fd", "/usr/share/edk2-ovmf/OVMF_VARS.fd"), // Gentoo
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"), // openSUSE
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"), // QEMU's own
];

/// The same of aarch64. QEMU's `virt` wants each image to fill its flash of 64 MiB, which the bare QEMU_EFI.fd does not.
const AARCH64: [(&str, &str); 5] = [
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"), // Debian, Ubuntu
    ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"), // Arch
    ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"), // Fedora
    ("/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"), // openSUSE
    ("/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"), // QEMU's own
];

impl Firmware {
    /// The first of a board's FIRMWARE.
    pub fn from_fact(fact: &str) -> Option<Self> {
        match fact.split_ascii_whitespace().next()? {
            "uefi" => Some(Firmware::Uefi),
            "bios" => Some(Firmware::Bios),
            "raspberrypi" => Some(Firmware::RaspberryPi),
            _ => None,
        }
    }
}

impl Uefi {
    pub fn find(architecture: Architecture) -> Result<Self, StartError> {
        Self::find_under(Path::new("/"), architecture)
    }

    fn find_under(root: &Path, architecture: Architecture) -> Result<Self, StartError> {
        let places: &[(&str, &str)] = match architecture {
            Architecture::X86_64 => &X86_64,
            Architecture::Aarch64 => &AARCH64,
        };
        let under = |path: &str| root.join(path.trim_start_matches('/'));
        places
            .iter()
            .map(|(code, vars)| Uefi { code: under(code), vars_template: under(vars) })
            .find(|uefi| uefi.code.is_file() && uefi.vars_template.is_file())
            .ok_or_else(|| StartError::MissingFirmware {
                architecture,
                looked: places.iter().map(|(code, _)| *code).collect::<Vec<_>>().join(", "),
                package: architecture.firmware_package(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_taken_only_when_both_files_are_there() {
        let root = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        place("usr/share/OVMF/OVMF_CODE_4M.fd");
        place("usr/share/edk2/ovmf/OVMF_CODE.fd");
        place("usr/share/edk2/ovmf/OVMF_VARS.fd");
        let uefi = Uefi::find_under(root.path(), Architecture::X86_64).unwrap();
        assert!(uefi.code.ends_with("usr/share/edk2/ovmf/OVMF_CODE.fd"));
        assert!(Uefi::find_under(root.path(), Architecture::Aarch64).is_err(), "x86_64 firmware is none for aarch64");
    }

    #[test]
    fn missing_firmware_names_the_debian_package() {
        let root = tempfile::tempdir().unwrap();
        for (architecture, package) in [(Architecture::X86_64, "ovmf"), (Architecture::Aarch64, "qemu-efi-aarch64")] {
            let error = Uefi::find_under(root.path(), architecture).unwrap_err().to_string();
            assert!(error.contains(&format!("apt-get install {package}")), "{error}");
        }
    }
}
