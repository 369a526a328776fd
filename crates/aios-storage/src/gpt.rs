//! GUID partition tables (UEFI 2.10, section 5.3): read, changed, and written so that a power cut at any point leaves a
//! table that the kernel accepts.
//!
//! ```text
//! sector 0      protective MBR (its first 440 bytes are boot code); written by an installation, never by a change
//! sector 1      primary header: where the entries are, their CRC, its own CRC
//! sector 2..    primary entries, 128 bytes each
//! ...           partitions
//! last-n..      backup entries
//! last          backup header
//! ```
//!
//! The kernel takes the backup only when told to (`gpt` on its command line), so the primary has to be valid after
//! every single sector write. Writing therefore goes: backup first; then the entries into the gap before the first
//! partition; then the header, one sector, pointing there; then the entries at sector 2; then the header pointing back.

mod entry;

use std::io;

pub use entry::{ENTRY_BYTES, Entry, Guid, GuidError};

use super::Disk;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
/// Where the primary entries belong.
const PRIMARY_ENTRIES: u64 = 2;
/// More entries than any table has; a larger number is damage.
const MAX_ENTRIES: u32 = 1024;

/// Entries of a new table: what everybody makes.
const NEW_ENTRIES: usize = 128;

/// Boot code in a master boot record, in bytes.
pub const BOOT_CODE: usize = 440;

/// Sectors beyond this can't be counted in bytes.
const LAST_SECTOR: u64 = u64::MAX >> 16;

/// Why a table can't be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither header is valid.
    #[error("no valid GUID partition table: primary: {primary}; backup: {backup}")]
    NoTable {
        /// What is wrong with the primary.
        primary: &'static str,
        /// What is wrong with the backup.
        backup: &'static str,
    },
    /// A partition ends beyond the disk.
    #[error("partition {number} ends beyond the disk: was the image written to a disk that is too small?")]
    DiskTooSmall {
        /// Number of the partition, from 1.
        number: u32,
    },
    /// All entries are taken.
    #[error("the partition table has no free entry")]
    Full,
}

/// One header with its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    this: u64,
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Guid,
    entries_at: u64,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Header,
    entries: Vec<Entry>,
    /// The primary header was valid; else everything here is from the backup.
    primary_valid: bool,
    /// The backup is at the disk's end and says the same.
    backup_valid: bool,
}

impl Table {
    /// A table for a disk that has none; [`Table::write`] puts it there.
    pub fn new(disk: &dyn Disk, id: Guid) -> Self {
        let length = (NEW_ENTRIES * ENTRY_BYTES) as u64 / disk.sector();
        let header = Header {
            this: 1,
            other: last_sector(disk),
            first_usable: PRIMARY_ENTRIES + length,
            last_usable: last_sector(disk).saturating_sub(length + 1),
            disk: id,
            entries_at: PRIMARY_ENTRIES,
        };
        let entries = vec![Entry::from_bytes(&[]); NEW_ENTRIES];
        Table { header, entries, primary_valid: false, backup_valid: false }
    }

    /// Reads the primary table or, where that is damaged, the backup.
    pub fn read(disk: &dyn Disk) -> Result<Self, GptError> {
        let last = last_sector(disk);
        let backup = read_copy(disk, last);
        match read_copy(disk, 1) {
            Ok((header, entries)) => {
                let backup_valid =
                    header.other == last && backup.is_ok_and(|(copy, copied)| copied == entries && copy.other == 1);
                Ok(Table { header, entries, primary_valid: true, backup_valid })
            }
            Err(primary) => {
                let (header, entries) = backup.map_err(|backup| GptError::NoTable { primary, backup })?;
                Ok(Table { header, entries, primary_valid: false, backup_valid: true })
            }
        }
    }

    /// Whether both copies are valid, equal, and where they belong on a disk of this size.
    pub fn is_sound(&self) -> bool {
        self.primary_valid && self.backup_valid && self.header.entries_at == PRIMARY_ENTRIES
    }

    /// Partitions with their numbers, from 1.
    pub fn partitions(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (1..).zip(&self.entries).filter(|(_, entry)| entry.is_used())
    }

    /// The partition with this name.
    pub fn find(&self, name: &str) -> Option<(u32, &Entry)> {
        self.partitions().find(|(_, entry)| entry.name() == name)
    }

    /// Replaces an entry.
    pub fn set(&mut self, number: u32, entry: Entry) {
        if let Some(slot) = (number as usize).checked_sub(1).and_then(|index| self.entries.get_mut(index)) {
            *slot = entry;
        }
    }

    /// Puts a partition into the first free entry and returns its number.
    pub fn add(&mut self, entry: Entry) -> Result<u32, GptError> {
        let (number, slot) = (1..).zip(&mut self.entries).find(|(_, slot)| !slot.is_used()).ok_or(GptError::Full)?;
        *slot = entry;
        Ok(number)
    }

