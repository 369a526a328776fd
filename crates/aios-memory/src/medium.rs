//! Where a memory lies.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadOnlyDatabase, backends::FileBackend};
use rustix::{
    fs::{Advice, fadvise},
    rand::{GetRandomFlags, getrandom},
};

/// Fills a new database before it gets its name.
pub type Fill<'f> = &'f dyn Fn(&Database) -> Result<(), redb::Error>;

/// Bytes that are overwritten at once.
const BLOCK: usize = 64 << 10;

/// A place for the database. Tests put one there that fails as disks do.
pub trait Medium: Send + 'static {
    /// Opens the database for writing. Where there is none, one is made, `fill` fills it, and it is put in place when all
    /// of it is on the disk: a power cut leaves a whole memory or none. It is called again after a failure.
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error>;

    /// Opens the database for reading alone.
    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error>;

    /// Puts a new database, which `fill` fills, in the place of the one that is there, whole or not at all; what was in the
    /// old one is overwritten. The old one is still open while this is called.
    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error>;

    /// Lets go of what is cached of the file, so that what is read next is what the disk has.
    fn forget(&self);

    /// Length of the file in bytes; 0 where there is none.
    fn length(&self) -> u64;

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

    /// Makes a file that nobody takes for the memory, fills it, and gives its path.
    fn draft(&self, builder: &Builder, fill: Fill<'_>) -> Result<Draft, redb::Error> {
        let folder = folder(&self.0);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        self.remove_drafts(folder)?;
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(io::Error::from)?;
        let mut name = self.draft_prefix();
        name.push(format!("{:016x}", u64::from_le_bytes(random)));
        let draft = Draft(Some(folder.join(name)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(draft.path())?;
        let database = builder.create_with_backend(FileBackend::new(file)?)?;
        fill(&database)?;
        database.close()?;
        Ok(draft)
    }

    /// Removes what a power cut left of an earlier draft. It may hold what was erased since.
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

    fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.0)
    }
}

impl Medium for OnDisk {
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error> {
        let file = match self.file() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let draft = self.draft(builder, fill)?;
                // Unlike a renaming, this never replaces a memory.
                fs::hard_link(draft.path(), &self.0)?;
                drop(draft);
                File::open(folder(&self.0))?.sync_all()?;
                self.file()?
            }
            opened => {
                let file = opened?;
                // A memory gets its name when it is whole. The database would take an empty file for a new one.
                if file.metadata()?.len() == 0 {
                    return Err(redb::Error::Corrupted("the file is empty".into()));
                }
                self.remove_drafts(folder(&self.0))?;
                file
            }
        };
        Ok(builder.create_with_backend(FileBackend::new(file)?)?)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error> {
        Ok(builder.open_read_only(&self.0)?)
    }

    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error> {
        let draft = self.draft(builder, fill)?;
        let old = OpenOptions::new().write(true).open(&self.0)?;
        fs::rename(draft.path(), &self.0)?;
        draft.keep();
        File::open(folder(&self.0))?.sync_all()?;
        Ok(overwrite(old)?)
    }

    fn forget(&self) {
        // What can't be forgotten is checked by the database's checksums when it is opened again.
        if let Ok(file) = File::open(&self.0) {
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |file| file.len())
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// A file that goes away unless it is kept.
struct Draft(Option<PathBuf>);

impl Draft {
    fn path(&self) -> &Path {
        self.0.as_deref().expect("invariant: a draft has a path until it is kept")
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // One that stays is removed when the memory is opened the next time.
            let _ = fs::remove_file(path);
        }
    }
}

/// Folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Writes zeros over all of a file that has no name any more, so that its blocks don't hold what was in it.
fn overwrite(mut file: File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    let zeros = [0; BLOCK];
    while left > 0 {
        let next = usize::try_from(left.min(BLOCK as u64)).expect("invariant: at most a block");
        file.write_all(&zeros[..next])?;
        left -= next as u64;
    }
    file.sync_all()
}
