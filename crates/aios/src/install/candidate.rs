//! Disks that an installation may go to, and the reasons why one is refused. Everything here only reads.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use aios_storage::{BlockDevice, Disk, FileDisk};

use super::{Contents, Plan};

/// Sector size of the disks that the image is made for: boot code, FAT and table count in it.
const SECTOR: u64 = 512;

/// Where the facts about disks come from; replaced in tests.
#[derive(Debug, Clone)]
pub struct Machine {
    pub sys: PathBuf,
    pub proc: PathBuf,
    pub dev: PathBuf,
    /// Kernel name of the disk that the live system runs from.
    pub medium: Option<String>,
}

/// A disk with everything that decides about it.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub device: BlockDevice,
    pub path: PathBuf,
    pub model: Option<String>,
    pub removable: bool,
    /// What is on it, or why it can't be read.
    pub contents: Result<Contents, String>,
    sector: u64,
    read_only: bool,
    is_medium: bool,
    used: Option<String>,
}

/// What an installation may overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Nothing.
    Nothing,
    /// Everything but an installed aiOS: who starts from the medium again must not lose what was stored since.
    AllButAios,
    /// Everything.
    Anything,
}

/// Why nothing is installed on a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}: {1}")]
    Missing(PathBuf, String),
    #[error("{0} is not a block device; `aios install --list` shows the disks")]
    NotBlockDevice(PathBuf),
    #[error("{0} is a partition; name the disk, {1}")]
    Partition(PathBuf, PathBuf),
    #[error("{0} is the medium that this system runs from")]
    LiveMedium(PathBuf),
    #[error("{0} is in use: {1}")]
    InUse(PathBuf, String),
    #[error("{0} is read-only; look for a write-protect switch")]
    ReadOnly(PathBuf),
    #[error("{path} is too small: it has {} MiB, and {} MiB are needed", .size >> 20, .needed.div_ceil(1 << 20))]
    TooSmall { path: PathBuf, size: u64, needed: u64 },
    #[error("{0} has sectors of {1} bytes, and aiOS boots from disks with 512")]
    Sectors(PathBuf, u64),
    #[error("{0} can't be read: {1}")]
    Unreadable(PathBuf, String),
    #[error(
        "{0} is not empty, it holds {1}; --force (unattended: install.force = true) overwrites it, and all of it is lost"
    )]
    NotEmpty(PathBuf, Contents),
    #[error(
        "{0} holds aiOS already; take the medium out and start from the disk (`aios install --force {0}` replaces it, and its data is lost)"
    )]
    Installed(PathBuf),
}

impl Machine {
    /// The one we run on, with the live medium mounted at `medium`.
    pub fn this(medium: &Path) -> Machine {
        let sys = PathBuf::from("/sys");
        let number = fs::metadata(medium).map(|medium| medium.dev());
        let device = number.ok().and_then(|number| BlockDevice::with_number(&sys, number));
        let medium = device.map(|device| device.disk_name().to_owned());
        Machine { sys, proc: "/proc".into(), dev: "/dev".into(), medium }
    }

    /// The drives of this machine, without those for discs.
    pub fn list(&self, plan: &Plan) -> Vec<Candidate> {
        let drives = BlockDevice::list(&self.sys).into_iter().filter(|device| self.is_drive(device));
        drives.map(|device| self.inspect(device, plan)).collect()
    }

    /// The disk at `path`.
    pub fn find(&self, path: &Path, plan: &Plan) -> Result<Candidate, Refusal> {
        let missing = |error: io::Error| Refusal::Missing(path.to_owned(), error.to_string());
        let metadata = fs::metadata(path).map_err(missing)?;
        let device = BlockDevice::with_number(&self.sys, metadata.rdev());
        match device.filter(|_| metadata.file_type().is_block_device()) {
            None => Err(Refusal::NotBlockDevice(path.to_owned())),
            Some(device) if device.partition.is_some() => {
                Err(Refusal::Partition(path.to_owned(), self.dev.join(device.disk_name())))
            }
            Some(device) => Ok(self.inspect(device, plan)),
        }
    }