    /// The free sectors behind the last partition, up to where the entries of a backup at the disk's end begin.
    /// First and last sector; `None` where there are none.
    pub fn tail(&self, disk: &dyn Disk) -> Option<(u64, u64)> {
        let first = self.partitions().map(|(_, entry)| entry.last() + 1).max().unwrap_or(0);
        let first = first.max(self.header.first_usable);
        let last = self.last_usable(disk)?;
        (first <= last).then_some((first, last))
    }

    /// Writes both copies, in the order that the module's documentation gives; the backup goes to the disk's end.
    pub fn write(&mut self, disk: &mut dyn Disk) -> Result<(), GptError> {
        let last = last_sector(disk);
        let last_usable = self.last_usable(disk).unwrap_or(0);
        if let Some((number, _)) = self.partitions().find(|(_, entry)| entry.last() > last_usable) {
            return Err(GptError::DiskTooSmall { number });
        }
        let array = self.array_bytes(disk);
        let length = array.len() as u64 / disk.sector();
        let base = Header { last_usable, ..self.header.clone() };

        let backup = Header { this: last, other: 1, entries_at: last - length, ..base.clone() };
        write_copy(disk, &backup, &array, self.entries.len())?;

        let gap = PRIMARY_ENTRIES + length;
        let first_partition = self.partitions().map(|(_, entry)| entry.first()).min().unwrap_or(u64::MAX);
        if self.primary_valid && self.header.entries_at != gap && gap + length <= first_partition {
            let aside = Header { this: 1, other: last, entries_at: gap, ..base.clone() };
            write_copy(disk, &aside, &array, self.entries.len())?;
        }
        let primary = Header { this: 1, other: last, entries_at: PRIMARY_ENTRIES, ..base };
        write_copy(disk, &primary, &array, self.entries.len())?;
        *self = Table {
            header: primary,
            entries: std::mem::take(&mut self.entries),
            primary_valid: true,
            backup_valid: true,
        };
        Ok(())
    }

    fn last_usable(&self, disk: &dyn Disk) -> Option<u64> {
        let length = self.array_bytes(disk).len() as u64 / disk.sector();
        last_sector(disk).checked_sub(length + 1)
    }

    /// The entries, filled up to whole sectors.
    fn array_bytes(&self, disk: &dyn Disk) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.entries.iter().flat_map(|entry| entry.bytes()).copied().collect();
        bytes.resize(bytes.len().next_multiple_of(disk.sector() as usize), 0);
        bytes
    }
}

/// The first sector of a disk with a GUID partition table: `boot_code` for BIOS, and one old-style partition over the whole
/// disk, without which neither UEFI nor the kernel looks for the table.
pub fn protective_mbr(disk: &dyn Disk, boot_code: &[u8; BOOT_CODE]) -> Vec<u8> {
    let mut sector = vec![0; disk.sector() as usize];
    sector[..BOOT_CODE].copy_from_slice(boot_code);
    // Not active; begins at cylinder 0, head 0, sector 2; type EE; ends at the largest address there is.
    sector[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&1u32.to_le_bytes());
    let length = u32::try_from(last_sector(disk)).unwrap_or(u32::MAX);
    sector[458..462].copy_from_slice(&length.to_le_bytes());
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn last_sector(disk: &dyn Disk) -> u64 {
    (disk.size() / disk.sector()).saturating_sub(1)
}

/// Reads and checks the header in one sector and the entries it names.
fn read_copy(disk: &dyn Disk, sector: u64) -> Result<(Header, Vec<Entry>), &'static str> {
    let mut bytes = vec![0; disk.sector() as usize];
    disk.read_at(sector * disk.sector(), &mut bytes).map_err(|_| "the header can't be read")?;
    if &bytes[..8] != SIGNATURE {
        return Err("no signature");
    }
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let length = u32_at(12) as usize;
    if !(HEADER_BYTES..=bytes.len()).contains(&length) {
        return Err("impossible header size");
    }
    let mut checked = bytes[..length].to_vec();
    checked[16..20].fill(0);
    if crc32(&checked) != u32_at(16) {
        return Err("wrong header checksum");
    }
    let header = Header {
        this: u64_at(24),
        other: u64_at(32),
        first_usable: u64_at(40),
        last_usable: u64_at(48),
        disk: Guid(std::array::from_fn(|i| bytes[56 + i])),
        entries_at: u64_at(72),
    };
    let (count, entry_size) = (u32_at(80), u32_at(84));
    if header.this != sector {
        return Err("the header belongs to another place");
    }
    if entry_size as usize != ENTRY_BYTES || !(1..=MAX_ENTRIES).contains(&count) {
        return Err("entries of an unknown size or number");
    }
    let mut array = vec![0; count as usize * ENTRY_BYTES];
    let offset = header.entries_at.checked_mul(disk.sector()).ok_or("the entries are beyond the disk")?;
    disk.read_at(offset, &mut array).map_err(|_| "the entries can't be read")?;
    if crc32(&array) != u32_at(88) {
        return Err("wrong checksum of the entries");
    }
    let entries: Vec<Entry> = array.chunks_exact(ENTRY_BYTES).map(Entry::from_bytes).collect();
    if entries.iter().any(|entry| entry.is_used() && (entry.first() > entry.last() || entry.last() > LAST_SECTOR)) {
        return Err("a partition ends before it begins");
    }
    Ok((header, entries))
}

