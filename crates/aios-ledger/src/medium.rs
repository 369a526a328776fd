//! Where a ledger lies.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, backends::FileBackend};
use rustix::fs::{Advice, fadvise};

/// A place for the database. Tests put one there that fails as disks do.
pub trait Medium: Send + 'static {
    /// Opens the database for writing, or makes an empty one. It is called again after a failure.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Lets go of what is cached of the file, so that what is read next is what the disk has: after a write failed, the
    /// system's cache may hold pages that never got there and that it takes for written.
    fn forget(&self);

    /// What the place is called in messages.
    fn name(&self) -> String;
}

/// A file, for its owner alone.
#[derive(Clone, Debug)]
pub struct OnDisk(PathBuf);

impl OnDisk {
    /// The file at `path`; it and its folder are made when they are needed.
    pub fn new(path: &Path) -> OnDisk {
        OnDisk(path.to_owned())
    }

    fn file(&self) -> io::Result<File> {
        match OpenOptions::new().read(true).write(true).open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let folder = self.0.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        // The file's name has to survive a power cut as its content does.
        File::open(folder)?.sync_all()?;
        Ok(file)
    }
}

impl Medium for OnDisk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = self.file().map_err(|error| DatabaseError::Storage(error.into()))?;
        builder.create_with_backend(FileBackend::new(file)?)
    }

    fn forget(&self) {
        // What can't be forgotten is checked by the database's checksums when it is opened again.
        if let Ok(file) = File::open(&self.0) {
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}
