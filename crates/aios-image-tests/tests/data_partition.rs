//! The data partition: made by the first boot, kept by the later ones, grown with the disk, and no reason not to boot.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use aios_image_tests::qemu::{Scratch, TestVm, images};
use aios_vm::{ImageKind, conf_volume::EmergencyShell, disk, machine::DiskFormat};

const GIB: u64 = 1 << 30;
const SECTOR: u64 = 512;
/// Room for a data partition that is soon full; init makes none below 64 MiB.
const SMALL_DATA: u64 = 128 << 20;

/// The story: a device boots for the first time and takes its configuration from the stick; later boots find other
/// sticks in it, and its disk is enlarged. What it took the first time stays.
#[test]
fn the_first_boot_makes_it_and_later_boots_keep_and_grow_it() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch, 4 * GIB);
    let (first, _) = TestVm::start_to_ready(scratch.machine("first").disk(&disk, DiskFormat::Qcow2));
    let token = first.environment().token.clone();
    let text = first.power_off();
    assert!(text.contains("data partition") && text.contains(" created, "), "no creation on the console:\n{text}");

    let (second, _) = TestVm::start_to_ready(scratch.machine("second").disk(&disk, DiskFormat::Qcow2));
    let newer = second.environment().token.clone();
    assert_ne!(newer, token, "each run directory has a token of its own");
    second.api().with_token(&token).default_model().unwrap_or_else(|e| panic!("the first boot's token is gone: {e}"));
    assert!(second.api().default_model().is_err(), "a later volume's token was taken");
    let text = second.power_off();
    assert!(!text.contains(" created, ") && !text.contains(" grown to "), "the second boot made it anew:\n{text}");

    disk::grow(&disk, 5 * GIB).unwrap_or_else(|error| panic!("{error}"));
    let (third, _) = TestVm::start_to_ready(scratch.machine("third").disk(&disk, DiskFormat::Qcow2));
    third.api().with_token(&token).default_model().unwrap_or_else(|e| panic!("growing lost the token: {e}"));
    let text = third.power_off();
    assert!(text.contains(" grown to ") && !text.contains(" created, "), "no growth on the console:\n{text}");
}

/// The story: somebody starts the disk image as it is, which has no room behind its partitions; reads what to do, and does
/// it. Nothing sounds broken, because nothing is.
#[test]
fn without_room_for_one_the_console_says_how_to_give_it() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch, image_length());
    let mut cramped = TestVm::start(scratch.machine("cramped").disk(&disk, DiskFormat::Qcow2));
    cramped.expect_line("aios-init: no room for a data partition on /dev/vda: ");
    cramped.expect_line("aios-init: to give it room, switch off; ");
    cramped.expect_line("aios-init: all units Ready");
    let text = cramped.power_off();
    let failed = |line: &str| line.contains("aios-init") && line.contains("failed");
    assert!(!text.lines().any(failed), "it sounds as if something were broken:\n{text}");

    disk::grow(&disk, 4 * GIB).unwrap_or_else(|error| panic!("{error}"));
    let (roomy, _) = TestVm::start_to_ready(scratch.machine("roomy").disk(&disk, DiskFormat::Qcow2));
    let text = roomy.power_off();
    assert!(text.contains(" created, "), "no data partition:\n{text}");
}

/// The story: the flash under the data partition has died; no superblock can be read. The system still comes up, says
/// what is wrong, and does not format what might be somebody's data.
#[test]
fn a_corrupt_one_is_told_of_and_all_units_are_ready_without_it() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch, 4 * GIB);
    let (first, _) = TestVm::start_to_ready(scratch.machine("first").disk(&disk, DiskFormat::Qcow2));
    first.power_off();
    let raw = scratch.path().join("disk.raw");
    disk::to_raw(&disk, &raw).unwrap_or_else(|error| panic!("{error}"));
    fs::remove_file(&disk).unwrap();
    let data = Partition::find(&raw, "data");
    data.destroy_superblocks(&raw);

    let mut second = TestVm::start(scratch.machine("second").disk(&raw, DiskFormat::Raw));
    second.expect_line("aios-init: stage data failed: ");
    second.expect_line("aios-init: all units Ready");
    let text = second.power_off();
    assert!(!text.contains(" created, "), "a damaged partition was formatted:\n{text}");
    assert!(data.is_destroyed(&raw), "a damaged partition was written to");
}

