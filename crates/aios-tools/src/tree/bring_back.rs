//! Bringing back what was taken down.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

use aios_keys::hex;
use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{
    node::{Attributes, Blobs, Name, Node},
    take_down::xattrs,
    way::{Entry, TreeError},
};

/// Bytes that are moved at a time.
const PIECE: usize = 256 << 10;

/// Names that an interrupted attempt can leave; the next one removes it.
const NEW: &str = ".aios-rollback";

/// Makes what lies at `path` what `node` says, whatever lies there now. Doing it again after an interruption is right.
pub fn bring_back(path: &Path, node: &Node, blobs: &Blobs) -> Result<(), TreeError> {
    let entry = Entry::at(path)?;
    restore(&entry, node, blobs)?;
    let folder = fs::openat(entry.folder(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(TreeError::errno(path))?;
    fs::syncfs(&folder).map_err(TreeError::errno(path))
}

fn restore(entry: &Entry, node: &Node, blobs: &Blobs) -> Result<(), TreeError> {
    match node {
        Node::Absent => entry.remove(),
        Node::File { attributes, size, sha256 } => file(entry, attributes, *size, sha256, blobs),
        Node::Folder { attributes, entries } => folder(entry, attributes, entries, blobs),
        Node::Link { uid, gid, target } => {
            let new = sibling(entry)?;
            fs::symlinkat(target.0.as_os_str(), new.folder(), new.name()).map_err(TreeError::errno(entry.path()))?;
            let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            fs::chownat(new.folder(), new.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(TreeError::errno(entry.path()))?;
            replace(&new, entry)
        }
    }
}

fn file(entry: &Entry, wanted: &Attributes, size: u64, sha256: &str, blobs: &Blobs) -> Result<(), TreeError> {
    let damaged = |reason: String| TreeError::Damaged { path: entry.path().to_owned(), reason };
    let mut copy = blobs.open(sha256).map_err(|error| damaged(error.to_string()))?;
    let new = sibling(entry)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        fs::openat(new.folder(), new.name(), flags, Mode::RUSR | Mode::WUSR).map_err(TreeError::errno(entry.path()))?;
    let mut file = File::from(file);
    let found = copy_hashed(&mut copy, &mut file).map_err(TreeError::io(entry.path()))?;
    if found != (size, sha256.to_owned()) {
        new.remove()?;
        return Err(damaged("it is not what was put there".to_owned()));
    }
    let file = OwnedFd::from(file);
    set(&file, wanted, entry.path())?;
    fs::fsync(&file).map_err(TreeError::errno(entry.path()))?;
    replace(&new, entry)
}

fn copy_hashed(from: &mut File, to: &mut File) -> io::Result<(u64, String)> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok((size, hex::encode(&hash.finalize())));
        }
        size += length as u64;
        hash.update(&piece[..length]);
        to.write_all(&piece[..length])?;
    }
}

fn folder(entry: &Entry, wanted: &Attributes, entries: &[(Name, Node)], blobs: &Blobs) -> Result<(), TreeError> {
    if entry.kind()? != Some(FileType::Directory) {
        entry.remove()?;
        fs::mkdirat(entry.folder(), entry.name(), Mode::RWXU).map_err(TreeError::errno(entry.path()))?;
    }
    let folder = entry.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    for name in entry.names(&folder)? {
        if !entries.iter().any(|(wanted, _)| wanted.0 == name) {
            entry.child(&folder, &name)?.remove()?;
        }
    }
    for (name, node) in entries {
        restore(&entry.child(&folder, &name.0)?, node, blobs)?;
    }
    set(&folder, wanted, entry.path())
}

/// Gives an open file the owner, the attributes and the mode, in this order: a change of owner takes the set-user-ID bit
/// and file capabilities away.
fn set(file: &OwnedFd, wanted: &Attributes, path: &Path) -> Result<(), TreeError> {
    let failed = |errno: Errno| TreeError::errno(path)(errno);
    let now = fs::fstat(file).map_err(failed)?;
    if (now.st_uid, now.st_gid) != (wanted.uid, wanted.gid) {
        fs::fchown(file, Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid))).map_err(failed)?;
    }
    let now = xattrs(file).map_err(failed)?;
    for name in now.keys().filter(|name| !wanted.xattrs.contains_key(*name)) {
        fs::fremovexattr(file, name.as_str()).map_err(failed)?;
    }
    for (name, value) in wanted.xattrs.iter().filter(|(name, value)| now.get(*name) != Some(value)) {
        let value = hex::decode_any(value).ok_or_else(|| TreeError::Damaged {
            path: path.to_owned(),
            reason: format!("the attribute {name} is not written in hexadecimal digits"),
        })?;
        fs::fsetxattr(file, name.as_str(), &value, XattrFlags::empty()).map_err(failed)?;
    }
    fs::fchmod(file, Mode::from_raw_mode(wanted.mode)).map_err(failed)
}

/// A free name beside `entry`.
fn sibling(entry: &Entry) -> Result<Entry, TreeError> {
    let new = entry.beside(OsStr::new(NEW))?;
    new.remove()?;
    Ok(new)
}

/// Puts `new` in the place of `entry`.
fn replace(new: &Entry, entry: &Entry) -> Result<(), TreeError> {
    if entry.kind()? == Some(FileType::Directory) {
        entry.remove()?;
    }
    fs::renameat(new.folder(), new.name(), entry.folder(), entry.name()).map_err(TreeError::errno(entry.path()))
}
