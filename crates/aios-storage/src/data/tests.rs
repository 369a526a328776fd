//! The failure stories: a first boot cut short at any point, a disk that grew, a partition that is not ours.

use super::super::disk::testing::MemoryDisk;
use super::super::gpt::testing::{names_by_other_reader, shipped};
use super::*;

const MIB: usize = 1 << 20;
const PARTS: [(&str, u64); 2] = [("root-a", 2), ("models", 1)];

/// A machine whose "file system" is an ext superblock in the disk's own bytes.
#[derive(Default)]
struct Recorder {
    calls: Vec<String>,
    damaged: bool,
    format_fails: bool,
    formatted: Option<u32>,
}

impl Machine for Recorder {
    fn show(&mut self, number: u32, start: u64, length: u64) -> io::Result<()> {
        self.calls.push(format!("show {number} {} {}", start >> 20, length >> 20));
        Ok(())
    }

    fn format(&mut self, number: u32) -> Result<(), ToolError> {
        self.calls.push(format!("format {number}"));
        self.formatted = Some(number);
        match self.format_fails {
            true => Err(ToolError::Start { tool: "mke2fs", source: io::ErrorKind::NotFound.into() }),
            false => Ok(()),
        }
    }

    fn check(&mut self, number: u32) -> Result<Check, ToolError> {
        self.calls.push(format!("check {number}"));
        Ok(if self.damaged { Check::Damaged } else { Check::Usable })
    }
}

/// An image of 8 MiB on a disk of `size` MiB.
fn flashed(size: usize) -> MemoryDisk {
    let mut disk = shipped(8 * MIB, &PARTS);
    disk.resize(size * MIB);
    disk
}

/// Writes an ext superblock of `blocks` KiB blocks onto the data partition.
fn put_ext(disk: &mut MemoryDisk, blocks: u32) {
    let superblock = Table::read(disk).unwrap().find(NAME).unwrap().1.first() as usize * 512 + 1024;
    disk.put(superblock + 4, &blocks.to_le_bytes());
    disk.put(superblock + 56, &[0x53, 0xef]);
}

/// A disk after a complete first boot.
fn with_data(size: usize) -> MemoryDisk {
    let mut disk = flashed(size);
    prepare(&mut disk, &mut Recorder::default()).unwrap();
    put_ext(&mut disk, (size as u32 - 5) << 10);
    disk
}

#[test]
fn the_first_boot_makes_the_partition_to_the_end_of_the_disk() {
    let mut disk = flashed(256);
    let mut machine = Recorder::default();
    let prepared = prepare(&mut disk, &mut machine).unwrap();
    assert_eq!(prepared, Prepared { number: 3, outcome: Outcome::Created, size: 251 << 20, grow: false });
    assert_eq!(machine.calls, ["show 3 4 251", "format 3"]);
    let parts = names_by_other_reader(&disk);
    assert_eq!(parts[2], (3, "data".into(), 4 * 2048, 255 * 2048 - 1));
    let table = Table::read(&disk).unwrap();
    assert!(table.is_sound() && !table.find(NAME).unwrap().1.attribute(FORMATTING));
}

#[test]
fn a_later_boot_checks_and_changes_nothing() {
    let mut disk = with_data(256);
    let before = disk.clone();
    let mut machine = Recorder::default();
    let prepared = prepare(&mut disk, &mut machine).unwrap();
    assert_eq!(prepared, Prepared { number: 3, outcome: Outcome::Found, size: 251 << 20, grow: false });
    assert_eq!(machine.calls, ["show 3 4 251", "check 3"]);
    assert!(disk.same_as(&before), "the disk was written to");
}

#[test]
fn a_disk_without_room_is_said_to_be_too_small() {
    let error = prepare(&mut flashed(60), &mut Recorder::default()).unwrap_err().to_string();
    assert_eq!(error, "55 MiB are free behind the last partition, and 64 MiB are needed");
}

#[test]
fn on_a_disk_that_grew_the_partition_grows() {
    let mut disk = with_data(256);
    disk.resize(512 * MIB);
    let mut machine = Recorder::default();
    let prepared = prepare(&mut disk, &mut machine).unwrap();
    assert_eq!(prepared, Prepared { number: 3, outcome: Outcome::Grown, size: 507 << 20, grow: true });
    assert_eq!(machine.calls, ["show 3 4 507", "check 3"]);
    assert_eq!(names_by_other_reader(&disk)[2].3, 511 * 2048 - 1);
}

/// The power went after the partition had grown and before its file system had.
#[test]
fn a_file_system_smaller_than_its_partition_is_grown() {
    let mut disk = with_data(256);
    put_ext(&mut disk, 100 << 10);
    let prepared = prepare(&mut disk, &mut Recorder::default()).unwrap();
    assert_eq!((prepared.outcome, prepared.grow), (Outcome::Found, true));
}

#[test]
fn a_damaged_file_system_is_never_formatted() {
    let mut disk = with_data(256);
    let mut machine = Recorder { damaged: true, ..Recorder::default() };
    let error = prepare(&mut disk, &mut machine).unwrap_err();
    assert!(matches!(error, DataError::Damaged { number: 3 }), "{error}");
    assert_eq!(machine.formatted, None);
}

