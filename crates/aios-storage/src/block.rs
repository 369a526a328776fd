//! Block devices as sysfs shows them, and telling the kernel about a partition of a disk that is in use.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// sysfs counts in these, whatever the sector size of the disk.
const SYSFS_SECTOR: u64 = 512;

const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;

/// A disk or a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockDevice {
    /// Kernel name, for example `vda1`.
    pub name: String,
    /// Kernel name of the disk and the number in its table, for a partition.
    pub partition: Option<(String, u32)>,
    /// Name in the partition table, if the kernel read it there.
    pub label: Option<String>,
    /// Unique id in the partition table.
    pub uuid: Option<String>,
    /// Size in bytes; 0 for a drive without a medium.
    pub size: u64,
}

impl BlockDevice {
    /// All devices that can hold something: no RAM disks, and no loops without a file. Disks come before partitions,
    /// each sorted by name.
    pub fn list(sys: &Path) -> Vec<BlockDevice> {
        let dir = sys.join("class/block");
        let names = fs::read_dir(&dir).map(|list| list.flatten().map(|e| e.file_name()).collect::<Vec<_>>());
        let mut found: Vec<_> = names
            .unwrap_or_default()
            .into_iter()
            .filter_map(|name| BlockDevice::read(&dir.join(&name), name.to_str()?))
            .filter(|device| device.size > 0 && !device.name.starts_with("ram") && !device.name.starts_with("zram"))
            .collect();
        found.sort_by(|a, b| (a.partition.is_some(), &a.name).cmp(&(b.partition.is_some(), &b.name)));
        found
    }

    /// The device with this number (`st_dev` of a file on it, `st_rdev` of its node).
    pub fn with_number(sys: &Path, device: u64) -> Option<BlockDevice> {
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let dir = fs::canonicalize(sys.join("dev/block").join(number)).ok()?;
        BlockDevice::read(&dir, dir.file_name()?.to_str()?)
    }

    /// The partition of disk `name` with this number.
    pub fn partition_of(sys: &Path, disk: &str, number: u32) -> Option<BlockDevice> {
        BlockDevice::list(sys).into_iter().find(|device| device.partition == Some((disk.to_owned(), number)))
    }

    /// What the drive calls itself; `None` where it has no name, as a virtual one.
    pub fn model(&self, sys: &Path) -> Option<String> {
        // SCSI, SATA, NVMe and USB drives have a model, memory cards a name.
        let names = ["device/model", "device/name"].map(|file| self.attribute(sys, file));
        names.into_iter().flatten().find(|name| !name.is_empty())
    }

    /// Whether nothing can be written to it.
    pub fn is_read_only(&self, sys: &Path) -> bool {
        self.attribute(sys, "ro").is_some_and(|value| value == "1")
    }

    /// Whether its medium can be taken out: discs, memory card readers, most USB sticks.
    pub fn is_removable(&self, sys: &Path) -> bool {
        self.attribute(sys, "removable").is_some_and(|value| value == "1")
    }

    /// Devices that are made of this one: device mapper, RAID.
    pub fn holders(&self, sys: &Path) -> Vec<String> {
        let list = fs::read_dir(sys.join("class/block").join(&self.name).join("holders"));
        list.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn attribute(&self, sys: &Path, file: &str) -> Option<String> {
        let text = fs::read_to_string(sys.join("class/block").join(&self.name).join(file)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Its node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The disk it is on: itself, unless it is a partition.
    pub fn disk_name(&self) -> &str {
        self.partition.as_ref().map_or(&self.name, |(disk, _)| disk)
    }

    fn read(dir: &Path, name: &str) -> Option<BlockDevice> {
        let text = |file: &str| fs::read_to_string(dir.join(file)).ok();
        let number = |file: &str| text(file).and_then(|text| text.trim().parse::<u64>().ok());
        let uevent = text("uevent").unwrap_or_default();
        let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let partition = number("partition").and_then(|number| {
            let disk = fs::canonicalize(dir).ok()?.parent()?.file_name()?.to_str()?.to_owned();
            Some((disk, u32::try_from(number).ok()?))
        });
        Some(BlockDevice {
            name: name.to_owned(),
            partition,
            label: value("PARTNAME="),
            uuid: value("PARTUUID="),
            size: number("size")?.saturating_mul(SYSFS_SECTOR),
        })
    }
}

impl std::fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} MiB", self.path().display(), self.size >> 20)?;
        match &self.label {
            Some(label) => write!(f, ", PARTLABEL={label}"),
            None => Ok(()),
        }
    }
}

