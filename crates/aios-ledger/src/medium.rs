//! Where a ledger lies.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aios_keys::{hex, seed::Seed};
use redb::{Builder, Database, backends::FileBackend};
use rustix::fs::{Advice, fadvise};

/// Puts the tables of a ledger into an empty database.
pub type Begin<'b> = &'b dyn Fn(&Database) -> Result<(), redb::Error>;

/// A place for the database. Tests put one there that fails as disks do.
pub trait Medium: Send + 'static {
    /// Opens the database for writing. Where there is none, one is made, `begin` fills it, and it is put in place when
    /// all of it is on the disk: a power cut leaves a whole ledger or none. It is called again after a failure.
    fn open(&self, builder: &Builder, begin: Begin<'_>) -> Result<Database, redb::Error>;

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

    /// Makes the file, in a draft that nobody takes for the ledger. Of two processes that do so at once, one may fail.
    fn begin(&self, builder: &Builder, begin: Begin<'_>) -> Result<(), redb::Error> {
        let folder = self.0.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        self.remove_drafts(folder)?;
        let mut draft = self.draft_prefix();
        draft.push(hex::encode(&Seed::random()?.as_bytes()[..8]));
        let draft = folder.join(draft);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft)?;
        let database = builder.create_with_backend(FileBackend::new(file)?)?;
        begin(&database)?;
        database.close()?;
        // Unlike a renaming, this never replaces a ledger.
        fs::hard_link(&draft, &self.0)?;
        fs::remove_file(&draft)?;
        Ok(File::open(folder)?.sync_all()?)
    }

    /// Removes what a power cut left of an earlier beginning.
    fn remove_drafts(&self, folder: &Path) -> io::Result<()> {
        let prefix = self.draft_prefix();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn draft_prefix(&self) -> OsString {
        let mut prefix = self.0.file_name().unwrap_or_default().to_owned();
        prefix.push(".draft-");
        prefix
    }
}

impl Medium for OnDisk {
    fn open(&self, builder: &Builder, begin: Begin<'_>) -> Result<Database, redb::Error> {
        let open = || OpenOptions::new().read(true).write(true).open(&self.0);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.begin(builder, begin)?;
                open()?
            }
            opened => opened?,
        };
        Ok(builder.create_with_backend(FileBackend::new(file)?)?)
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
