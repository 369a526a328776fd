//! Disks: what is written is what is read, past every cache.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aios_storage::{BlockDevice, FileDisk};
use sha2::{Digest, Sha256};

use crate::{Options, Problem, absent, failed};

/// Bytes that are written to a scratch disk, and to a file on the data partition.
const WRITTEN: usize = 16 << 20;
/// Bytes that are read at each of three places of any other disk.
const READ: usize = 2 << 20;
/// Direct I/O wants buffers and places that are multiples of the largest sector.
const ALIGNMENT: usize = 4096;

/// A disk that may be overwritten. As long as it is held, nothing can mount it or make it a part of something else.
#[derive(Debug)]
pub struct ScratchDisk {
    path: PathBuf,
    device: BlockDevice,
    _claim: FileDisk,
}

/// Why a disk is not overwritten.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// It can't be opened.
    #[error("{0}: {1}; nothing was written to it")]
    Open(PathBuf, io::Error),
    /// It is a file, a folder or another kind of device.
    #[error("{0} is not a disk: a scratch disk is a block device such as /dev/sdb")]
    NotBlockDevice(PathBuf),
    /// The kernel uses it.
    #[error(
        "{0} is in use and will not be overwritten: it or a part of it is mounted, swap space, or part of a RAID or device \
         mapper volume (see /proc/mounts, /proc/swaps and /sys/block/*/holders)"
    )]
    InUse(PathBuf),
}

impl ScratchDisk {
    /// Claims the disk at `path` from the kernel, which refuses where it uses the disk itself.
    pub fn claim(path: &Path) -> Result<Self, ScratchError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::ResourceBusy => ScratchError::InUse(path.to_owned()),
            _ => ScratchError::Open(path.to_owned(), error),
        };
        let metadata = fs::metadata(path).map_err(refused)?;
        if !metadata.file_type().is_block_device() {
            return Err(ScratchError::NotBlockDevice(path.to_owned()));
        }
        let claim = FileDisk::open_exclusive(path).map_err(refused)?;
        let device = BlockDevice::with_number(Path::new("/sys"), metadata.rdev())
            .ok_or_else(|| refused(io::Error::other("/sys does not show this device")))?;
        Ok(ScratchDisk { path: path.to_owned(), device, _claim: claim })
    }
}

/// Scratch disks and a file are written and read; all other disks are read twice.
pub fn integrity(options: &Options) -> Result<String, Problem> {
    let mut told = Vec::new();
    for disk in &options.scratch {
        write_and_read(&disk.path, false)?;
        told.push(format!("{} ({}) written and read", disk.path.display(), driver_of(disk.device.disk_name())));
    }
    let file = options.data.join(format!("selftest-{}.bin", std::process::id()));
    let outcome = write_and_read(&file, true);
    let _ = fs::remove_file(&file);
    outcome?;
    told.push(format!("{} written and read", options.data.display()));
    let disks = disks().map_err(Problem::io("/sys/block"))?;
    let is_scratch = |disk: &str| options.scratch.iter().any(|scratch| scratch.device.name == disk);
    for disk in disks.iter().filter(|disk| !is_scratch(disk)) {
        if read_twice(&Path::new("/dev").join(disk))? {
            told.push(format!("{disk} ({}) read", driver_of(disk)));
        }
    }
    if disks.is_empty() {
        return absent("there is no disk");
    }
    Ok(told.join(", "))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names of the disks with a device behind them: neither loop devices nor memory.
fn disks() -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir("/sys/block")?
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// The driver of the first device from the disk upwards that has a bus of machines: `virtio_blk`, `ahci`, `nvme`.
fn driver_of(disk: &str) -> String {
    let Ok(device) = fs::canonicalize(format!("/sys/block/{disk}/device")) else { return "no driver".into() };
    let generic = ["sd", "sr"];
    let drivers = device.ancestors().filter_map(|at| fs::read_link(at.join("driver")).ok()).map(|link| name_of(&link));
    drivers.into_iter().find(|name| !generic.contains(&name.as_str())).unwrap_or_else(|| "no driver".into())
}

fn write_and_read(path: &Path, create: bool) -> Result<(), Problem> {
    let mut data = Aligned::of(WRITTEN);
    fill_randomly(data.bytes()).map_err(Problem::io("random numbers"))?;
    let expected = Sha256::digest(data.bytes());
    let mut file = open(path, OpenOptions::new().write(true).create(create)).map_err(Problem::io(path.display()))?;
    file.write_all(data.bytes()).and_then(|()| file.sync_all()).map_err(Problem::io(path.display()))?;
    drop(file);
    let mut file = open(path, OpenOptions::new().read(true)).map_err(Problem::io(path.display()))?;
    data.bytes().fill(0);
    file.read_exact(data.bytes()).map_err(Problem::io(path.display()))?;
    if Sha256::digest(data.bytes()) != expected {
        return failed(format!("{}: of {} MiB written, others were read", path.display(), WRITTEN >> 20));
    }
    Ok(())
}

/// Whether there was something to read.
fn read_twice(disk: &Path) -> Result<bool, Problem> {
    let mut file = match open(disk, OpenOptions::new().read(true)) {
        Ok(file) => file,
        // A drive without a medium.
        Err(error) if error.raw_os_error() == Some(libc::ENOMEDIUM) => return Ok(false),
        Err(error) => return Err(Problem::io(disk.display())(error)),
    };
    let size = file.seek(SeekFrom::End(0)).map_err(Problem::io(disk.display()))? as usize;
    let length = READ.min(size / ALIGNMENT * ALIGNMENT);
    let mut data = Aligned::of(length);
    for place in [0, (size - length) / 2, size - length].map(|place| place / ALIGNMENT * ALIGNMENT) {
        let mut digests = [const { None }; 2];
        for digest in &mut digests {
            file.seek(SeekFrom::Start(place as u64))
                .and_then(|_| file.read_exact(data.bytes()))
                .map_err(Problem::io(format_args!("{} at byte {place}", disk.display())))?;
            *digest = Some(Sha256::digest(data.bytes()));
        }
        if digests[0] != digests[1] {
            return failed(format!("{} at byte {place}: two reads gave different bytes", disk.display()));
        }
    }
    Ok(length > 0)
}

/// Opens past the page cache, where the file system can (tmpfs can't).
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        opened => opened,
    }
}

fn fill_randomly(buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let filled = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())?;
        rest = &mut rest[filled..];
    }
    Ok(())
}

/// Bytes that begin where direct I/O can use them.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn of(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Aligned { memory, start, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_and_read_back() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        write_and_read(&folder.path().join("file"), true).unwrap();
    }

    #[test]
    fn only_a_block_device_is_a_scratch_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/dev/null"), Path::new("/")] {
            let refused = ScratchDisk::claim(path).unwrap_err();
            assert!(matches!(&refused, ScratchError::NotBlockDevice(named) if named == path), "{refused}");
        }
        let refused = ScratchDisk::claim(Path::new("/dev/no-such-disk")).unwrap_err();
        assert!(matches!(refused, ScratchError::Open(..)), "{refused}");
    }

    #[test]
    fn buffers_are_aligned() {
        let mut buffer = Aligned::of(8192);
        assert_eq!(buffer.bytes().as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(buffer.bytes().len(), 8192);
    }
}
