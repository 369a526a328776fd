//! Paths below the folders that a module was handed.
//!
//! Every path is opened by `openat2` beneath its folder, and no link on the way is followed, so there is no moment in
//! which somebody could lead it elsewhere. What changes a name works on the opened folder that holds it.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use super::{
    Done, ENTRY_COST, Fail, Guest, abi,
    abi::Errno,
    files::{Entry, Open, OpenFile, OpenFolder, times},
};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// How often an opening is tried that others' renames disturb.
const TRIES: u32 = 16;
/// Most names of a folder that is listed.
const NAMES_MAX: usize = 20_000;
/// Mode of new files and folders: nothing is executable, and others may read.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

fn open_beneath(folder: impl AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if path.starts_with('/') {
        return Err(Errno::NOTCAPABLE);
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&folder, path, flags, mode, RESOLVE) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return other.map_err(Errno::of),
        }
    }
    Err(Errno::of(rustix::io::Errno::AGAIN))
}

/// The folder that holds the end of `path`, and the end: a name, and neither `.` nor `..`.
fn place<'p>(folder: &OwnedFd, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
    if path.starts_with('/') {
        return Err(Errno::NOTCAPABLE);
    }
    let path = path.trim_end_matches('/');
    let (holder, name) = path.rsplit_once('/').unwrap_or((".", path));
    match name {
        "" => Err(Errno::NOENT),
        "." => Err(Errno::INVAL),
        ".." => Err(Errno::NOTCAPABLE),
        _ => Ok((open_beneath(folder, holder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name)),
    }
}

#[expect(clippy::too_many_arguments, reason = "the interface has as many")]
pub(super) fn path_open(
    guest: &mut Guest<'_>,
    fd: u32,
    _look: u32,
    path: u32,
    length: u32,
    how: u32,
    rights: u64,
    _inheriting: u64,
    flags: u32,
    at: u32,
) -> Done {
    let folder = guest.state.files.folder(fd)?;
    let path = guest.memory.path(path, length)?;
    let asks = |flag: u32| how & flag != 0;
    let as_folder = asks(abi::OPEN_DIRECTORY);
    // Programs that open a folder ask for all rights that they can have.
    let writes = !as_folder && rights & (abi::RIGHT_WRITE | abi::RIGHT_ALLOCATE | abi::RIGHT_SET_SIZE) != 0;
    let reads = as_folder || !writes || rights & abi::RIGHT_READ != 0;
    if !folder.writable && (writes || asks(abi::OPEN_CREATE) || asks(abi::OPEN_TRUNCATE)) {
        return Err(Errno::ROFS.into());
    }
    if asks(abi::OPEN_CREATE) {
        guest.state.spend(ENTRY_COST)?;
    }
    let appends = flags & abi::APPEND != 0;
    // Nothing is opened so that it waits: a pipe would.
    let mut system = OFlags::NONBLOCK | OFlags::NOCTTY;
    system |= match (reads, writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    system.set(OFlags::APPEND, appends && writes);
    system.set(OFlags::CREATE, asks(abi::OPEN_CREATE));
    system.set(OFlags::EXCL, asks(abi::OPEN_EXCLUSIVE) && asks(abi::OPEN_CREATE));
    system.set(OFlags::TRUNC, asks(abi::OPEN_TRUNCATE));
    system.set(OFlags::DIRECTORY, as_folder);
    let mode = if asks(abi::OPEN_CREATE) { FILE_MODE } else { Mode::empty() };
    let opened = open_beneath(&folder.folder, &path, system, mode)?;
    let stat = rustix::fs::fstat(&opened)?;
    let open = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Open::Folder(Rc::new(OpenFolder {
            folder: opened,
            writable: folder.writable,
            handed: None,
            listing: std::cell::RefCell::default(),
        })),
        FileType::RegularFile => Open::File(Rc::new(OpenFile { file: File::from(opened), reads, writes, appends })),
        // A pipe, a socket or a device leads to somebody else.
        _ => return Err(Errno::NOTCAPABLE.into()),
    };
    let fd = guest.state.files.add(open)?;
    Ok(guest.memory.put_u32(at, fd)?)
}

pub(super) fn path_filestat_get(guest: &mut Guest<'_>, fd: u32, _look: u32, path: u32, length: u32, at: u32) -> Done {
    let folder = guest.state.files.folder(fd)?;
    let path = guest.memory.path(path, length)?;
    // A link at the end is shown as what it is.
    let stat = match place(&folder.folder, &path) {
        Ok((holder, name)) => rustix::fs::statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?,
        Err(Errno::INVAL | Errno::NOTCAPABLE) => {
            rustix::fs::fstat(open_beneath(&folder.folder, &path, OFlags::PATH, Mode::empty())?)?
        }
        Err(errno) => return Err(errno.into()),
    };
    Ok(guest.memory.put(at, &abi::file_stat(&stat))?)
}

