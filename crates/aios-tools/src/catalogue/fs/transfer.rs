//! What copying and moving have in common: where something goes, and how it appears there at once.

use std::{ffi::CString, os::fd::OwnedFd};

use rustix::{fs::RenameFlags, io::Errno};

use super::{
    duplicate::{Copier, SetId},
    remove::remove,
};
use crate::{
    args::AbsolutePath,
    beneath::{Kind, Place, Tree},
    error::{Code, ToolError},
    replacement::temporary_name,
};

/// From one place to another.
pub(super) struct Transfer {
    pub from: Place,
    pub to: Place,
    pub kind: Kind,
    overwrite: bool,
}

impl Transfer {
    /// Checks both places.
    pub(super) fn of(tree: &Tree, from: &AbsolutePath, to: &AbsolutePath, overwrite: bool) -> Result<Self, ToolError> {
        if to.as_path().starts_with(from) || from.as_path().starts_with(to) {
            let text = format!("{from} and {to} lie inside each other");
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        let (from, to) = (tree.place(from)?, tree.place(to)?);
        let kind = Kind::of(&from.existing()?);
        match to.stat()?.map(|stat| Kind::of(&stat)) {
            None => {}
            Some(_) if !overwrite => {
                let text = format!("{} exists already; set overwrite to replace it", to.path);
                return Err(ToolError::new(Code::AlreadyExists, text));
            }
            Some(Kind::File) if kind == Kind::File => {}
            Some(_) => {
                let text = format!("{} exists, and only a file can be replaced, by a file", to.path);
                return Err(ToolError::new(Code::AlreadyExists, text));
            }
        }
        Ok(Transfer { from, to, kind, overwrite })
    }

    /// Renames `name` of `folder` to the new place.
    pub(super) fn rename(&self, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
        let flags = if self.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        rustix::fs::renameat_with(folder, name, &self.to.folder, &self.to.name, flags)
    }

    /// Makes a copy at the new place, at once or not at all.
    pub(super) fn copy(&self, set_id: SetId) -> Result<(), ToolError> {
        let temporary = temporary_name();
        let [name, new] =
            [&self.from.name, &temporary].map(|name| CString::new(name.as_str()).expect("invariant: no zero byte"));
        let mut copier = Copier::new(set_id);
        let copied = copier.copy((&self.from.folder, &name), (&self.to.folder, &new), 0);
        let placed =
            copied.and_then(|()| self.rename(&self.to.folder, &temporary).map_err(|error| self.to.failed(error)));
        if placed.is_err() {
            // The error that led here is the one to report.
            let _ = remove(&self.to.folder, &new);
        }
        placed?;
        self.to.sync()
    }
}
