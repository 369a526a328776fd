//! A disk as bytes with a sector size: a block device, an image file, or memory in tests.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
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
    /// Makes the next read come from the medium, for a check of what was written and synced.
    fn forget_cached(&mut self) -> io::Result<()> {
        Ok(())
    }
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

    /// Opens for reading and writing a block device that nobody else uses: neither it nor a partition of it is mounted,
    /// swap space, or part of a RAID or device mapper volume. The kernel answers `ResourceBusy` otherwise, and lets
    /// nobody in while this is open.
    pub fn open_exclusive(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::EXCL.bits() as i32;
        Self::with(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?)
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

    fn forget_cached(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?)
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

#[cfg(any(test, feature = "testing"))]
pub mod testing {
    //! A sparse disk in memory that remembers every write, so that a power cut can be placed anywhere between them.

    use std::collections::BTreeMap;
    use std::io::{self, Read, Seek, SeekFrom, Write};

    use super::Disk;

    const SECTOR: usize = 512;

    /// Sectors that are not all zeros, and the single-sector writes that led to them.
    #[derive(Debug, Clone, Default)]
    pub struct MemoryDisk {
        pub size: u64,
        sectors: BTreeMap<u64, Vec<u8>>,
        pub writes: Vec<(u64, Vec<u8>)>,
        /// How many writes there had been at each sync.
        pub syncs: Vec<usize>,
        position: u64,
    }

    impl MemoryDisk {
        pub fn new(size: usize) -> Self {
            MemoryDisk { size: size as u64, ..MemoryDisk::default() }
        }

        /// Makes the disk smaller or larger.
        pub fn resize(&mut self, size: usize) {
            self.size = size as u64;
            self.sectors.split_off(&(self.size / SECTOR as u64));
        }

        /// Changes bytes behind the code's back.
        pub fn put(&mut self, mut at: usize, mut bytes: &[u8]) {
            while !bytes.is_empty() {
                let (number, from) = ((at / SECTOR) as u64, at % SECTOR);
                let (part, rest) = bytes.split_at(bytes.len().min(SECTOR - from));
                let sector = self.sectors.entry(number).or_insert_with(|| vec![0; SECTOR]);
                sector[from..from + part.len()].copy_from_slice(part);
                if sector.iter().all(|byte| *byte == 0) {
                    self.sectors.remove(&number);
                }
                (at, bytes) = (at + part.len(), rest);
            }
        }

        /// Bytes at a place.
        pub fn get(&self, at: usize, length: usize) -> Vec<u8> {
            let mut bytes = vec![0; length];
            self.read_at(at as u64, &mut bytes).expect("invariant: tests read within the disk");
            bytes
        }

        /// Whether both hold the same.
        pub fn same_as(&self, other: &MemoryDisk) -> bool {
            (self.size, &self.sectors) == (other.size, &other.sectors)
        }

        /// This disk with only the first `count` sector writes of `later` applied.
        pub fn cut_after(&self, later: &MemoryDisk, count: usize) -> Self {
            let mut disk = self.clone();
            for (offset, bytes) in &later.writes[self.writes.len()..][..count] {
                disk.put(*offset as usize, bytes);
            }
            disk
        }
    }

    impl Disk for MemoryDisk {
        fn size(&self) -> u64 {
            self.size
        }

        fn sector(&self) -> u64 {
            SECTOR as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let end = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
            if end > self.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.fill(0);
            let sector = SECTOR as u64;
            for (number, bytes) in self.sectors.range(offset / sector..end.div_ceil(sector)) {
                let start = number * sector;
                let (from, to) = (start.max(offset), (start + sector).min(end));
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
            Ok(())
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            if offset + bytes.len() as u64 > self.size {
                return Err(io::ErrorKind::WriteZero.into());
            }
            for (number, part) in (offset / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
                assert!(offset.is_multiple_of(SECTOR as u64) && part.len() == SECTOR, "whole sectors only");
                match part.iter().all(|byte| *byte == 0) {
                    true => self.sectors.remove(&number),
                    false => self.sectors.insert(number, part.to_vec()),
                };
                self.writes.push((number * SECTOR as u64, part.to_vec()));
            }
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.syncs.push(self.writes.len());
            Ok(())
        }
    }

    impl Read for MemoryDisk {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.size.saturating_sub(self.position) as usize);
            self.read_at(self.position, &mut buffer[..length])?;
            self.position += length as u64;
            Ok(length)
        }
    }

    impl Write for MemoryDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.put(self.position as usize, bytes);
            self.position += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for MemoryDisk {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let moved = match to {
                SeekFrom::Start(at) => Some(at),
                SeekFrom::End(by) => self.size.checked_add_signed(by),
                SeekFrom::Current(by) => self.position.checked_add_signed(by),
            };
            self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
            Ok(self.position)
        }
    }
}