#[expect(clippy::too_many_arguments, reason = "the interface has as many")]
pub(super) fn path_filestat_set_times(
    guest: &mut Guest<'_>,
    fd: u32,
    _look: u32,
    path: u32,
    length: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Done {
    let folder = guest.state.files.writable(fd)?;
    let path = guest.memory.path(path, length)?;
    let times = times(accessed, modified, flags)?;
    let (holder, name) = place(&folder.folder, &path)?;
    Ok(rustix::fs::utimensat(holder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn path_create_directory(guest: &mut Guest<'_>, fd: u32, path: u32, length: u32) -> Done {
    let folder = guest.state.files.writable(fd)?;
    let path = guest.memory.path(path, length)?;
    let (holder, name) = place(&folder.folder, &path)?;
    guest.state.spend(ENTRY_COST)?;
    Ok(rustix::fs::mkdirat(holder, name, FOLDER_MODE)?)
}

pub(super) fn path_remove_directory(guest: &mut Guest<'_>, fd: u32, path: u32, length: u32) -> Done {
    unlink(guest, fd, path, length, AtFlags::REMOVEDIR)
}

pub(super) fn path_unlink_file(guest: &mut Guest<'_>, fd: u32, path: u32, length: u32) -> Done {
    unlink(guest, fd, path, length, AtFlags::empty())
}

fn unlink(guest: &mut Guest<'_>, fd: u32, path: u32, length: u32, flags: AtFlags) -> Done {
    let folder = guest.state.files.writable(fd)?;
    let path = guest.memory.path(path, length)?;
    let (holder, name) = place(&folder.folder, &path)?;
    Ok(rustix::fs::unlinkat(holder, name, flags)?)
}

pub(super) fn path_rename(
    guest: &mut Guest<'_>,
    fd: u32,
    path: u32,
    length: u32,
    to: u32,
    new: u32,
    new_length: u32,
) -> Done {
    let (from, to) = (guest.state.files.writable(fd)?, guest.state.files.writable(to)?);
    let (path, new) = (guest.memory.path(path, length)?, guest.memory.path(new, new_length)?);
    let (holder, name) = place(&from.folder, &path)?;
    let (new_holder, new_name) = place(&to.folder, &new)?;
    Ok(rustix::fs::renameat(holder, name, new_holder, new_name)?)
}

/// A second name for a file can outlive the call and be found elsewhere; nobody needs one.
#[allow(clippy::too_many_arguments, reason = "as the standard has it")]
pub(super) fn path_link(
    guest: &mut Guest<'_>,
    fd: u32,
    _look: u32,
    _path: u32,
    _length: u32,
    to: u32,
    _new: u32,
    _new_length: u32,
) -> Done {
    guest.state.files.folder(fd)?;
    guest.state.files.folder(to)?;
    Err(Errno::NOTSUP.into())
}

/// Somebody else might follow it.
pub(super) fn path_symlink(
    guest: &mut Guest<'_>,
    _target: u32,
    _target_length: u32,
    fd: u32,
    _path: u32,
    _length: u32,
) -> Done {
    guest.state.files.folder(fd)?;
    Err(Errno::NOTSUP.into())
}

/// Where a link leads to is outside, mostly.
pub(super) fn path_readlink(
    guest: &mut Guest<'_>,
    fd: u32,
    _path: u32,
    _length: u32,
    _at: u32,
    _room: u32,
    _used: u32,
) -> Done {
    guest.state.files.folder(fd)?;
    Err(Errno::NOTSUP.into())
}

/// Lists a folder from the entry `cookie` on, as it was when its listing began. An entry that has no room is cut, by
/// which the program sees that there are more.
pub(super) fn fd_readdir(guest: &mut Guest<'_>, fd: u32, at: u32, length: u32, cookie: u64, used: u32) -> Done {
    let folder = guest.state.files.folder(fd)?;
    if cookie == 0 {
        let entries = list(&folder.folder)?;
        guest.cost += entries.len() as u64;
        folder.listing.replace(entries);
    }
    let first = usize::try_from(cookie).map_err(|_| Errno::INVAL)?;
    let buffer = guest.memory.bytes_mut(at, length)?;
    let mut filled = 0;
    for (index, entry) in folder.listing.borrow().iter().enumerate().skip(first) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&(index as u64 + 1).to_le_bytes());
        bytes[8..16].copy_from_slice(&entry.inode.to_le_bytes());
        bytes[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
        bytes[20] = entry.kind;
        for part in [&bytes[..], &entry.name] {
            let fits = part.len().min(buffer.len() - filled);
            buffer[filled..filled + fits].copy_from_slice(&part[..fits]);
            filled += fits;
        }
        if filled == buffer.len() {
            break;
        }
    }
    let filled = u32::try_from(filled).map_err(|_| Errno::OVERFLOW)?;
    guest.copies(filled.into());
    Ok(guest.memory.put_u32(used, filled)?)
}

fn list(folder: &OwnedFd) -> Result<Vec<Entry>, Fail> {
    let reading = open_beneath(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut entries = Vec::new();
    let mut buffer = vec![std::mem::MaybeUninit::uninit(); 32 << 10];
    let mut names = rustix::fs::RawDir::new(reading, &mut buffer);
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() >= NAMES_MAX {
            return Err(Errno::OVERFLOW.into());
        }
        let (name, inode, kind) = (name.to_bytes().to_vec(), entry.ino(), abi::kind(entry.file_type()));
        entries.push(Entry { name, inode, kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
