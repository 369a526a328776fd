//! What lies on a partition: enough to never format over anything that somebody may want back.

use std::io;

use super::Disk;
use super::disk::Window;

/// Bytes at the front that carry every signature known here.
const FRONT: usize = 128 << 10;

/// Signatures by offset, as libblkid knows them. Ext is apart, because its superblock says more.
const KNOWN: &[(&str, usize, &[u8])] = &[
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("xfs", 0, b"XFSB"),
    ("f2fs", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("erofs", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("squashfs", 0, b"hsqs"),
    ("iso9660", 0x8001, b"CD001"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("vfat", 0x36, b"FAT1"),
    ("vfat", 0x52, b"FAT32"),
    ("LUKS", 0, &[b'L', b'U', b'K', b'S', 0xba, 0xbe]),
    ("swap", 0xff6, b"SWAPSPACE2"),
    ("LVM", 0x218, b"LVM2 001"),
    ("md RAID", 0x1000, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("bcachefs", 0x1018, &[0xc6, 0x85, 0x73, 0xf6]),
    ("dm-verity", 0, b"verity\0\0"),
];

/// Contents of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// No signature that is known here.
    Nothing,
    /// An ext2, ext3 or ext4 file system.
    Ext {
        /// Volume label.
        label: String,
        /// Size in bytes that the file system takes up.
        size: u64,
    },
    /// Something else, by name.
    Other(&'static str),
}

/// Looks at a part of a disk.
pub fn contents<D: Disk + ?Sized>(window: &Window<'_, D>) -> io::Result<Contents> {
    let mut front = vec![0; FRONT.min(usize::try_from(window.size()).unwrap_or(FRONT))];
    window.read_at(0, &mut front)?;
    if let Some(ext) = ext(&front) {
        return Ok(ext);
    }
    let found =
        KNOWN.iter().find(|(_, at, magic)| front.get(*at..*at + magic.len()).is_some_and(|bytes| bytes == *magic));
    Ok(found.map_or(Contents::Nothing, |(name, _, _)| Contents::Other(name)))
}

/// Reads an ext superblock (offset 1024, little-endian).
fn ext(front: &[u8]) -> Option<Contents> {
    let block = front.get(1024..2048)?;
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| block[at + i]));
    if block[56..58] != [0x53, 0xef] {
        return None;
    }
    let has_64bit = u32_at(0x60) & 0x80 != 0;
    let blocks = u64::from(u32_at(4)) | if has_64bit { u64::from(u32_at(0x150)) << 32 } else { 0 };
    let size = blocks.saturating_mul(1024u64.checked_shl(u32_at(24)).unwrap_or(0));
    let label = block[120..136].split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Contents::Ext { label: String::from_utf8_lossy(label).into_owned(), size })
}

#[cfg(test)]
mod tests {
    use super::super::disk::testing::MemoryDisk;
    use super::*;

    fn look(disk: &MemoryDisk) -> Contents {
        contents(&Window::new(disk, 0, disk.size)).unwrap()
    }

    #[test]
    fn an_empty_partition_has_no_signature() {
        assert_eq!(look(&MemoryDisk::new(1 << 20)), Contents::Nothing);
        assert_eq!(look(&MemoryDisk::new(512)), Contents::Nothing, "smaller than any superblock");
    }

    #[test]
    fn every_signature_is_found_at_its_place() {
        for (name, at, magic) in KNOWN {
            let mut disk = MemoryDisk::new(1 << 20);
            disk.put(*at, magic);
            assert_eq!(look(&disk), Contents::Other(name));
        }
    }

    #[test]
    fn what_mke2fs_makes_is_seen_with_its_label_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("data.img");
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let made = std::process::Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-L", "aios-data"])
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success());
        let disk = super::super::FileDisk::open_read_only(&image).unwrap();
        let found = contents(&Window::new(&disk, 0, 8 << 20)).unwrap();
        assert_eq!(found, Contents::Ext { label: "aios-data".into(), size: 8 << 20 });
    }
}
