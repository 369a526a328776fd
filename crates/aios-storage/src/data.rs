//! The data partition: made by the first boot behind the shipped partitions, grown when the disk grew, and never
//! formatted over anything.
//!
//! A partition that is being formatted carries the attribute [`FORMATTING`]. It is set in the same write that adds the
//! partition and cleared before the first mount, so a partition with it has never held anybody's data, whatever moment
//! the power was cut at. A partition without it is only ever checked and mounted.

use std::io;

use super::Disk;
use super::disk::Window;
use super::ext4::{Check, ToolError};
use super::gpt::{Entry, GptError, Guid, Table};
use super::signature::{Contents, contents};

/// Name in the partition table.
pub const NAME: &str = "data";

/// Partition type of aiOS data: f2c1a7d4-0b6e-4a53-9c1d-61696f730001.
pub const KIND: Guid =
    Guid([0xd4, 0xa7, 0xc1, 0xf2, 0x6e, 0x0b, 0x53, 0x4a, 0x9c, 0x1d, 0x61, 0x69, 0x6f, 0x73, 0x00, 0x01]);

/// Attribute bit: the file system is being made. Bits from 48 on belong to the partition type; 60 to 63 have meanings
/// that several systems share.
pub const FORMATTING: u32 = 48;

/// Alignment of partitions in bytes: a multiple of every flash erase block worth aligning to.
const ALIGNMENT: u64 = 1 << 20;

/// A smaller partition is not worth having.
pub const SMALLEST: u64 = 64 << 20;

/// Old signatures are wiped at both ends of a new partition over this length.
const WIPE: u64 = 1 << 20;

/// What data preparation asks of the machine; replaced in tests. Partitions are named by their number.
pub trait Machine {
    /// Makes the kernel know the partition with `start` and `length` in bytes.
    fn show(&mut self, number: u32, start: u64, length: u64) -> io::Result<()>;
    /// Makes the file system.
    fn format(&mut self, number: u32) -> Result<(), ToolError>;
    /// Checks the file system and repairs what is safe.
    fn check(&mut self, number: u32) -> Result<Check, ToolError>;
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The partition was there.
    Found,
    /// It was there and is larger now.
    Grown,
    /// It was made, or a first boot's unfinished work was finished.
    Created,
}

/// A data partition that can be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Number in the table.
    pub number: u32,
    /// What was done.
    pub outcome: Outcome,
    /// Size of the partition in bytes.
    pub size: u64,
    /// The file system is smaller than the partition: grow it once it is mounted.
    pub grow: bool,
}

/// Why there is no data partition to mount. Nothing that held data was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The partition table.
    #[error("partition table: {0}")]
    Table(#[from] GptError),
    /// The disk.
    #[error("disk: {0}")]
    Disk(#[from] io::Error),
    /// e2fsprogs.
    #[error("{0}")]
    Tool(#[from] ToolError),
    /// No space behind the last partition.
    #[error("{free} MiB are free behind the last partition, and {} MiB are needed", SMALLEST >> 20)]
    NoRoom {
        /// Free MiB.
        free: u64,
    },
    /// There is a partition and nothing on it that is known.
    #[error(
        "partition {number} (data) has no file system and is left alone: if it held data, restore its superblock with e2fsck -b \
         32768; to start over, delete the partition, and the next boot makes a new one"
    )]
    Unformatted {
        /// Its number.
        number: u32,
    },
    /// There is a partition with something else on it.
    #[error(
        "partition {number} (data) holds {found}, not ext4, and is left alone: back it up and delete it, and the next boot makes a new one"
    )]
    Foreign {
        /// Its number.
        number: u32,
        /// What is on it.
        found: &'static str,
    },
    /// The file system needs a person.
    #[error(
        "the file system on partition {number} (data) is damaged: boot with aios.shell on the kernel command line and run e2fsck -f on it"
    )]
    Damaged {
        /// Its number.
        number: u32,
    },
}

/// Finds, makes or grows the data partition of `disk`, so that it can be mounted.
pub fn prepare(disk: &mut dyn Disk, machine: &mut dyn Machine) -> Result<Prepared, DataError> {
    let mut table = Table::read(disk)?;
    match table.find(NAME).map(|(number, entry)| (number, entry.clone())) {
        None => create(disk, machine, &mut table),
        Some((number, entry)) => adopt(disk, machine, &mut table, number, entry),
    }
}

