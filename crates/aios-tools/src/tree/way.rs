//! The way to an entry of a folder, without symbolic links.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Why a tree could not be taken down or brought back. The text names the path.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A part of the way is a symbolic link.
    #[error("{}: a part of this path is a symbolic link, which is not followed: use the path that it stands for", .0.display())]
    Link(PathBuf),
    /// A socket, a pipe or a device.
    #[error("{}: is a {what}, which can't be copied", path.display())]
    Special {
        /// Path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// More than the limits allow.
    #[error("{}: {reason}", path.display())]
    TooLarge {
        /// Path.
        path: PathBuf,
        /// Which limit.
        reason: String,
    },
    /// What was taken down is damaged.
    #[error("{}: the copy of its contents is damaged ({reason}); it was left as it is", path.display())]
    Damaged {
        /// Path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TreeError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> TreeError + use<> {
        let path = path.to_owned();
        move |source| TreeError::Io { path, source }
    }

    pub(super) fn errno(path: &Path) -> impl FnOnce(Errno) -> TreeError + use<> {
        let failed = TreeError::io(path);
        move |errno| failed(errno.into())
    }
}

/// An entry of an open folder, whether there is something or not.
pub struct Entry {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Entry {
    /// The entry at the absolute path `path`, whose folder exists.
    pub fn at(path: &Path) -> Result<Entry, TreeError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let reason = "is no entry of a folder".to_owned();
            return Err(TreeError::TooLarge { path: path.to_owned(), reason });
        };
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(fs::CWD, parent, flags, Mode::empty(), resolve) {
            Ok(folder) => Ok(Entry { folder, name: name.to_owned(), path: path.to_owned() }),
            Err(Errno::LOOP) => Err(TreeError::Link(parent.to_owned())),
            Err(error) => Err(TreeError::errno(parent)(error)),
        }
    }

    /// An entry of the folder that this one is.
    pub fn child(&self, folder: &OwnedFd, name: &OsStr) -> Result<Entry, TreeError> {
        let path = self.path.join(name);
        let folder = folder.try_clone().map_err(TreeError::io(&path))?;
        Ok(Entry { folder, name: name.to_owned(), path })
    }

    /// Another entry of the same folder.
    pub fn beside(&self, name: &OsStr) -> Result<Entry, TreeError> {
        let folder = self.folder.try_clone().map_err(TreeError::io(&self.path))?;
        Ok(Entry { folder, name: name.to_owned(), path: self.path.with_file_name(name) })
    }

    /// Its folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Its name in there.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is; `None` where there is nothing.
    pub fn kind(&self) -> Result<Option<FileType>, TreeError> {
        Ok(self.stat()?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// What the system says of it; `None` where there is nothing.
    pub fn stat(&self) -> Result<Option<fs::Stat>, TreeError> {
        match fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(TreeError::errno(&self.path)(error)),
        }
    }

    /// Opens it, unless it is a symbolic link. Never waits for the other end of a pipe.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, TreeError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => Ok(file),
            Err(Errno::LOOP) => Err(TreeError::Link(self.path.clone())),
            Err(error) => Err(TreeError::errno(&self.path)(error)),
        }
    }

    /// Names of what is in it, sorted.
    pub fn names(&self, folder: &OwnedFd) -> Result<Vec<OsString>, TreeError> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(folder).map_err(TreeError::errno(&self.path))? {
            let entry = entry.map_err(TreeError::errno(&self.path))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes it with all below. Nothing there is fine.
    pub fn remove(&self) -> Result<(), TreeError> {
        let flags = match self.kind()? {
            None => return Ok(()),
            Some(FileType::Directory) => {
                let folder = self.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                for name in self.names(&folder)? {
                    self.child(&folder, &name)?.remove()?;
                }
                AtFlags::REMOVEDIR
            }
            Some(_) => AtFlags::empty(),
        };
        match fs::unlinkat(&self.folder, &self.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(TreeError::errno(&self.path)(error)),
        }
    }
}
