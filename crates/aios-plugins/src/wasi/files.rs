//! What a module has open, by number: 0 to 2 are its streams, then come the folders that it was handed.

use std::{fs::File, os::fd::OwnedFd, rc::Rc};

use rustix::fs::{SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::{Done, Fail, Guest, abi, abi::Errno};

/// Most open files and folders of a module.
const OPEN_MAX: usize = 64;
/// Size to which a file may grow, in bytes: below that at which the sandbox ends the process.
pub(super) const FILE_SIZE_MAX: u64 = 128 << 20;

/// A folder that is handed over.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Where the module sees it: `/logs`.
    pub path: String,
    /// The folder.
    pub folder: OwnedFd,
    /// Whether anything below can be changed.
    pub writable: bool,
}

/// All that is open.
#[derive(Debug)]
pub(super) struct Files(Vec<Option<Open>>);

/// Something open.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// The call's arguments.
    Input,
    /// The call's result.
    Output,
    /// Complaints.
    Errors,
    /// A folder.
    Folder(Rc<OpenFolder>),
    /// A file.
    File(Rc<OpenFile>),
}

/// An open folder.
#[derive(Debug)]
pub(super) struct OpenFolder {
    pub folder: OwnedFd,
    pub writable: bool,
    /// Where the module sees it, if it was handed over.
    pub handed: Option<String>,
    /// What was in it when its listing began.
    pub listing: std::cell::RefCell<Vec<Entry>>,
}

/// A name in a folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: u8,
}

/// An open file. What it was opened for is what the system lets it do.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub file: File,
    pub reads: bool,
    pub writes: bool,
    pub appends: bool,
}

impl Files {
    pub(super) fn new(folders: Vec<Folder>) -> Files {
        let handed = folders.into_iter().map(|Folder { path, folder, writable }| {
            Open::Folder(Rc::new(OpenFolder {
                folder,
                writable,
                handed: Some(path),
                listing: std::cell::RefCell::default(),
            }))
        });
        Files([Open::Input, Open::Output, Open::Errors].into_iter().chain(handed).map(Some).collect())
    }

    /// What has this number.
    pub(super) fn get(&self, fd: u32) -> Result<Open, Errno> {
        self.0.get(fd as usize).and_then(Clone::clone).ok_or(Errno::BADF)
    }

    /// The folder of this number.
    pub(super) fn folder(&self, fd: u32) -> Result<Rc<OpenFolder>, Errno> {
        match self.get(fd)? {
            Open::Folder(folder) => Ok(folder),
            Open::Input | Open::Output | Open::Errors | Open::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// The folder of this number, where it can be changed.
    pub(super) fn writable(&self, fd: u32) -> Result<Rc<OpenFolder>, Errno> {
        self.folder(fd).and_then(|folder| if folder.writable { Ok(folder) } else { Err(Errno::ROFS) })
    }

    /// The file of this number.
    pub(super) fn file(&self, fd: u32) -> Result<Rc<OpenFile>, Errno> {
        match self.get(fd)? {
            Open::File(file) => Ok(file),
            Open::Folder(_) => Err(Errno::BADF),
            Open::Input | Open::Output | Open::Errors => Err(Errno::SPIPE),
        }
    }

    /// The file of this number, where it can be changed.
    fn changeable(&self, fd: u32) -> Result<Rc<OpenFile>, Errno> {
        self.file(fd).and_then(|file| if file.writes { Ok(file) } else { Err(Errno::BADF) })
    }

    /// Gives `open` the lowest free number.
    pub(super) fn add(&mut self, open: Open) -> Result<u32, Errno> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free >= OPEN_MAX {
            return Err(Errno::MFILE);
        }
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(open);
        Ok(u32::try_from(free).expect("invariant: there are few"))
    }
}

pub(super) fn fd_close(guest: &mut Guest<'_>, fd: u32) -> Done {
    guest.state.files.get(fd)?;
    guest.state.files.0[fd as usize] = None;
    Ok(())
}

pub(super) fn fd_renumber(guest: &mut Guest<'_>, from: u32, to: u32) -> Done {
    let files = &mut guest.state.files;
    files.get(to)?;
    files.0[to as usize] = Some(files.get(from)?);
    if from != to {
        files.0[from as usize] = None;
    }
    Ok(())
}

pub(super) fn fd_seek(guest: &mut Guest<'_>, fd: u32, offset: i64, whence: u32, at: u32) -> Done {
    let file = guest.state.files.file(fd)?;
    let from = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::INVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::INVAL.into()),
    };
    let position = rustix::fs::seek(&file.file, from)?;
    Ok(guest.memory.put_u64(at, position)?)
}

pub(super) fn fd_tell(guest: &mut Guest<'_>, fd: u32, at: u32) -> Done {
    let file = guest.state.files.file(fd)?;
    let position = rustix::fs::tell(&file.file)?;
    Ok(guest.memory.put_u64(at, position)?)
}

