//! Copying a file, a link, or a folder with all that is in it, without following links.

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps},
    io::Errno,
};

use super::walk::{DEPTH_MAX, names};
use crate::{
    beneath::{Kind, open_beneath, text_of},
    error::{Code, ToolError},
    replacement::copy_attributes,
};

/// Bytes that one call copies at most.
pub(in crate::catalogue) const BYTES_MAX: u64 = 16 << 30;

/// What is left of what one call may copy.
pub(in crate::catalogue) struct Copier {
    bytes: u64,
    names: u64,
    set_id: SetId,
}

/// What becomes of the bits that make a program run with its owner's rights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::catalogue) enum SetId {
    /// A second file has none.
    Drop,
    /// The file is the same, elsewhere.
    Keep,
}

impl Copier {
    /// Copies up to 16 GiB and 100,000 names.
    pub(in crate::catalogue) fn new(set_id: SetId) -> Self {
        Copier { bytes: BYTES_MAX, names: 100_000, set_id }
    }

    /// Copies the entry `name` of `from` to the new entry `new` of `to`, with mode, owner, times and extended
    /// attributes. Where it fails, a part of it may be left.
    pub(in crate::catalogue) fn copy(
        &mut self,
        (from, name): (&OwnedFd, &CStr),
        (to, new): (&OwnedFd, &CStr),
        depth: u64,
    ) -> Result<(), ToolError> {
        let failed = |error: Errno| ToolError::of_io(text_of(name), &error.into());
        let too_much = |what: &str| Err(ToolError::new(Code::TooLarge, format!("{}: {what}", text_of(name))));
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let Some(names) = self.names.checked_sub(1) else { return too_much("more than 100000 names to copy") };
        self.names = names;
        match Kind::of(&stat) {
            Kind::File => {
                let Some(bytes) = self.bytes.checked_sub(stat.st_size as u64) else {
                    return too_much("more than 16 GiB to copy");
                };
                self.bytes = bytes;
                self.copy_file((from, name), (to, new), &stat)
            }
            Kind::Folder if depth > DEPTH_MAX => too_much("folders lie too deep inside each other"),
            Kind::Folder => self.copy_folder((from, name), (to, new), &stat, depth),
            Kind::Link => copy_link((from, name), (to, new), &stat).map_err(failed),
            kind => {
                let text = format!("{} is a {kind:?} and can't be copied", text_of(name)).to_lowercase();
                Err(ToolError::new(Code::Unsupported, text))
            }
        }
    }

    fn copy_file(&self, from: (&OwnedFd, &CStr), to: (&OwnedFd, &CStr), stat: &Stat) -> Result<(), ToolError> {
        let failed = |error: io::Error| ToolError::of_io(text_of(from.1), &error);
        let mut source = File::from(
            open_beneath(from.0, from.1, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| failed(error.into()))?,
        );
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to.0, to.1, flags, Mode::RUSR | Mode::WUSR);
        let mut target = File::from(target.map_err(|error| failed(error.into()))?);
        // Not more than was counted, should the file grow meanwhile.
        io::copy(&mut io::Read::take(&mut source, stat.st_size as u64), &mut target).map_err(failed)?;
        self.attributes(&source, &target, stat).and_then(|()| target.sync_all()).map_err(failed)
    }

    fn copy_folder(
        &mut self,
        from: (&OwnedFd, &CStr),
        to: (&OwnedFd, &CStr),
        stat: &Stat,
        depth: u64,
    ) -> Result<(), ToolError> {
        let failed = |error: Errno| ToolError::of_io(text_of(from.1), &error.into());
        let source = open_beneath(from.0, from.1, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        rustix::fs::mkdirat(to.0, to.1, Mode::RWXU).map_err(failed)?;
        let target = open_beneath(to.0, to.1, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let (names, whole) = names(&source);
        if !whole {
            return Err(ToolError::new(Code::TooLarge, format!("{}: can't be read to its end", text_of(from.1))));
        }
        for name in &names {
            self.copy((&source, name), (&target, name), depth + 1)?;
        }
        let (source, target) = (File::from(source), File::from(target));
        let done = self.attributes(&source, &target, stat).and_then(|()| target.sync_all());
        done.map_err(|error| ToolError::of_io(text_of(from.1), &error))
    }

    fn attributes(&self, source: &File, target: &File, stat: &Stat) -> io::Result<()> {
        copy_attributes(source, target)?;
        if self.set_id == SetId::Drop && Kind::of(stat) == Kind::File {
            rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o1777))?;
        }
        rustix::fs::futimens(target.as_fd(), &times(stat))?;
        Ok(())
    }
}

fn copy_link((from, name): (&OwnedFd, &CStr), (to, new): (&OwnedFd, &CStr), stat: &Stat) -> Result<(), Errno> {
    let target = rustix::fs::readlinkat(from, name, Vec::new())?;
    rustix::fs::symlinkat(target, to, new)?;
    let copied = rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW)?;
    if (copied.st_uid, copied.st_gid) != (stat.st_uid, stat.st_gid) {
        let (user, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, new, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::fs::utimensat(to, new, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    }
}