/// Writes entries, then the header that names them, each on the medium before the next.
fn write_copy(disk: &mut dyn Disk, header: &Header, array: &[u8], count: usize) -> Result<(), GptError> {
    let sector = disk.sector();
    disk.write_at(header.entries_at * sector, array)?;
    disk.sync()?;
    let mut bytes = vec![0; sector as usize];
    bytes[..8].copy_from_slice(SIGNATURE);
    bytes[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    for (at, value) in [
        (24, header.this),
        (32, header.other),
        (40, header.first_usable),
        (48, header.last_usable),
        (72, header.entries_at),
    ] {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes[56..72].copy_from_slice(&header.disk.0);
    bytes[80..84].copy_from_slice(&(count as u32).to_le_bytes());
    bytes[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
    bytes[88..92].copy_from_slice(&crc32(&array[..count * ENTRY_BYTES]).to_le_bytes());
    let checksum = crc32(&bytes[..HEADER_BYTES]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    disk.write_at(header.this * sector, &bytes)?;
    disk.sync()?;
    Ok(())
}

/// CRC-32 (IEEE 802.3), bit by bit: the longest input is a few dozen KiB, once a boot.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
pub mod testing {
    //! Tables made by the independent `gpt` crate.

    use super::super::disk::testing::MemoryDisk;

    /// A disk as it is shipped: `parts` of name and MiB, made by another implementation.
    pub fn shipped(size: usize, parts: &[(&str, u64)]) -> MemoryDisk {
        let blank = MemoryDisk::new(size);
        let mut disk = gpt::GptConfig::new().writable(true).create_from_device(blank, None).unwrap();
        disk.write_inplace().unwrap();
        for (name, mib) in parts {
            disk.add_partition(name, mib << 20, gpt::partition_types::LINUX_FS, 0, Some(2048)).unwrap();
        }
        disk.write().unwrap()
    }

    /// The partitions as another implementation reads them, both headers required.
    pub fn names_by_other_reader(disk: &MemoryDisk) -> Vec<(u32, String, u64, u64)> {
        let table = gpt::GptConfig::new().only_valid_headers(true).open_from_device(disk.clone()).unwrap();
        let parts = table.partitions().iter().filter(|(_, part)| part.is_used());
        parts.map(|(number, part)| (*number, part.name.clone(), part.first_lba, part.last_lba)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::disk::testing::MemoryDisk;
    use super::testing::{names_by_other_reader, shipped};
    use super::*;

    const MIB: usize = 1 << 20;
    const PARTS: [(&str, u64); 3] = [("esp", 2), ("root-a", 4), ("models", 3)];

    fn with_data(disk: &MemoryDisk) -> Table {
        let mut table = Table::read(disk).unwrap();
        let (first, last) = table.tail(disk).unwrap();
        table.add(Entry::new(Guid([7; 16]), Guid([9; 16]), first, last, "data")).unwrap();
        table
    }

    /// What the kernel does without `gpt` on its command line: the primary or nothing.
    fn kernel_sees(disk: &MemoryDisk) -> Option<Vec<String>> {
        read_copy(disk, 1).ok().map(|(_, entries)| {
            entries.iter().filter(|entry| entry.is_used()).map(|entry| entry.name().to_owned()).collect()
        })
    }

    #[test]
    fn a_table_of_another_implementation_is_read() {
        let disk = shipped(16 * MIB, &PARTS);
        let table = Table::read(&disk).unwrap();
        assert!(table.is_sound());
        let names: Vec<_> = table.partitions().map(|(number, entry)| (number, entry.name().to_owned())).collect();
        assert_eq!(names, [(1, "esp".into()), (2, "root-a".into()), (3, "models".into())]);
        assert_eq!(table.find("root-a").unwrap().1.sectors(), 4 * 2048);
        assert!(table.find("data").is_none());
    }

    #[test]
    fn a_written_table_is_read_by_another_implementation() {
        let mut disk = shipped(16 * MIB, &PARTS);
        let before = names_by_other_reader(&disk);
        with_data(&disk).write(&mut disk).unwrap();
        let after = names_by_other_reader(&disk);
        assert_eq!(after[..3], before[..]);
        assert_eq!((after[3].0, after[3].1.as_str()), (4, "data"));
        assert!(Table::read(&disk).unwrap().is_sound());
    }

    #[test]
    fn a_new_table_is_read_by_another_implementation() {
        let mut disk = MemoryDisk::new(16 * MIB);
        let mut table = Table::new(&disk, Guid([3; 16]));
        table.add(Entry::new(Guid([7; 16]), Guid([9; 16]), 2048, 4095, "esp")).unwrap();
        table.write(&mut disk).unwrap();
        assert!(Table::read(&disk).unwrap().is_sound());
        let mbr = protective_mbr(&disk, &[0x90; BOOT_CODE]);
        disk.put(0, &mbr);
        assert_eq!(names_by_other_reader(&disk), [(1, "esp".into(), 2048, 4095)]);
        let theirs = gpt::mbr::ProtectiveMBR::from_bytes(&mbr, gpt::disk::LogicalBlockSize::Lb512).unwrap();
        assert_eq!(theirs.bootcode()[..], [0x90; BOOT_CODE]);
        let whole = theirs.partition(0).unwrap();
        assert_eq!((whole.os_type, whole.lb_start, whole.lb_size), (0xee, 1, 32767));
    }

    #[test]
    fn on_a_larger_disk_the_backup_moves_to_the_end() {
        let mut disk = shipped(16 * MIB, &PARTS);
        disk.resize(64 * MIB);
        let table = Table::read(&disk).unwrap();
        assert!(!table.is_sound());
        let (first, last) = table.tail(&disk).unwrap();
        assert_eq!((first, last), ((1 + 2 + 4 + 3) * 2048, 64 * 2048 - 1 - 32 - 1));
        with_data(&disk).write(&mut disk).unwrap();
        assert_eq!(names_by_other_reader(&disk).len(), 4);
    }

    #[test]
    fn a_table_on_a_disk_that_is_too_small_is_left_alone() {
        let mut disk = shipped(16 * MIB, &PARTS);
        disk.resize(9 * MIB);
        let error = Table::read(&disk).unwrap().write(&mut disk).unwrap_err().to_string();
        assert!(error.contains("partition 3 ends beyond the disk"), "{error}");
        assert!(disk.writes.is_empty());
    }

    #[test]
    fn a_damaged_primary_is_replaced_from_the_backup() {
        let mut disk = shipped(16 * MIB, &PARTS);
        let flipped = disk.get(512 + 60, 1)[0] ^ 1;
        disk.put(512 + 60, &[flipped]);
        let mut table = Table::read(&disk).unwrap();
        assert!(!table.is_sound());
        table.write(&mut disk).unwrap();
        assert_eq!(names_by_other_reader(&disk).len(), 3);
    }

    #[test]
    fn without_any_table_both_reasons_are_given() {
        let error = Table::read(&MemoryDisk::new(MIB)).unwrap_err().to_string();
        assert_eq!(error, "no valid GUID partition table: primary: no signature; backup: no signature");
    }

    /// The story: somebody flashes a card and pulls the plug during the first boot, while the table is being written.
    #[test]
    fn a_power_cut_after_any_sector_leaves_a_table_that_the_kernel_reads() {
        let mut start = shipped(16 * MIB, &PARTS);
        start.resize(32 * MIB);
        let mut end = start.clone();
        with_data(&start).write(&mut end).unwrap();
        for count in 0..=end.writes.len() {
            let cut = start.cut_after(&end, count);
            let seen = kernel_sees(&cut).unwrap_or_else(|| panic!("no valid primary after {count} writes"));
            assert_eq!(seen[..3], ["esp", "root-a", "models"], "after {count} writes");
            // The next boot finishes the work from here.
            let mut next = cut.clone();
            let mut table = Table::read(&next).unwrap();
            if table.find("data").is_none() {
                table = with_data(&next);
            }
            table.write(&mut next).unwrap();
            assert_eq!(names_by_other_reader(&next).len(), 4, "after {count} writes");
        }
        assert!(end.writes.len() > 60, "the test must see single sectors");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(at in 0usize..1024, value in any::<u8>(), signed in any::<bool>()) {
            let mut disk = shipped(4 * MIB, &[("a", 1)]);
            let changed = disk.get(512 + at, 1)[0] ^ value;
            disk.put(512 + at, &[changed]);
            if signed && at < HEADER_BYTES {
                // With a good checksum the fields themselves are believed.
                disk.put(512 + 16, &[0; 4]);
                let crc = crc32(&disk.get(512, HEADER_BYTES));
                disk.put(512 + 16, &crc.to_le_bytes());
            }
            if let Ok(table) = Table::read(&disk) {
                let _ = table.tail(&disk);
                let _ = table.find("a").map(|(_, entry)| entry.sectors());
            }
        }
    }
}