/// The story: a service has written until nothing more went on. The next boot says so and comes up all the same.
#[test]
fn a_full_one_is_told_of_and_all_units_are_ready() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch, image_length() + SMALL_DATA);
    let first = scratch.machine("first").disk(&disk, DiskFormat::Qcow2).emergency_shell(EmergencyShell::Allowed);
    let (mut first, _) = TestVm::start_to_ready(first);
    // The sum keeps the command's echo apart from its output.
    let fill = "dd if=/dev/zero of=/var/lib/aios/fill bs=1M; sync; echo filled $((40 + 2))\n";
    first.send_console(fill).expect("the console takes a line");
    first.expect_line("filled 42");
    first.power_off();

    let mut second = TestVm::start(scratch.machine("second").disk(&disk, DiskFormat::Qcow2));
    second.expect_line("aios-init: data partition is full");
    second.expect_line("aios-init: all units Ready");
    second.power_off();
}

fn image() -> PathBuf {
    images().path(ImageKind::Img).unwrap_or_else(|error| panic!("{error}"))
}

fn image_length() -> u64 {
    fs::metadata(image()).expect("the image is there").len()
}

fn new_disk(scratch: &Scratch, size: u64) -> PathBuf {
    let disk = scratch.path().join("disk.qcow2");
    disk::create_overlay(&disk, &image(), DiskFormat::Raw, size).unwrap_or_else(|error| panic!("{error}"));
    disk
}

/// A partition of a raw disk, in bytes.
struct Partition {
    start: u64,
    length: u64,
}

impl Partition {
    /// What a destroyed place is filled with.
    const NOISE: u8 = 0xa5;
    /// ext4 with blocks of 4 KiB keeps its superblock's copies at multiples of its groups' length.
    const GROUP: u64 = 128 << 20;

    /// Reads the GUID partition table: its header in the second sector, the entries where the header says.
    fn find(disk: &Path, name: &str) -> Self {
        let disk = File::open(disk).expect("the raw disk can be opened");
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            disk.read_exact_at(&mut bytes, offset).expect("the raw disk can be read");
            bytes
        };
        let header = read(SECTOR, 92);
        assert_eq!(&header[..8], b"EFI PART");
        let (table, count, size) = (number(&header[72..80]), number(&header[80..84]), number(&header[84..88]));
        let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        (0..count)
            .map(|index| read(table * SECTOR + index * size, 128))
            .find(|entry| entry[56..].starts_with(&name))
            .map(|entry| {
                let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
                Partition { start: first * SECTOR, length: (last + 1 - first) * SECTOR }
            })
            .expect("the first boot added the partition")
    }

    /// The beginning of every group, where any copy of the superblock may be.
    fn superblocks(&self) -> impl Iterator<Item = u64> {
        (self.start..self.start + self.length).step_by(Self::GROUP as usize)
    }

    fn destroy_superblocks(&self, disk: &Path) {
        let disk = File::options().write(true).open(disk).expect("the raw disk can be opened");
        for offset in self.superblocks() {
            disk.write_all_at(&[Self::NOISE; 64 << 10], offset).expect("the raw disk can be written");
        }
    }

    fn is_destroyed(&self, disk: &Path) -> bool {
        let disk = File::open(disk).expect("the raw disk can be opened");
        self.superblocks().all(|offset| {
            let mut bytes = vec![0; 64 << 10];
            disk.read_exact_at(&mut bytes, offset).is_ok() && bytes.iter().all(|byte| *byte == Self::NOISE)
        })
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
