//! A disk as bytes with a sector size: a block device, an image file, or memory in tests.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// Sector size of image files and of nearly all disks.
const DEFAULT_SECTOR: u64 = 512;

/// Random access to a disk.
pub trait Disk {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Bytes of a logical sector, the unit of partition tables.
    fn sector(&self) -> u64;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; on the medium only after [`Disk::sync`].
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written is on the medium.
    fn sync(&mut self) -> io::Result<()>;
}

/// A block device or an image file.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    size: u64,
    sector: u64,
}

impl FileDisk {
    /// Opens for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// Opens for reading.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        Self::with(File::open(path)?)
    }

    fn with(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.file_type().is_block_device() {
            return Ok(FileDisk { file, size: metadata.len(), sector: DEFAULT_SECTOR });
        }
        let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        let sector = u64::from(rustix::fs::ioctl_blksszget(&file)?);
        Ok(FileDisk { file, size, sector: sector.max(DEFAULT_SECTOR) })
    }
}

impl Disk for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u64 {
        self.sector
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// A window of a disk: one partition of it.
#[derive(Debug)]
pub struct Window<'a, D: ?Sized> {
    disk: &'a D,
    start: u64,
    size: u64,
}

impl<'a, D: Disk + ?Sized> Window<'a, D> {
    /// The `size` bytes from `start`.
    pub fn new(disk: &'a D, start: u64, size: u64) -> Self {
        Window { disk, start, size }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset` within the window.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.disk.read_at(self.start + offset, buffer)
    }
}

#[cfg(test)]
pub mod testing {
    //! A disk in memory that remembers every write, so that a power cut can be placed anywhere between them.

    use std::io;

    use super::Disk;

    /// Bytes, and the single-sector writes that led to them.
    #[derive(Debug, Clone)]
    pub struct MemoryDisk {
        pub bytes: Vec<u8>,
        pub sector: u64,
        pub writes: Vec<(u64, Vec<u8>)>,
    }

    impl MemoryDisk {
        pub fn new(size: usize) -> Self {
            MemoryDisk { bytes: vec![0; size], sector: 512, writes: Vec::new() }
        }

        /// The disk as it was before, with only the first `count` sector writes of `later` applied.
        pub fn cut_after(&self, later: &MemoryDisk, count: usize) -> Self {
            let mut disk = self.clone();
            disk.writes.clear();
            for (offset, bytes) in &later.writes[self.writes.len()..][..count] {
                disk.bytes[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            disk
        }
    }

    impl Disk for MemoryDisk {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn sector(&self) -> u64 {
            self.sector
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let from = self.bytes.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            for (index, part) in bytes.chunks(self.sector as usize).enumerate() {
                let at = offset + index as u64 * self.sector;
                self.bytes
                    .get_mut(at as usize..at as usize + part.len())
                    .ok_or(io::ErrorKind::WriteZero)?
                    .copy_from_slice(part);
                self.writes.push((at, part.to_vec()));
            }
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
