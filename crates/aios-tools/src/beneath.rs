//! Files by path, with no symbolic link followed on the way.
//!
//! Between a look and a change, somebody else may put a link in the place of a folder. So a path is opened once, by
//! `openat2` from the root down without links, and what happens then happens relative to the opened folder.

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
    path::Arg,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
};

/// How often an opening is tried that others' renames disturb.
const TRIES: u32 = 16;

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A Unix socket.
    Socket,
    /// A device node.
    Device,
}

impl Kind {
    /// Kind of what `stat` tells of.
    pub(crate) fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            _ => Kind::Device,
        }
    }
}

/// All files of a host.
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A name in an opened folder; there may be nothing of this name yet.
pub(crate) struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name in it.
    pub name: String,
    /// Both, for messages.
    pub path: AbsolutePath,
}

impl Tree {
    /// The files of `host`.
    pub(crate) fn of(host: &Host) -> Result<Self, ToolError> {
        let path = host.path("/");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| ToolError::io(&path, &io::Error::from(error)))?;
        Ok(Tree { root })
    }

    /// Opens what is at `path`.
    pub(crate) fn open(&self, path: &AbsolutePath, flags: OFlags) -> Result<OwnedFd, ToolError> {
        open_beneath(&self.root, relative(path), flags).map_err(|error| refused(path, error))
    }

    /// Opens what is at `path`; `None` where nothing is, or only through a link or something that is no folder.
    pub(crate) fn find(&self, path: &AbsolutePath, flags: OFlags) -> Result<Option<OwnedFd>, ToolError> {
        match open_beneath(&self.root, relative(path), flags) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(refused(path, error)),
        }
    }

    /// Opens the folder at `path` for reading.
    pub(crate) fn folder(&self, path: &AbsolutePath) -> Result<OwnedFd, ToolError> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the regular file at `path` for reading. Nothing else is opened so that it does something or waits.
    pub(crate) fn file(&self, path: &AbsolutePath) -> Result<File, ToolError> {
        self.regular(path, OFlags::RDONLY)
    }

    /// Opens the regular file at `path`, which exists, with `flags`.
    pub(crate) fn regular(&self, path: &AbsolutePath, flags: OFlags) -> Result<File, ToolError> {
        let file = File::from(self.open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY)?);
        let metadata = file.metadata().map_err(|error| ToolError::io(path.as_path(), &error))?;
        if metadata.is_file() {
            return Ok(file);
        }
        Err(ToolError::new(Code::InvalidArgument, format!("{path} is not a regular file")))
    }

    /// The name at the end of `path` in its opened folder.
    pub(crate) fn place(&self, path: &AbsolutePath) -> Result<Place, ToolError> {
        let parent = path.parent();
        let name = path.as_path().file_name().and_then(|name| name.to_str());
        let (Some(parent), Some(name)) = (parent, name) else {
            return Err(ToolError::new(Code::InvalidArgument, "/ itself can't be made, replaced or removed"));
        };
        // Only to name what is in it: the sandbox shows folders on the way, but lets nobody read them.
        let folder = self.open(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Place { folder, name: name.to_owned(), path: path.clone() })
    }
}

impl Place {
    /// What is there, itself and not where it leads; `None` where nothing is.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, ToolError> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What is there, or [`Code::NotFound`].
    pub(crate) fn existing(&self) -> Result<Stat, ToolError> {
        self.stat()?.ok_or_else(|| self.failed(Errno::NOENT))
    }

    /// An error about this path.
    pub(crate) fn failed(&self, error: Errno) -> ToolError {
        refused(&self.path, error)
    }

    /// Makes what was done to the folder survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), ToolError> {
        let synced = open_beneath(&self.folder, ".", OFlags::RDONLY | OFlags::DIRECTORY).and_then(rustix::fs::fsync);
        synced.map_err(|error| self.failed(error))
    }
}

/// `path` from the root on.
fn relative(path: &AbsolutePath) -> &str {
    if path.as_str() == "/" { "." } else { &path.as_str()[1..] }
}

/// Opens `path` below `folder`, without links.
pub(crate) fn open_beneath(folder: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&folder, path, flags, Mode::empty(), RESOLVE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What the system said about `path`.
pub(crate) fn refused(path: &AbsolutePath, error: Errno) -> ToolError {
    match error {
        Errno::LOOP => ToolError::new(
            Code::InvalidArgument,
            format!("{path} is or goes through a symbolic link, and none is followed: name what it leads to"),
        ),
        Errno::NOTDIR => ToolError::new(
            Code::InvalidArgument,
            format!("{path} is not a folder, or goes through something that is none"),
        ),
        error => ToolError::io(path.as_path(), &io::Error::from(error)),
    }
}

/// A name as text; bytes that are not UTF-8 are replaced.
pub(crate) fn text_of(name: &CStr) -> String {
    String::from_utf8_lossy(name.to_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> AbsolutePath {
        AbsolutePath::new(text).expect("path")
    }

    #[test]
    fn no_link_is_followed_wherever_it_stands() {
        let folder = tempfile::tempdir().expect("tempdir");
        let outside = tempfile::tempdir().expect("tempdir");
        std::fs::write(outside.path().join("secret"), "s").expect("write");
        std::fs::create_dir(folder.path().join("real")).expect("mkdir");
        std::fs::write(folder.path().join("real/file"), "f").expect("write");
        symlink(outside.path(), folder.path().join("out")).expect("link");
        symlink("real", folder.path().join("inside")).expect("link");
        symlink("file", folder.path().join("real/last")).expect("link");
        let tree = Tree::of(&Host::below(folder.path())).expect("tree");
        for bad in ["/out/secret", "/inside/file", "/real/last"] {
            let error = tree.file(&path(bad)).expect_err(bad);
            assert_eq!(error.code, Code::InvalidArgument, "{bad}");
            assert!(error.message.contains("symbolic link"), "{error}");
        }
        assert!(tree.place(&path("/out/new")).is_err());
        assert!(tree.file(&path("/real/file")).is_ok());
        assert_eq!(Kind::of(&tree.place(&path("/real/last")).expect("place").existing().expect("stat")), Kind::Link);
    }

    #[test]
    fn pipes_and_folders_are_no_files() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &at, FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
        let tree = Tree::of(&Host::below(folder.path())).expect("tree");
        for bad in ["/pipe", "/"] {
            assert_eq!(tree.file(&path(bad)).expect_err(bad).code, Code::InvalidArgument, "{bad}");
        }
        assert_eq!(tree.file(&path("/none")).expect_err("none").code, Code::NotFound);
        assert_eq!(tree.place(&path("/")).err().expect("root").code, Code::InvalidArgument);
    }
}
