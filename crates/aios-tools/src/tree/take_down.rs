//! Taking down what lies at a path.

use std::{
    collections::BTreeMap,
    fs::{self as stdfs, File},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aios_keys::hex;
use rustix::{
    fs::{self, FileType, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{
    node::{Attributes, Blobs, Name, Node},
    way::{Entry, TreeError},
};

/// How much may be taken down.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files, folders and links.
    pub nodes: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Deepest nesting of folders.
const DEPTH_MAX: u32 = 100;

/// Bytes that are moved at a time.
const PIECE: usize = 256 << 10;

/// What is done with contents besides hashing them.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// Nothing: for comparing.
    Hashes,
    /// They are copied.
    Contents(&'a Blobs),
}

/// Takes down what lies at `path`. Copies are on disk when it returns.
pub fn take_down(path: &Path, keep: Keep<'_>, limits: Limits) -> Result<Node, TreeError> {
    let mut work = Work { keep, left: limits, limits };
    let node = work.node(&Entry::at(path)?, 0)?;
    if let Keep::Contents(blobs) = keep {
        let folder = File::open(blobs.folder()).map_err(TreeError::io(blobs.folder()))?;
        fs::syncfs(&folder).map_err(TreeError::errno(blobs.folder()))?;
    }
    Ok(node)
}

struct Work<'a> {
    keep: Keep<'a>,
    left: Limits,
    limits: Limits,
}

impl Work<'_> {
    fn node(&mut self, entry: &Entry, depth: u32) -> Result<Node, TreeError> {
        let Some(stat) = entry.stat()? else { return Ok(Node::Absent) };
        let too_large = |reason| TreeError::TooLarge { path: entry.path().to_owned(), reason };
        self.left.nodes = self.left.nodes.checked_sub(1).ok_or_else(|| {
            too_large(format!("there are more than {} files and folders to keep a copy of", self.limits.nodes))
        })?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(entry),
            FileType::Directory if depth < DEPTH_MAX => self.folder(entry, depth),
            FileType::Directory => Err(too_large(format!("is nested more than {DEPTH_MAX} folders deep"))),
            FileType::Symlink => {
                let target =
                    fs::readlinkat(entry.folder(), entry.name(), Vec::new()).map_err(TreeError::errno(entry.path()))?;
                let target = std::os::unix::ffi::OsStringExt::from_vec(target.into_bytes());
                Ok(Node::Link { uid: stat.st_uid, gid: stat.st_gid, target: Name(target) })
            }
            other => Err(TreeError::Special { path: entry.path().to_owned(), what: special(other) }),
        }
    }

    fn file(&mut self, entry: &Entry) -> Result<Node, TreeError> {
        let file = entry.open(OFlags::RDONLY)?;
        // It may have become something else since it was looked at.
        let stat = fs::fstat(&file).map_err(TreeError::errno(entry.path()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            other => return Err(TreeError::Special { path: entry.path().to_owned(), what: special(other) }),
        }
        let attributes = attributes(&file, entry.path())?;
        let mut copy = match self.keep {
            Keep::Hashes => None,
            Keep::Contents(blobs) => {
                let new = tempfile_in(blobs.folder()).map_err(TreeError::io(blobs.folder()))?;
                Some((new, blobs))
            }
        };
        let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
        let mut file = File::from(file);
        loop {
            let length = file.read(&mut piece).map_err(TreeError::io(entry.path()))?;
            if length == 0 {
                break;
            }
            size += length as u64;
            self.left.bytes = self.left.bytes.checked_sub(length as u64).ok_or_else(|| TreeError::TooLarge {
                path: entry.path().to_owned(),
                reason: format!("there are more than {} bytes to keep a copy of", self.limits.bytes),
            })?;
            hash.update(&piece[..length]);
            if let Some(((_, copy), blobs)) = &mut copy {
                copy.write_all(&piece[..length]).map_err(TreeError::io(blobs.folder()))?;
            }
        }
        let sha256 = hex::encode(&hash.finalize());
        if let Some(((name, copy), blobs)) = copy {
            drop(copy);
            stdfs::rename(&name, blobs.folder().join(&sha256)).map_err(TreeError::io(blobs.folder()))?;
        }
        Ok(Node::File { attributes, size, sha256 })
    }

    fn folder(&mut self, entry: &Entry, depth: u32) -> Result<Node, TreeError> {
        let folder = entry.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let attributes = attributes(&folder, entry.path())?;
        let mut entries = Vec::new();
        for name in entry.names(&folder)? {
            let node = self.node(&entry.child(&folder, &name)?, depth + 1)?;
            if node != Node::Absent {
                entries.push((Name(name), node));
            }
        }
        Ok(Node::Folder { attributes, entries })
    }
}

/// A new file in `folder`, with its path.
fn tempfile_in(folder: &Path) -> io::Result<(std::path::PathBuf, File)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = folder.join(format!(".new-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    // One that an interrupted attempt left is written anew.
    let file = stdfs::OpenOptions::new().write(true).create(true).truncate(true).open(&name)?;
    Ok((name, file))
}

/// Owner, mode and extended attributes of an open file.
pub(super) fn attributes(file: &OwnedFd, path: &Path) -> Result<Attributes, TreeError> {
    let stat = fs::fstat(file).map_err(TreeError::errno(path))?;
    let xattrs = xattrs(file).map_err(TreeError::errno(path))?;
    Ok(Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, xattrs })
}

/// Extended attributes that this process may read, by name.
pub(super) fn xattrs(file: impl AsFd) -> Result<BTreeMap<String, String>, Errno> {
    let mut all = BTreeMap::new();
    let mut list = Vec::with_capacity(64 << 10);
    match fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        // A file system without any.
        Err(Errno::OPNOTSUPP) => return Ok(all),
        Err(error) => return Err(error),
    }
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let mut value = Vec::with_capacity(64 << 10);
        match fs::fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => all.insert(name.to_owned(), hex::encode(&value)),
            // It went away, or is a label of the kernel that nobody reads.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
    }
    Ok(all)
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::BlockDevice | FileType::CharacterDevice => "device",
        _ => "special file",
    }
}
