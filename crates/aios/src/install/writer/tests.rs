//! The failure stories: the power goes while a disk is being written, the medium is damaged, the disk lies.

use std::fs;

use aios_storage::disk::testing::MemoryDisk;

use super::{super::Contents, *};

const MIB: usize = 1 << 20;
const SIZE: usize = 96 * MIB;

/// A medium with a plan of two partitions with contents and an empty one between them.
struct Live {
    dir: tempfile::TempDir,
    plan: Plan,
}

impl Live {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        let kernel: Vec<u8> = (0..1536 << 10).map(|at: u32| (at / 7) as u8 | 1).collect();
        file("kernel", &kernel);
        file("loose", &[&[0x90; BOOT_CODE][..], &[7; 1024]].concat());
        // The FAT's own bytes, a gap, the kernel.
        let boot = [&[7; 1024][..], &[0; 3072], &kernel].concat();
        let text = format!(
            r#"
format = 1
boot-code = {{ file = "loose", at = 0, length = 440 }}
[[partition]]
name = "boot-a"
kind = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
start = 1048576
size = 4194304
length = {}
sha256 = "{}"
extents = [
  {{ offset = 0, file = "loose", at = 440, length = 1024 }},
  {{ offset = 4096, file = "kernel", at = 0, length = {} }},
]
[[partition]]
name = "boot-b"
kind = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
start = 5242880
size = 4194304
length = 0
sha256 = "{}"
extents = []
[[partition]]
name = "root-a"
kind = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
start = 9437184
size = 2097152
length = {}
sha256 = "{}"
extents = [ {{ offset = 0, file = "kernel", at = 0, length = {} }} ]
"#,
            boot.len(),
            hex(&boot),
            kernel.len(),
            hex(b""),
            kernel.len(),
            hex(&kernel),
            kernel.len(),
        );
        Live { plan: Plan::parse(&text).unwrap(), dir }
    }

    fn install(&self, disk: &mut dyn Disk) -> Result<(), WriteError> {
        write(disk, &self.plan, &Medium::new(self.dir.path()), &mut Silent)
    }

    fn contents(&self, disk: &MemoryDisk) -> Contents {
        Contents::of(disk, &self.plan).unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Silent;

impl Progress for Silent {
    fn at(&mut self, _: Step, _: &str, done: u64, total: u64) {
        assert!(done <= total);
    }
}

/// What firmware and kernel make of a disk: nothing without the protective partition; with it, the partitions' names.
fn boots(disk: &MemoryDisk) -> Option<Vec<String>> {
    if disk.get(510, 2) != [0x55, 0xaa] {
        return None;
    }
    let table = gpt::GptConfig::new().only_valid_headers(true).open_from_device(disk.clone()).unwrap();
    Some(table.partitions().values().filter(|part| part.is_used()).map(|part| part.name.clone()).collect())
}

#[test]
fn an_installed_disk_has_the_plans_partitions_and_their_bytes() {
    let live = Live::new();
    let mut disk = MemoryDisk::new(SIZE);
    live.install(&mut disk).unwrap();
    assert_eq!(boots(&disk).unwrap(), ["boot-a", "boot-b", "root-a"]);
    assert_eq!(live.contents(&disk), Contents::Aios);
    assert_eq!(disk.get(0, BOOT_CODE), [0x90; BOOT_CODE]);
    let kernel = fs::read(live.dir.path().join("kernel")).unwrap();
    assert_eq!(disk.get(MIB, 1024), [7; 1024]);
    assert_eq!(disk.get(MIB + 4096, kernel.len()), kernel);
    assert_eq!(disk.get(9 * MIB, kernel.len()), kernel);
}

#[test]
fn two_installations_of_a_plan_have_identifiers_of_their_own() {
    let live = Live::new();
    let ids = || {
        let mut disk = MemoryDisk::new(SIZE);
        live.install(&mut disk).unwrap();
        let table = gpt::GptConfig::new().open_from_device(disk).unwrap();
        let parts = table.partitions().values().filter(|part| part.is_used()).map(|part| part.part_guid);
        [*table.guid()].into_iter().chain(parts).collect::<std::collections::BTreeSet<_>>()
    };
    let (one, other) = (ids(), ids());
    assert_eq!((one.len(), one.intersection(&other).count()), (4, 0));
}

/// The first boot makes the data partition behind what was installed.
#[test]
fn the_rest_of_the_disk_is_free_for_the_data_partition() {
    let live = Live::new();
    let mut disk = MemoryDisk::new(SIZE);
    live.install(&mut disk).unwrap();
    let table = Table::read(&disk).unwrap();
    let (first, last) = table.tail(&disk).unwrap();
    assert_eq!((first, last), (11 * 2048, (SIZE / 512) as u64 - 34));
    assert!((last - first) * 512 > aios_storage::data::SMALLEST);
}

/// The story: a disk full of somebody's data is overwritten by order, and the power goes. Whatever has reached the disk,
/// it is unfinished, and the next installation takes it, or it is whole.
#[test]
fn a_power_cut_after_any_write_leaves_an_unfinished_disk_or_a_whole_one() {
    let live = Live::new();
    let mut old = MemoryDisk::new(SIZE);
    let mut table = Table::new(&old, Guid([1; 16]));
    table.add(Entry::new(Guid([2; 16]), Guid([3; 16]), 2048, 40959, "theirs")).unwrap();
    table.write(&mut old).unwrap();
    let mbr = protective_mbr(&old, &[0; BOOT_CODE]);
    old.put(0, &mbr);
    assert_eq!(live.contents(&old), Contents::Partitions(vec!["theirs".into()]));

    let mut whole = old.clone();
    live.install(&mut whole).unwrap();
    let writes = whole.writes.len() - old.writes.len();
    // Thousands of sectors of contents are alike; the beginning and the end are not.
    let interesting = |count: &usize| *count < 12 || *count > writes - 80 || count.is_multiple_of(509);
    for count in (1..=writes).filter(interesting) {
        let cut = old.cut_after(&whole, count);
        match boots(&cut) {
            None => assert_eq!(live.contents(&cut), Contents::Unfinished, "after {count} writes"),
            Some(names) => {
                assert_eq!((count, names.len()), (writes, 3), "bootable before the last write");
                assert_eq!(live.contents(&cut), Contents::Aios);
            }
        }
    }
    let mut again = old.cut_after(&whole, writes - 1);
    live.install(&mut again).unwrap();
    assert_eq!(live.contents(&again), Contents::Aios);
}

/// A disk keeps its own order between two syncs, so the two writes that decide stand alone.
#[test]
fn the_mark_is_on_the_medium_before_all_and_the_boot_sector_after_all() {
    let live = Live::new();
    let mut disk = MemoryDisk::new(SIZE);
    live.install(&mut disk).unwrap();
    assert_eq!((disk.writes[0].0, disk.syncs[0]), (0, 1));
    let last = disk.writes.len();
    assert_eq!(disk.writes[last - 1].0, 0);
    assert!(disk.syncs.contains(&(last - 1)) && disk.syncs.contains(&last));
    assert_eq!(disk.writes.iter().filter(|(at, _)| *at == 0).count(), 2);
}

#[test]
fn a_damaged_medium_leaves_an_unfinished_disk() {
    let live = Live::new();
    let path = live.dir.path().join("kernel");
    let mut kernel = fs::read(&path).unwrap();
    kernel[100_000] ^= 1;
    fs::write(&path, &kernel).unwrap();
    let mut disk = MemoryDisk::new(SIZE);
    let error = live.install(&mut disk).unwrap_err();
    assert!(matches!(&error, WriteError::MediumDamaged { partition } if partition == "boot-a"), "{error}");
    assert_eq!((boots(&disk), live.contents(&disk)), (None, Contents::Unfinished));

    fs::write(&path, &kernel[..1000]).unwrap();
    let error = live.install(&mut disk).unwrap_err().to_string();
    assert!(error.contains("kernel on the medium") && error.contains("medium is damaged"), "{error}");
}

#[test]
fn a_medium_without_boot_code_touches_no_disk() {
    let live = Live::new();
    fs::remove_file(live.dir.path().join("loose")).unwrap();
    let mut disk = MemoryDisk::new(SIZE);
    assert!(matches!(live.install(&mut disk), Err(WriteError::Medium { .. })));
    assert!(disk.writes.is_empty());
}

/// A counterfeit that takes every write and keeps only its first megabytes.
struct Counterfeit(MemoryDisk);

impl Disk for Counterfeit {
    fn size(&self) -> u64 {
        self.0.size
    }

    fn sector(&self) -> u64 {
        self.0.sector()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset < 9 * MIB as u64 { self.0.write_at(offset, bytes) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn a_disk_that_loses_what_it_takes_is_found_out_before_it_could_boot() {
    let live = Live::new();
    let mut disk = Counterfeit(MemoryDisk::new(SIZE));
    let error = live.install(&mut disk).unwrap_err().to_string();
    assert!(error.starts_with("partition root-a reads back differently"), "{error}");
    assert_eq!((boots(&disk.0), live.contents(&disk.0)), (None, Contents::Unfinished));
}

#[test]
fn what_lay_on_the_disk_before_shows_in_no_partition() {
    let live = Live::new();
    let mut disk = MemoryDisk::new(SIZE);
    // A file system of an earlier owner, where boot-b is going to be.
    disk.put(5 * MIB, b"XFSB");
    live.install(&mut disk).unwrap();
    assert_eq!(disk.get(5 * MIB, 4), [0; 4]);
}