    fn is_drive(&self, device: &BlockDevice) -> bool {
        // Loops, RAID and device mapper have no hardware behind them; `sr` are drives for discs.
        let has_hardware = self.sys.join("class/block").join(&device.name).join("device").exists();
        device.partition.is_none() && has_hardware && !device.name.starts_with("sr")
    }

    fn inspect(&self, device: BlockDevice, plan: &Plan) -> Candidate {
        let path = self.dev.join(&device.name);
        let disk = FileDisk::open_read_only(&path);
        let contents = match &disk {
            Ok(disk) => Contents::of(disk, plan).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Candidate {
            path,
            model: device.model(&self.sys),
            removable: device.is_removable(&self.sys),
            contents,
            sector: disk.as_ref().map_or(SECTOR, |disk| disk.sector()),
            read_only: device.is_read_only(&self.sys),
            is_medium: self.medium.as_deref() == Some(device.name.as_str()),
            used: self.user_of(&device.name),
            device,
        }
    }

    /// Who uses the disk or a partition of it.
    fn user_of(&self, disk: &str) -> Option<String> {
        let text = |file: &str| fs::read_to_string(self.proc.join(file)).unwrap_or_default();
        let devices: Vec<BlockDevice> =
            BlockDevice::list(&self.sys).into_iter().filter(|device| device.disk_name() == disk).collect();
        let mount = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let (major, minor) = fields.get(2)?.split_once(':')?;
            let number = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
            let device = BlockDevice::with_number(&self.sys, number)?;
            (device.disk_name() == disk)
                .then(|| format!("{} is mounted at {}", device.name, fields.get(4).unwrap_or(&"?")))
        };
        let swap = |line: &str| {
            let name = line.split_whitespace().next()?.strip_prefix("/dev/")?;
            devices.iter().any(|device| device.name == name).then(|| format!("{name} is swap space"))
        };
        let part = |device: &BlockDevice| {
            device.holders(&self.sys).first().map(|holder| format!("{} is part of {holder}", device.name))
        };
        let mounts = text("self/mountinfo");
        let swaps = text("swaps");
        mounts
            .lines()
            .find_map(mount)
            .or_else(|| swaps.lines().find_map(swap))
            .or_else(|| devices.iter().find_map(part))
    }
}

impl Candidate {
    /// Why nothing may be installed here; `None` if it may.
    pub fn refusal(&self, plan: &Plan, overwrite: Overwrite) -> Option<Refusal> {
        let (path, size, needed) = (self.path.clone(), self.device.size, plan.needed());
        if self.is_medium {
            return Some(Refusal::LiveMedium(path));
        }
        if let Some(user) = &self.used {
            return Some(Refusal::InUse(path, user.clone()));
        }
        if self.read_only {
            return Some(Refusal::ReadOnly(path));
        }
        if size < needed {
            return Some(Refusal::TooSmall { path, size, needed });
        }
        if self.sector != SECTOR {
            return Some(Refusal::Sectors(path, self.sector));
        }
        match (&self.contents, overwrite) {
            (Err(error), _) => Some(Refusal::Unreadable(path, error.clone())),
            (Ok(contents), _) if contents.is_free() => None,
            (Ok(_), Overwrite::Anything) => None,
            (Ok(Contents::Aios), _) => Some(Refusal::Installed(path)),
            (Ok(_), Overwrite::AllButAios) => None,
            (Ok(contents), Overwrite::Nothing) => Some(Refusal::NotEmpty(path, contents.clone())),
        }
    }

    /// Whether an installation that names no disk may choose this one.
    pub fn is_choice(&self, plan: &Plan) -> bool {
        !self.removable && self.refusal(plan, Overwrite::Nothing).is_none()
    }
}

#[cfg(test)]
mod tests;
