//! A file that appears whole, or not at all.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
};

use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    beneath::{Place, open_beneath},
    error::{Code, ToolError},
};

/// Longest value of an extended attribute (xattr(7)).
const XATTR_MAX: usize = 64 << 10;

/// Whether something may stand where the file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing may.
    Nothing,
    /// It is replaced.
    Anything,
}

/// A file that is being written beside its place, under a name of its own, and then takes the place in one step. Where
/// it is dropped before, it is removed.
pub(crate) struct Replacement<'a> {
    place: &'a Place,
    temporary: String,
    file: File,
    placed: bool,
}

impl<'a> Replacement<'a> {
    /// An empty file with the mode `mode` for `place`.
    pub(crate) fn begin(place: &'a Place, mode: Mode) -> Result<Self, ToolError> {
        let temporary = temporary_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.folder, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| place.failed(error))?;
        let new = Replacement { place, temporary, file: File::from(file), placed: false };
        // Not at creation, where the process's umask would take part.
        rustix::fs::fchmod(&new.file, mode).map_err(|error| place.failed(error))?;
        Ok(new)
    }

    /// Gives it owner, mode and extended attributes of the file that it replaces, where there is one.
    pub(crate) fn like_old(self) -> Result<Self, ToolError> {
        let old = match open_beneath(&self.place.folder, &self.place.name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(old) => File::from(old),
            Err(Errno::NOENT) => return Ok(self),
            Err(error) => return Err(self.place.failed(error)),
        };
        copy_attributes(&old, &self.file).map_err(|error| ToolError::io(self.place.path.as_path(), &error))?;
        Ok(self)
    }

    /// The file, to be written.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes `bytes` at its end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        self.file.write_all(bytes).map_err(|error| ToolError::io(self.place.path.as_path(), &error))
    }

    /// Puts it into its place, so that it is there after a power cut too.
    pub(crate) fn place(mut self, over: Over) -> Result<(), ToolError> {
        self.file.sync_all().map_err(|error| ToolError::io(self.place.path.as_path(), &error))?;
        let flags = if over == Over::Nothing { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let Place { folder, name, path } = self.place;
        rustix::fs::renameat_with(folder, &self.temporary, folder, name, flags).map_err(|error| match error {
            Errno::EXIST => ToolError::new(Code::AlreadyExists, format!("{path} exists already")),
            error => self.place.failed(error),
        })?;
        self.placed = true;
        self.place.sync()
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // The error that led here is the one to report; a file that is left has a name that says what it is.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.temporary, AtFlags::empty());
        }
    }
}

/// A name that nobody else chooses.
pub(crate) fn temporary_name() -> String {
    let mut random = [0; 8];
    // A name that is taken is refused at creation: without randomness the time does.
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        random = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_nsec.to_le_bytes();
    }
    format!(".aios-{:016x}.tmp", u64::from_le_bytes(random))
}

/// Gives `to` owner, mode and extended attributes of `from`.
///
/// `security.capability` stays behind: the kernel takes it from a file whose contents change, and this is such a change.
pub(crate) fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let (old, new) = (from.metadata()?, to.metadata()?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        rustix::fs::fchown(to, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(old.mode()))?;
    for (name, value) in extended_attributes(from)? {
        if name != "security.capability" {
            rustix::fs::fsetxattr(to, &name, &value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// The extended attributes of an opened file, by name; none where the file system knows none.
pub(crate) fn extended_attributes(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut attributes = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; XATTR_MAX];
        match rustix::fs::fgetxattr(file, &name, value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            // Taken away meanwhile.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        attributes.push((name, value));
    }
    attributes.sort();
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{args::AbsolutePath, beneath::Tree, host::Host};

    fn place(folder: &tempfile::TempDir) -> Place {
        let tree = Tree::of(&Host::below(folder.path())).expect("tree");
        tree.place(&AbsolutePath::new("/file").expect("path")).expect("place")
    }

    #[test]
    fn a_file_that_is_not_placed_leaves_nothing() {
        let folder = tempfile::tempdir().expect("tempdir");
        let place = place(&folder);
        let mut new = Replacement::begin(&place, Mode::RUSR).expect("begin");
        new.write(b"half").expect("write");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
        drop(new);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn what_stands_there_is_replaced_only_if_asked() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("file");
        fs::write(&at, "old").expect("write");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o604)).expect("chmod");
        let place = place(&folder);
        let begin = || Replacement::begin(&place, Mode::RUSR).expect("begin").like_old().expect("like old");
        let mut new = begin();
        new.write(b"new").expect("write");
        assert_eq!(new.place(Over::Nothing).expect_err("exists").code, Code::AlreadyExists);
        assert_eq!(fs::read_to_string(&at).expect("read"), "old");
        let mut new = begin();
        new.write(b"new").expect("write");
        new.place(Over::Anything).expect("placed");
        assert_eq!(fs::read_to_string(&at).expect("read"), "new");
        assert_eq!(fs::metadata(&at).expect("stat").mode() & 0o7777, 0o604);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }
}
