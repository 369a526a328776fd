//! What a module file says about itself: the `.modinfo` section of its ELF64 image, strings `key=value` that end in NUL.
//!
//! This needs no index beside the modules, so that the initramfs can hold any set of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of an ELF64 header and of a section header.
const HEADER: usize = 64;
const SECTION: usize = 64;

/// More sections or longer information than any module has; beyond it the file is damaged.
const MAX_SECTIONS: usize = 4096;
const MAX_INFO: usize = 1 << 20;

/// Aliases and needs of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Patterns of the devices it drives, and other names it answers to.
    pub aliases: Vec<String>,
    /// Modules that must be loaded before, by name.
    pub depends: Vec<String>,
    /// Modules or aliases that should be loaded before, if there are any.
    pub soft_depends: Vec<String>,
}

impl ModuleInfo {
    /// Reads a module file. An error for anything that is not an uncompressed 64-bit module.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::find(&|offset, size| {
            let in_file = offset.checked_add(size as u64).is_some_and(|end| end <= length);
            let mut bytes = vec![0; if in_file { size } else { 0 }];
            file.read_exact_at(&mut bytes, offset).ok().filter(|()| in_file).map(|()| bytes)
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an uncompressed 64-bit module"))
    }

    /// Finds the section by its name. `read` gives so many bytes from an offset.
    fn find(read: &dyn Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Self> {
        let header = read(0, HEADER)?;
        // Magic, 64 bits, little-endian.
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] || u16_at(&header, 58) as usize != SECTION {
            return None;
        }
        let (count, names) = (u16_at(&header, 60) as usize, u16_at(&header, 62) as usize);
        if count > MAX_SECTIONS || names >= count {
            return None;
        }
        let table = read(u64_at(&header, 40), count * SECTION)?;
        let extent = |index: usize| {
            let section = &table[index * SECTION..][..SECTION];
            let size = usize::try_from(u64_at(section, 32)).ok().filter(|size| *size <= MAX_INFO)?;
            read(u64_at(section, 24), size)
        };
        let strings = extent(names)?;
        let named = |index: &usize| {
            let at = u32_at(&table[index * SECTION..], 0) as usize;
            strings.get(at..).is_some_and(|rest| rest.starts_with(b".modinfo\0"))
        };
        Some(Self::parse(&extent((0..count).find(named)?)?))
    }

    fn parse(section: &[u8]) -> Self {
        let mut info = ModuleInfo::default();
        for entry in section.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()) {
            match entry.split_once('=') {
                Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
                }
                Some(("softdep", text)) => info.soft_depends.extend(super::before(text).map(str::to_owned)),
                _ => {}
            }
        }
        info
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
pub mod testing {
    /// A module file with this information.
    pub fn module(info: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        let mut sections = vec![0; 64];
        for (name, content) in [(1u32, info.as_bytes()), (10, &names[..])] {
            let mut section = vec![0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            file.extend_from_slice(content);
            sections.extend(section);
        }
        let table = file.len() as u64;
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file.extend(sections);
        file
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFO: &str =
        "license=GPL\0alias=virtio:d00000002v*\0alias=x\0depends=virtio,virtio_ring\0softdep=pre: crc32c a post: b\0";

    fn find(bytes: &[u8]) -> Option<ModuleInfo> {
        ModuleInfo::find(&|offset, size| {
            let rest = bytes.get(usize::try_from(offset).ok()?..)?;
            rest.get(..size).map(<[u8]>::to_vec)
        })
    }

    #[test]
    fn aliases_and_needs_are_read() {
        let info = find(&testing::module(INFO)).unwrap();
        assert_eq!(info.aliases, ["virtio:d00000002v*", "x"]);
        assert_eq!(info.depends, ["virtio", "virtio_ring"]);
        assert_eq!(info.soft_depends, ["crc32c", "a"]);
        assert_eq!(find(&testing::module("depends=\0")), Some(ModuleInfo::default()));
    }

    #[test]
    fn a_file_on_disk_gives_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ko");
        std::fs::write(&path, testing::module(INFO)).unwrap();
        assert_eq!(ModuleInfo::read(&path).unwrap(), find(&testing::module(INFO)).unwrap());
        std::fs::write(&path, b"\xfd7zXZ\0").unwrap();
        assert_eq!(ModuleInfo::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(changes in prop::collection::vec((0usize..400, any::<u8>()), 0..6), cut in 0usize..500) {
            let mut bytes = testing::module(INFO);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut);
            let _ = find(&bytes);
        }
    }
}