pub(super) fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, at: u32) -> Done {
    let changes = |writable: bool| if writable { abi::RIGHTS } else { abi::RIGHTS & !abi::RIGHTS_OF_CHANGE };
    let stat = match guest.state.files.get(fd)? {
        Open::Input => abi::fd_stat(abi::CHARACTER_DEVICE, 0, abi::RIGHT_READ),
        Open::Output | Open::Errors => abi::fd_stat(abi::CHARACTER_DEVICE, 0, abi::RIGHT_WRITE),
        Open::Folder(folder) => abi::fd_stat(abi::DIRECTORY, 0, changes(folder.writable)),
        Open::File(file) => {
            let reads = if file.reads { abi::RIGHTS } else { abi::RIGHTS & !abi::RIGHT_READ };
            let flags = if file.appends { abi::APPEND as u16 } else { 0 };
            abi::fd_stat(abi::REGULAR_FILE, flags, reads & changes(file.writes))
        }
    };
    Ok(guest.memory.put(at, &stat)?)
}

/// Files never block, and whether they append is decided when they are opened.
pub(super) fn fd_fdstat_set_flags(guest: &mut Guest<'_>, fd: u32, flags: u32) -> Done {
    let appends = match guest.state.files.get(fd)? {
        Open::File(file) => file.appends,
        Open::Input | Open::Output | Open::Errors | Open::Folder(_) => false,
    };
    if appends == (flags & abi::APPEND != 0) { Ok(()) } else { Err(Errno::NOTSUP.into()) }
}

/// Nobody can be given less than it has here: a module is all one.
pub(super) fn fd_fdstat_set_rights(guest: &mut Guest<'_>, fd: u32, _base: u64, _inheriting: u64) -> Done {
    guest.state.files.get(fd)?;
    Err(Errno::NOTSUP.into())
}

pub(super) fn fd_filestat_get(guest: &mut Guest<'_>, fd: u32, at: u32) -> Done {
    let stat = match guest.state.files.get(fd)? {
        Open::Input | Open::Output | Open::Errors => abi::stream_stat(),
        Open::Folder(folder) => abi::file_stat(&rustix::fs::fstat(&folder.folder)?),
        Open::File(file) => abi::file_stat(&rustix::fs::fstat(&file.file)?),
    };
    Ok(guest.memory.put(at, &stat)?)
}

pub(super) fn fd_filestat_set_size(guest: &mut Guest<'_>, fd: u32, size: u64) -> Done {
    let file = guest.state.files.changeable(fd)?;
    if size > FILE_SIZE_MAX {
        return Err(Errno::FBIG.into());
    }
    Ok(rustix::fs::ftruncate(&file.file, size)?)
}

pub(super) fn fd_filestat_set_times(guest: &mut Guest<'_>, fd: u32, accessed: u64, modified: u64, flags: u32) -> Done {
    let times = times(accessed, modified, flags)?;
    match guest.state.files.get(fd)? {
        Open::File(file) if file.writes => Ok(rustix::fs::futimens(&file.file, &times)?),
        Open::Folder(folder) if folder.writable => Ok(rustix::fs::futimens(&folder.folder, &times)?),
        Open::File(_) | Open::Folder(_) => Err(Errno::ROFS.into()),
        Open::Input | Open::Output | Open::Errors => Err(Errno::INVAL.into()),
    }
}

/// Times as the system takes them.
pub(super) fn times(accessed: u64, modified: u64, flags: u32) -> Result<Timestamps, Errno> {
    let time = |given: u32, now: u32, nanoseconds: u64| match (flags & given != 0, flags & now != 0) {
        (true, true) => Err(Errno::INVAL),
        (true, false) => Ok(Timespec {
            tv_sec: (nanoseconds / 1_000_000_000).cast_signed(),
            tv_nsec: (nanoseconds % 1_000_000_000) as _,
        }),
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }),
    };
    Ok(Timestamps {
        last_access: time(abi::ACCESSED, abi::ACCESSED_NOW, accessed)?,
        last_modification: time(abi::MODIFIED, abi::MODIFIED_NOW, modified)?,
    })
}

pub(super) fn fd_sync(guest: &mut Guest<'_>, fd: u32) -> Done {
    Ok(rustix::fs::fdatasync(&guest.state.files.changeable(fd)?.file)?)
}

/// Advice may be ignored.
pub(super) fn fd_advise(guest: &mut Guest<'_>, fd: u32, _offset: u64, _length: u64, _advice: u32) -> Done {
    guest.state.files.file(fd)?;
    Ok(())
}

/// Room can't be claimed, only used.
pub(super) fn fd_allocate(guest: &mut Guest<'_>, fd: u32, _offset: u64, _length: u64) -> Done {
    guest.state.files.changeable(fd)?;
    Err(Errno::NOTSUP.into())
}

pub(super) fn fd_prestat_get(guest: &mut Guest<'_>, fd: u32, at: u32) -> Done {
    let length = handed(guest, fd)?.len();
    guest.memory.put_u32(at, 0)?;
    let place = at.checked_add(4).ok_or(Errno::FAULT)?;
    Ok(guest.memory.put_u32(place, u32::try_from(length).map_err(|_| Errno::OVERFLOW)?)?)
}

pub(super) fn fd_prestat_dir_name(guest: &mut Guest<'_>, fd: u32, at: u32, length: u32) -> Done {
    let path = handed(guest, fd)?;
    if path.len() != length as usize {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(guest.memory.put(at, path.as_bytes())?)
}

fn handed(guest: &Guest<'_>, fd: u32) -> Result<String, Fail> {
    // A program asks for one number after the other, until there is none.
    let Ok(folder) = guest.state.files.folder(fd) else { return Err(Errno::BADF.into()) };
    folder.handed.clone().ok_or(Fail::Errno(Errno::BADF))
}
