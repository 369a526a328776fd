//! Removing a folder with all that is in it.

use std::{ffi::CStr, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, OFlags},
    io::Errno,
};

use super::walk::{DEPTH_MAX, names};
use crate::beneath::{Kind, open_beneath};

/// Removes what has the name `name` in `folder`, with all below it, and returns how many names it removed. Stops at
/// what belongs to another file system ([`Errno::XDEV`]), and where folders lie too deep ([`Errno::NAMETOOLONG`]).
pub(in crate::catalogue) fn remove(folder: &OwnedFd, name: &CStr) -> Result<u64, Errno> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    remove_below(folder, name, stat.st_dev, 0)
}

fn remove_below(folder: &OwnedFd, name: &CStr, device: u64, depth: u64) -> Result<u64, Errno> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if Kind::of(&stat) != Kind::Folder {
        return rustix::fs::unlinkat(folder, name, AtFlags::empty()).map(|()| 1);
    }
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let inner = open_beneath(folder, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    // Of the opened folder, as another can be mounted meanwhile.
    if rustix::fs::fstat(&inner)?.st_dev != device {
        return Err(Errno::XDEV);
    }
    let mut removed = 1;
    loop {
        let (names, whole) = names(&inner);
        for name in &names {
            removed += remove_below(&inner, name, device, depth + 1)?;
        }
        if whole || names.is_empty() {
            break;
        }
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}