/// `struct blkpg_partition` of <linux/blkpg.h>.
#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg` of <linux/blkpg.h>.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// Makes the kernel's view of partition `number` of `disk` agree with the table: `start` and `length` in bytes. Unlike
/// reading the table anew, this works while other partitions of the disk are mounted.
pub fn show_partition(sys: &Path, disk: &str, number: u32, start: u64, length: u64) -> io::Result<BlockDevice> {
    let known = BlockDevice::partition_of(sys, disk, number);
    let operation = match &known {
        Some(device) if device.size == length => return Ok(device.clone()),
        Some(_) => BLKPG_RESIZE_PARTITION,
        None => BLKPG_ADD_PARTITION,
    };
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(out_of_range)?,
        length: length.try_into().map_err(out_of_range)?,
        number: number.try_into().map_err(out_of_range)?,
        names: [0; 128],
    };
    let mut argument =
        BlkpgArgument { operation, flags: 0, length: size_of::<BlkpgPartition>() as libc::c_int, data: &mut partition };
    let node = File::open(Path::new("/dev").join(disk))?;
    // SAFETY: the descriptor is open, and the argument and what it points to are laid out as <linux/blkpg.h> says and
    // live until the call returns.
    let result = unsafe { libc::ioctl(node.as_raw_fd(), BLKPG as _, &mut argument) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    BlockDevice::partition_of(sys, disk, number).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with a disk of two partitions, a RAM disk and an empty drive.
    fn sysfs() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let device = |path: &str, files: &[(&str, &str)]| {
            let dir = sys.path().join("devices").join(path);
            fs::create_dir_all(&dir).unwrap();
            for (file, text) in files {
                fs::write(dir.join(file), text).unwrap();
            }
            let class = sys.path().join("class/block");
            fs::create_dir_all(&class).unwrap();
            symlink(&dir, class.join(dir.file_name().unwrap())).unwrap();
        };
        device("pci/block/vda", &[("size", "2048000\n"), ("uevent", "MAJOR=254\nMINOR=0\n")]);
        let root = "DEVNAME=vda1\nPARTN=1\nPARTUUID=aaaa-bb\nPARTNAME=root-a\n";
        device("pci/block/vda/vda1", &[("size", "1048576\n"), ("partition", "1\n"), ("uevent", root)]);
        device("pci/block/vda/vda2", &[("size", "2048\n"), ("partition", "2\n"), ("uevent", "PARTN=2\n")]);
        device("virtual/block/ram0", &[("size", "8192\n"), ("uevent", "")]);
        device("pci/block/sr0", &[("size", "0\n"), ("uevent", "")]);
        sys
    }

    #[test]
    fn disks_come_before_partitions_and_empty_ones_not_at_all() {
        let sys = sysfs();
        let found = BlockDevice::list(sys.path());
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["vda", "vda1", "vda2"]);
        assert_eq!(found[1].partition, Some(("vda".into(), 1)));
        assert_eq!((found[1].label.as_deref(), found[1].uuid.as_deref()), (Some("root-a"), Some("aaaa-bb")));
        assert_eq!((found[1].size, found[1].disk_name(), found[0].disk_name()), (512 << 20, "vda", "vda"));
        assert_eq!(found[1].to_string(), "/dev/vda1, 512 MiB, PARTLABEL=root-a");
    }

    #[test]
    fn a_partition_is_found_by_disk_and_number_and_by_device_number() {
        let sys = sysfs();
        assert_eq!(BlockDevice::partition_of(sys.path(), "vda", 2).unwrap().name, "vda2");
        assert_eq!(BlockDevice::partition_of(sys.path(), "vda", 3), None);
        let numbers = sys.path().join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        symlink(sys.path().join("devices/pci/block/vda/vda1"), numbers.join("254:1")).unwrap();
        let device = BlockDevice::with_number(sys.path(), rustix::fs::makedev(254, 1)).unwrap();
        assert_eq!((device.name.as_str(), device.disk_name()), ("vda1", "vda"));
    }

    #[test]
    fn a_drive_tells_its_name_and_whether_it_can_be_written() {
        let sys = sysfs();
        let dir = sys.path().join("devices/pci/block/vda");
        fs::create_dir_all(dir.join("device")).unwrap();
        fs::create_dir_all(dir.join("holders/dm-0")).unwrap();
        let disk = &BlockDevice::list(sys.path())[0];
        assert_eq!((disk.model(sys.path()), disk.is_read_only(sys.path())), (None, false));
        for (file, text) in [("device/model", "QEMU HARDDISK   \n"), ("ro", "1\n"), ("removable", "0\n")] {
            fs::write(dir.join(file), text).unwrap();
        }
        assert_eq!(disk.model(sys.path()).as_deref(), Some("QEMU HARDDISK"));
        assert!(disk.is_read_only(sys.path()) && !disk.is_removable(sys.path()));
        assert_eq!(disk.holders(sys.path()), ["dm-0"]);
    }

    #[test]
    fn a_partition_that_the_kernel_shows_already_needs_nothing() {
        let sys = sysfs();
        assert_eq!(show_partition(sys.path(), "vda", 2, 0, 2048 * 512).unwrap().name, "vda2");
    }
}