#[test]
fn a_partition_whose_superblock_is_gone_is_never_formatted() {
    let mut disk = with_data(256);
    disk.put(4 * MIB, &[0; 4096]);
    let mut machine = Recorder::default();
    let error = prepare(&mut disk, &mut machine).unwrap_err();
    assert!(matches!(error, DataError::Unformatted { number: 3 }), "{error}");
    assert_eq!(machine.formatted, None);
}

#[test]
fn a_partition_with_something_else_on_it_is_never_formatted() {
    for finished in [true, false] {
        let mut disk = with_data(256);
        let mut table = Table::read(&disk).unwrap();
        let entry = table.find(NAME).unwrap().1.clone().with_attribute(FORMATTING, !finished);
        table.set(3, entry);
        table.write(&mut disk).unwrap();
        disk.put(4 * MIB, &[0; 4096]);
        disk.put(4 * MIB, b"XFSB");
        let mut machine = Recorder::default();
        let error = prepare(&mut disk, &mut machine).unwrap_err().to_string();
        assert!(error.starts_with("partition 3 (data) holds xfs, not ext4"), "{error}");
        assert_eq!(machine.formatted, None);
    }
}

/// The attribute alone is not enough: somebody else's partition type may use the same bit.
#[test]
fn an_empty_partition_of_another_type_is_never_formatted() {
    let mut disk = flashed(256);
    let mut table = Table::read(&disk).unwrap();
    let theirs = Entry::new(Guid([1; 16]), Guid([2; 16]), 8192, 8192 + 200_000, NAME).with_attribute(FORMATTING, true);
    table.add(theirs).unwrap();
    table.write(&mut disk).unwrap();
    let mut machine = Recorder::default();
    assert!(matches!(prepare(&mut disk, &mut machine), Err(DataError::Unformatted { number: 3 })));
    assert_eq!(machine.formatted, None);
}

#[test]
fn what_an_earlier_system_left_in_the_free_space_is_not_taken_for_ours() {
    let mut disk = flashed(256);
    disk.put(4 * MIB + 1024 + 56, &[0x53, 0xef]);
    let mut machine = Recorder { format_fails: true, ..Recorder::default() };
    assert!(matches!(prepare(&mut disk, &mut machine), Err(DataError::Tool(_))));
    assert_eq!(disk.get(4 * MIB + 1024 + 56, 2), [0, 0]);
}

/// Somebody flashes a card and pulls the plug during the first boot.
#[test]
fn a_first_boot_cut_short_anywhere_is_finished_by_the_next() {
    let start = flashed(128);
    let mut whole = start.clone();
    prepare(&mut whole, &mut Recorder::default()).unwrap();
    // The wipe is 4,096 sectors of no interest; the table's own writes are all tried.
    let table_begins = whole.writes.iter().position(|(at, _)| *at > 127 * (MIB as u64)).unwrap();
    for count in (table_begins..=whole.writes.len()).chain([0, 1, 2048]) {
        let mut disk = start.cut_after(&whole, count);
        let was_finished = Table::read(&disk).unwrap().find(NAME).is_some_and(|(_, e)| !e.attribute(FORMATTING));
        if was_finished {
            put_ext(&mut disk, 123 << 10);
        }
        let mut machine = Recorder::default();
        let prepared = prepare(&mut disk, &mut machine).unwrap_or_else(|e| panic!("after {count} writes: {e}"));
        assert_eq!((prepared.number, prepared.size), (3, 123 << 20), "after {count} writes");
        assert_eq!(machine.formatted.is_none(), was_finished, "after {count} writes: {:?}", machine.calls);
        assert!(Table::read(&disk).unwrap().is_sound(), "after {count} writes");
        assert_eq!(names_by_other_reader(&disk).len(), 3, "after {count} writes");
    }
}

/// mke2fs had ended, and the power went before the attribute was cleared.
#[test]
fn a_file_system_that_was_finished_just_before_the_cut_is_kept() {
    let mut disk = flashed(256);
    let mut machine = Recorder { format_fails: true, ..Recorder::default() };
    prepare(&mut disk, &mut machine).unwrap_err();
    put_ext(&mut disk, 251 << 10);
    let mut machine = Recorder::default();
    let prepared = prepare(&mut disk, &mut machine).unwrap();
    assert_eq!((prepared.outcome, machine.formatted), (Outcome::Created, None));
    assert!(!Table::read(&disk).unwrap().find(NAME).unwrap().1.attribute(FORMATTING));

    // Half-made, it is made again.
    let mut disk = flashed(256);
    prepare(&mut disk, &mut Recorder { format_fails: true, ..Recorder::default() }).unwrap_err();
    put_ext(&mut disk, 251 << 10);
    let mut machine = Recorder { damaged: true, ..Recorder::default() };
    prepare(&mut disk, &mut machine).unwrap();
    assert_eq!(machine.formatted, Some(3));
}
