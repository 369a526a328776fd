//! BIOS (QEMU brings its own) and UEFI (OVMF, from the distribution).

use std::path::{Path, PathBuf};

use crate::StartError;

/// Who starts the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Uefi,
    Bios,
}

/// OVMF's two flash images: the code, shared and read-only, and the template of the variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    pub code: PathBuf,
    pub vars_template: PathBuf,
}

/// Where distributions put OVMF without Secure Boot keys; the first pair that exists is taken.
const PLACES: [(&str, &str); 7] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"), // Debian, Ubuntu
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),       // Debian 11
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"), // Arch
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"), // Fedora
    ("/usr/share/edk2-ovmf/OVMF_CODE.fd", "/usr/share/edk2-ovmf/OVMF_VARS.fd"), // Gentoo
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"), // openSUSE
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"), // QEMU's own
];

impl Ovmf {
    pub fn find() -> Result<Self, StartError> {
        Self::find_under(Path::new("/"))
    }

    fn find_under(root: &Path) -> Result<Self, StartError> {
        let under = |path: &str| root.join(path.trim_start_matches('/'));
        PLACES
            .iter()
            .map(|(code, vars)| Ovmf { code: under(code), vars_template: under(vars) })
            .find(|ovmf| ovmf.code.is_file() && ovmf.vars_template.is_file())
            .ok_or_else(|| StartError::MissingFirmware { looked: PLACES.map(|(code, _)| code).join(", ") })
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
        let ovmf = Ovmf::find_under(root.path()).unwrap();
        assert!(ovmf.code.ends_with("usr/share/edk2/ovmf/OVMF_CODE.fd"));
    }

    #[test]
    fn missing_firmware_names_the_debian_package() {
        let root = tempfile::tempdir().unwrap();
        let error = Ovmf::find_under(root.path()).unwrap_err().to_string();
        assert!(error.contains("apt-get install ovmf"), "{error}");
    }
}