fn create(disk: &mut dyn Disk, machine: &mut dyn Machine, table: &mut Table) -> Result<Prepared, DataError> {
    let align = ALIGNMENT / disk.sector();
    let (first, last) = table.tail(disk).unwrap_or((0, 0));
    let (first, end) = (first.next_multiple_of(align), (last + 1) / align * align);
    let free = end.saturating_sub(first) * disk.sector();
    if free < SMALLEST {
        return Err(DataError::NoRoom { free: free >> 20 });
    }
    // Whatever lay here belonged to a table that the image has replaced. It goes before the partition exists, so that
    // a file system found on a partition with the attribute can only be ours.
    let start = first * disk.sector();
    wipe(disk, start, free)?;
    let entry = Entry::new(KIND, Guid::random()?, first, end - 1, NAME).with_attribute(FORMATTING, true);
    let number = table.add(entry.clone())?;
    table.write(disk)?;
    machine.show(number, start, free)?;
    format(disk, machine, table, number, entry)?;
    Ok(Prepared { number, outcome: Outcome::Created, size: free, grow: false })
}

fn adopt(
    disk: &mut dyn Disk,
    machine: &mut dyn Machine,
    table: &mut Table,
    number: u32,
    mut entry: Entry,
) -> Result<Prepared, DataError> {
    let sector = disk.sector();
    let (start, mut size) = (entry.first() * sector, entry.sectors() * sector);
    let found = contents(&Window::new(disk, start, size))?;
    let ours_unfinished = entry.attribute(FORMATTING) && entry.kind() == KIND;
    match found {
        Contents::Other(found) => return Err(DataError::Foreign { number, found }),
        Contents::Nothing if !ours_unfinished => return Err(DataError::Unformatted { number }),
        _ => {}
    }

    let mut outcome = Outcome::Found;
    if let Some(end) = room_to_grow(table, disk, &entry) {
        entry = entry.ending_at(end);
        table.set(number, entry.clone());
        size = entry.sectors() * sector;
        outcome = Outcome::Grown;
    }
    if outcome == Outcome::Grown || !table.is_sound() {
        table.write(disk)?;
    }
    machine.show(number, start, size)?;

    let intact = found != Contents::Nothing && machine.check(number)? == Check::Usable;
    match (intact, ours_unfinished) {
        (false, false) => return Err(DataError::Damaged { number }),
        (false, true) => {
            format(disk, machine, table, number, entry)?;
            return Ok(Prepared { number, outcome: Outcome::Created, size, grow: false });
        }
        (true, true) => {
            finish_formatting(disk, table, number, entry)?;
            outcome = Outcome::Created;
        }
        (true, false) => {}
    }
    let grow = matches!(found, Contents::Ext { size: taken, .. } if taken + ALIGNMENT <= size);
    Ok(Prepared { number, outcome, size, grow })
}

/// Last sector that the partition can be grown to, when that is worth it and nothing lies behind it.
fn room_to_grow(table: &Table, disk: &dyn Disk, entry: &Entry) -> Option<u64> {
    let (first, last) = table.tail(disk)?;
    let align = ALIGNMENT / disk.sector();
    let end = (last + 1) / align * align;
    (first == entry.last() + 1 && end >= first + align).then(|| end - 1)
}

fn format(
    disk: &mut dyn Disk,
    machine: &mut dyn Machine,
    table: &mut Table,
    number: u32,
    entry: Entry,
) -> Result<(), DataError> {
    machine.format(number)?;
    finish_formatting(disk, table, number, entry)
}

fn finish_formatting(disk: &mut dyn Disk, table: &mut Table, number: u32, entry: Entry) -> Result<(), DataError> {
    table.set(number, entry.with_attribute(FORMATTING, false));
    Ok(table.write(disk)?)
}

fn wipe(disk: &mut dyn Disk, start: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; WIPE as usize];
    disk.write_at(start, &zeros)?;
    disk.write_at(start + length - WIPE, &zeros)?;
    disk.sync()
}

#[cfg(test)]
mod tests;
