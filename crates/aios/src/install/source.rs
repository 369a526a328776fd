//! The bytes of a partition, put together from the files of the live medium.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use aios_storage::gpt::BOOT_CODE;

use super::plan::{BootCode, Extent, Partition};

/// A mounted live medium.
#[derive(Debug, Clone)]
pub struct Medium {
    root: PathBuf,
}

/// Contents of one partition, from its first byte to the last that the plan knows.
pub struct Contents<'a> {
    medium: &'a Medium,
    partition: &'a Partition,
    position: u64,
    /// The file that was read last.
    open: Option<(&'a str, File)>,
}

/// What is at a position.
enum Piece<'a> {
    File(&'a Extent),
    /// So many zeros.
    Zeros(u64),
}

impl Medium {
    pub fn new(root: impl Into<PathBuf>) -> Medium {
        Medium { root: root.into() }
    }

    /// The boot code of the first sector.
    pub fn boot_code(&self, place: &BootCode) -> io::Result<[u8; BOOT_CODE]> {
        let mut code = [0; BOOT_CODE];
        let read = self.open(&place.file)?.read_exact_at(&mut code, place.at);
        read.map_err(|error| named(&place.file, error))?;
        Ok(code)
    }

    /// The contents of `partition`.
    pub fn contents<'a>(&'a self, partition: &'a Partition) -> Contents<'a> {
        Contents { medium: self, partition, position: 0, open: None }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.root.join(name)).map_err(|error| named(name, error))
    }
}

impl<'a> Contents<'a> {
    fn read_file(&mut self, extent: &'a Extent, buffer: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.open {
            Some((name, file)) if *name == extent.file => file,
            open => &mut open.insert((&extent.file, self.medium.open(&extent.file)?)).1,
        };
        let inside = self.position - extent.offset;
        let length = fitting(extent.length - inside, buffer);
        let read = file.read_exact_at(&mut buffer[..length], extent.at + inside);
        read.map_err(|error| named(&extent.file, error))?;
        Ok(length)
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match piece_at(self.partition, self.position) {
            Piece::File(extent) => self.read_file(extent, buffer)?,
            Piece::Zeros(count) => {
                let length = fitting(count, buffer);
                buffer[..length].fill(0);
                length
            }
        };
        self.position += length as u64;
        Ok(length)
    }
}

fn piece_at(partition: &Partition, position: u64) -> Piece<'_> {
    let next = partition.extents.iter().find(|extent| position < extent.offset + extent.length);
    match next {
        Some(extent) if extent.offset <= position => Piece::File(extent),
        Some(extent) => Piece::Zeros(extent.offset - position),
        None => Piece::Zeros(partition.length - position),
    }
}

fn fitting(length: u64, buffer: &[u8]) -> usize {
    usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()))
}

fn named(file: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{file} on the medium: {error}"))
}
