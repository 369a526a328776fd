//! The volume label of a FAT file system, without mounting it.

use std::io;

use super::Disk;

/// Clusters of a FAT32 root directory that are searched; the label comes first on every volume seen.
const ROOT_CLUSTERS: usize = 16;

/// Largest fixed root directory (FAT12 and FAT16) that is searched: 512 entries are usual.
const ROOT_BYTES: u64 = 64 << 10;

const ENTRY: usize = 32;
const ATTRIBUTE_LABEL: u8 = 0x08;
/// These attributes together mark a part of a long name.
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;

/// What the boot sector says about the layout.
struct Layout {
    sector: u64,
    cluster: u64,
    fat_start: u64,
    root: Root,
    data_start: u64,
    label: String,
}

enum Root {
    /// FAT12 and FAT16: a fixed area, offset and length in bytes.
    Area(u64, u64),
    /// FAT32: a chain of clusters from this one.
    Chain(u32),
}

/// The label of a FAT volume that begins at the start of `disk`; `None` if there is no FAT volume. The entry in the root
/// directory counts, as elsewhere, and the boot sector only if there is none.
pub fn label(disk: &dyn Disk) -> io::Result<Option<String>> {
    let mut boot = [0; 512];
    if disk.size() < boot.len() as u64 {
        return Ok(None);
    }
    disk.read_at(0, &mut boot)?;
    let Some(layout) = layout(&boot) else { return Ok(None) };
    let in_root = match layout.root {
        Root::Area(start, length) => search(disk, start, length.min(ROOT_BYTES))?,
        Root::Chain(first) => search_chain(disk, &layout, first)?,
    };
    Ok(Some(in_root.flatten().unwrap_or(layout.label)))
}

/// Reads the boot sector; `None` unless it is plausible for FAT.
fn layout(boot: &[u8; 512]) -> Option<Layout> {
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| boot[at + i]));
    let (sector, per_cluster, reserved, fats) = (u16_at(11), u64::from(boot[13]), u16_at(14), u64::from(boot[16]));
    let jumps = matches!(boot[0], 0xeb | 0xe9);
    let sane = [512, 1024, 2048, 4096].contains(&sector) && per_cluster.is_power_of_two() && reserved > 0;
    if !jumps || !sane || !(1..=2).contains(&fats) || boot[21] < 0xf0 || boot[510..] != [0x55, 0xaa] {
        return None;
    }
    let root_bytes = u16_at(17) * ENTRY as u64;
    let is_fat32 = u16_at(22) == 0;
    let fat_sectors = if is_fat32 { u64::from(u32_at(36)) } else { u16_at(22) };
    let fat_start = reserved * sector;
    let root_start = fat_start + fats * fat_sectors * sector;
    let label_at = if is_fat32 { 71 } else { 43 };
    // 0x29 says that id and label are filled in.
    let has_label = boot[label_at - 5] == 0x29;
    Some(Layout {
        sector,
        cluster: per_cluster * sector,
        fat_start,
        root: if is_fat32 { Root::Chain(u32_at(44)) } else { Root::Area(root_start, root_bytes) },
        data_start: root_start + if is_fat32 { 0 } else { root_bytes },
        label: if has_label { text(&boot[label_at..label_at + 11]) } else { String::new() },
    })
}

/// Searches part of a directory: `Some(Some(label))` found, `Some(None)` the directory ends here, `None` go on.
fn search(disk: &dyn Disk, start: u64, length: u64) -> io::Result<Option<Option<String>>> {
    let length = length.min(disk.size().saturating_sub(start)) as usize;
    let mut bytes = vec![0; length];
    disk.read_at(start, &mut bytes)?;
    for entry in bytes.chunks_exact(ENTRY) {
        match (entry[0], entry[11]) {
            (0, _) => return Ok(Some(None)),
            (0xe5, _) => {}
            (_, attribute) if attribute & ATTRIBUTE_LONG_NAME == ATTRIBUTE_LONG_NAME => {}
            (_, attribute) if attribute & ATTRIBUTE_LABEL != 0 => return Ok(Some(Some(text(&entry[..11])))),
            _ => {}
        }
    }
    Ok(None)
}

