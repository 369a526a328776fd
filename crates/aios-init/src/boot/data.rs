//! `/var/lib/aios`: the data partition where there is one, memory where there is not.

use std::fs;
use std::io;
use std::path::Path;

use aios_core::paths;
use aios_storage::block::show_partition;
use aios_storage::data::Machine;
use aios_storage::ext4::{self, Check, ToolError};
use aios_storage::{BlockDevice, DataError, FileDisk, Outcome, prepare};
use rustix::mount::MountFlags;

use super::mounts::{is_mount_point, mount_fs};
use super::{SYS, Stages, media};
use crate::cmdline::Cmdline;
use crate::console::say;

/// Below this a full data partition is said at boot.
const LITTLE_SPACE: u64 = 4 << 20;

const NOTHING_KEPT: &str = "/var/lib/aios is in memory: the system runs, and nothing it stores is kept";

/// An image is as long as its partitions: whoever starts it as it is sees this, and nothing is broken.
const GIVE_ROOM: &str = "to give it room, switch off; then enlarge a virtual machine's disk (`qemu-img resize -f raw FILE.img +4G`), \
     or write the image to a larger disk or card; the next start makes the partition";

/// Where `/var/lib/aios` is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On the data partition: it outlives the boot.
    Partition,
    /// In memory: it ends with the boot.
    Memory,
    /// What the container provides.
    Container,
}

/// Why the data partition is not mounted.
#[derive(Debug, thiserror::Error)]
enum MountError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("/dev/{disk}: {source}")]
    NoPartition { disk: String, source: DataError },
}

/// Mounts the data partition, or memory in its place.
pub fn bring_up(stages: &mut Stages, cmdline: &Cmdline) -> Storage {
    if cmdline.is_live() {
        say("live medium: /var/lib/aios is in memory, nothing is kept");
        return in_memory(stages);
    }
    match mount_partition(cmdline) {
        Ok(()) => {
            warn_if_full();
            Storage::Partition
        }
        Err(MountError::NoPartition { disk, source: no_room @ DataError::NoRoom { .. } }) => {
            stages.without("data", format_args!("no room for a data partition on /dev/{disk}: {no_room}"));
            say(NOTHING_KEPT);
            say(GIVE_ROOM);
            in_memory(stages)
        }
        Err(error) => {
            stages.failed("data", error);
            say(NOTHING_KEPT);
            in_memory(stages)
        }
    }
}

/// Uses what the container has at `/var/lib/aios`, or memory if nothing there can be written.
pub fn bring_up_in_container(stages: &mut Stages) -> Storage {
    match rustix::fs::access(paths::DATA, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Storage::Container,
        Err(_) => in_memory(stages),
    }
}

/// Makes what services and tools expect to find, whoever comes first to put something there.
pub fn make_folders() -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let at = Path::new(paths::SECRETS);
    let configuration = at.parent().expect("invariant: secrets are in the folder of the device's configuration");
    for (path, mode) in [(configuration, 0o755), (at, 0o700)] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn in_memory(stages: &mut Stages) -> Storage {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    stages.run("data", || mount_fs("tmpfs", Path::new(paths::DATA), "tmpfs", flags, "mode=0755"));
    Storage::Memory
}

fn mount_partition(cmdline: &Cmdline) -> Result<(), MountError> {
    let at = Path::new(paths::DATA);
    if is_mount_point(at)? {
        return Ok(());
    }
    let root =
        media::root_device(cmdline).ok_or_else(|| io::Error::other("the disk of the root file system is not known"))?;
    let name = root.disk_name();
    let mut disk = FileDisk::open(&Path::new("/dev").join(name))?;
    let mut machine = ThisMachine { disk: name, shown: None };
    let prepared =
        prepare(&mut disk, &mut machine).map_err(|source| MountError::NoPartition { disk: name.to_owned(), source })?;
    let node = machine.shown.map(|device| device.path()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    mount_ext4(&node, at)?;
    if prepared.grow {
        // Not fatal: all that was stored is there, and the next boot tries again.
        if let Err(error) = ext4::grow(&node) {
            say(format_args!("stage data: the file system could not be grown to its partition: {error}"));
        }
    }
    match prepared.outcome {
        Outcome::Found => {}
        Outcome::Grown => say(format_args!("data partition {} grown to {} MiB", node.display(), prepared.size >> 20)),
        Outcome::Created => say(format_args!("data partition {} created, {} MiB", node.display(), prepared.size >> 20)),
    }
    Ok(())
}

fn mount_ext4(node: &Path, at: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    // A kernel without project quotas refuses the option; limits are then not enforced, and the data is there.
    mount_fs(node, at, "ext4", flags, "prjquota").or_else(|_| mount_fs(node, at, "ext4", flags, ""))
}

/// A full partition breaks services in confusing ways later; this says it at once.
fn warn_if_full() {
    let Ok(space) = rustix::fs::statvfs(paths::DATA) else { return };
    if space.f_bavail.saturating_mul(space.f_frsize) < LITTLE_SPACE {
        say(format_args!(
            "data partition is full: services may fail to store anything; delete files under {}",
            paths::DATA
        ));
    }
    let probe = Path::new(paths::DATA).join(".writable");
    let written = fs::write(&probe, b"1");
    let _ = fs::remove_file(&probe);
    if let Err(error) = written {
        say(format_args!("{} can't be written: {error}", paths::DATA));
    }
}

struct ThisMachine<'a> {
    disk: &'a str,
    shown: Option<BlockDevice>,
}

impl ThisMachine<'_> {
    fn node(&self) -> std::path::PathBuf {
        self.shown.as_ref().map(BlockDevice::path).unwrap_or_default()
    }
}

impl Machine for ThisMachine<'_> {
    fn show(&mut self, number: u32, start: u64, length: u64) -> io::Result<()> {
        self.shown = Some(show_partition(Path::new(SYS), self.disk, number, start, length)?);
        Ok(())
    }

    fn format(&mut self, _number: u32) -> Result<(), ToolError> {
        say(format_args!("first boot: making the data file system on {}", self.node().display()));
        ext4::make(&self.node())
    }

    fn check(&mut self, _number: u32) -> Result<Check, ToolError> {
        ext4::check(&self.node())
    }
}