fn search_chain(disk: &dyn Disk, layout: &Layout, first: u32) -> io::Result<Option<Option<String>>> {
    let mut cluster = first;
    for _ in 0..ROOT_CLUSTERS {
        if !(2..0x0fff_fff7).contains(&cluster) {
            break;
        }
        let start = layout.data_start + u64::from(cluster - 2) * layout.cluster;
        if let Some(found) = search(disk, start, layout.cluster)? {
            return Ok(Some(found));
        }
        let mut next = [0; 4];
        let at = layout.fat_start + u64::from(cluster) * 4;
        if at + 4 > disk.size() / layout.sector * layout.sector {
            break;
        }
        disk.read_at(at, &mut next)?;
        cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
    }
    Ok(None)
}

fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::disk::testing::MemoryDisk;
    use super::*;

    /// A boot sector with the fields of the FAT specification; `fat32` or FAT16.
    fn volume(fat32: bool, boot_label: &[u8; 11]) -> MemoryDisk {
        let mut disk = MemoryDisk::new(2 << 20);
        let mut boot = [0; 512];
        boot[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        boot[11..13].copy_from_slice(&512u16.to_le_bytes());
        boot[13] = 4;
        boot[14..16].copy_from_slice(&if fat32 { 32u16 } else { 1 }.to_le_bytes());
        boot[16] = 2;
        boot[21] = 0xf8;
        let label_at = if fat32 {
            boot[36..40].copy_from_slice(&16u32.to_le_bytes());
            boot[44..48].copy_from_slice(&2u32.to_le_bytes());
            71
        } else {
            boot[17..19].copy_from_slice(&512u16.to_le_bytes());
            boot[22..24].copy_from_slice(&16u16.to_le_bytes());
            43
        };
        boot[label_at - 5] = 0x29;
        boot[label_at..label_at + 11].copy_from_slice(boot_label);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        disk.put(0, &boot);
        disk
    }

    fn root_of(fat32: bool) -> usize {
        (if fat32 { 32 } else { 1 } + 2 * 16) * 512
    }

    fn put_entry(disk: &mut MemoryDisk, at: usize, name: &[u8; 11], attribute: u8) {
        disk.put(at, name);
        disk.put(at + 11, &[attribute]);
    }

    #[test]
    fn the_label_in_the_root_directory_counts() {
        for fat32 in [false, true] {
            let mut disk = volume(fat32, b"NO NAME    ");
            put_entry(&mut disk, root_of(fat32), b"A\0i\0o\0s\0.\0\0", 0x0f);
            put_entry(&mut disk, root_of(fat32) + 32, b"\xe5LD-LABEL  ", 0x08);
            put_entry(&mut disk, root_of(fat32) + 64, b"AIOS-CONF  ", 0x08);
            assert_eq!(label(&disk).unwrap().as_deref(), Some("AIOS-CONF"), "fat32: {fat32}");
        }
    }

    #[test]
    fn without_a_root_entry_the_boot_sector_counts() {
        for fat32 in [false, true] {
            let mut disk = volume(fat32, b"AIOS-CONF  ");
            put_entry(&mut disk, root_of(fat32), b"AIOS    TOM", 0x20);
            assert_eq!(label(&disk).unwrap().as_deref(), Some("AIOS-CONF"), "fat32: {fat32}");
        }
    }

    #[test]
    fn a_root_directory_of_several_clusters_is_followed() {
        let mut disk = volume(true, b"NO NAME    ");
        for entry in 0..2048 / 32 {
            put_entry(&mut disk, root_of(true) + entry * 32, b"FILE    TXT", 0x20);
        }
        disk.put(32 * 512 + 8, &5u32.to_le_bytes());
        put_entry(&mut disk, root_of(true) + 3 * 2048, b"AIOS-CONF  ", 0x28);
        assert_eq!(label(&disk).unwrap().as_deref(), Some("AIOS-CONF"));
        // A chain that bites its tail ends all the same.
        disk.put(32 * 512 + 8, &2u32.to_le_bytes());
        assert_eq!(label(&disk).unwrap().as_deref(), Some("NO NAME"));
    }

    #[test]
    fn what_is_not_fat_has_no_label() {
        assert_eq!(label(&MemoryDisk::new(1 << 20)).unwrap(), None);
        assert_eq!(label(&MemoryDisk::new(100)).unwrap(), None);
        let mut mbr = MemoryDisk::new(1 << 20);
        mbr.put(0, &[0xeb]);
        mbr.put(510, &[0x55, 0xaa]);
        assert_eq!(label(&mbr).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_volume_makes_the_reader_panic(changes in prop::collection::vec((0usize..512, any::<u8>()), 0..24), fat32: bool) {
            let mut disk = volume(fat32, b"AIOS-CONF  ");
            for (at, value) in changes {
                disk.put(at, &[value]);
            }
            let _ = label(&disk);
        }
    }
}
