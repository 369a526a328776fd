//! Where a database lies.

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
    /// of it is on the disk: a power cut leaves a whole one or none. It is called again after a failure.
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error>;

    /// Opens the database for reading alone.
    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error>;

    /// Puts a new database, which `fill` fills, in the place of the one that is there, whole or not at all; what was in the
    /// old one is overwritten. The old one is still open while this is called.
    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error>;

    /// Lets go of what is cached of the file, so that what is read next is what the disk has: after a write failed, the
    /// system's cache may hold pages that never got there and that it takes for written.
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

    /// Makes a file that nobody takes for the database, fills it, and gives its path. Of two processes that do so at once,
    /// one may fail.
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
                // Unlike a renaming, this never replaces a file.
                fs::hard_link(draft.path(), &self.0)?;
                drop(draft);
                File::open(folder(&self.0))?.sync_all()?;
                self.file()?
            }
            opened => {
                let file = opened?;
                // A file gets its name when it is whole. redb would take an empty one for a new database.
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
            // One that stays is removed when the file is opened the next time.
            let _ = fs::remove_file(path);
        }
    }
}

/// Folder of a file.
pub fn folder(path: &Path) -> &Path {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

    use redb::{ReadableDatabase as _, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<u64, &str> = TableDefinition::new("table");

    fn put(database: &Database, text: &str) -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(TABLE)?.insert(0, text)?;
        Ok(write.commit()?)
    }

    fn text(database: &Database) -> String {
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(0).unwrap().unwrap().value().to_owned()
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/file");
        let medium = OnDisk::new(&path);
        let failed = medium.open(&Builder::new(), &|_| Err(redb::Error::Corrupted("not today".into())));
        assert!(failed.unwrap_err().to_string().contains("not today"));
        assert_eq!((medium.length(), names(path.parent().unwrap())), (0, Vec::new()));
        fs::write(folder.path().join("state/file.draft-0123456789abcdef"), "half of one").unwrap();
        let database = medium.open(&Builder::new(), &|database| put(database, "first")).unwrap();
        assert_eq!((text(&database), names(path.parent().unwrap())), ("first".into(), vec!["file".into()]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        drop(database);
        let again = medium.open(&Builder::new(), &|_| panic!("it is there")).unwrap();
        assert_eq!(text(&again), "first");
    }

    #[test]
    fn an_empty_file_is_no_new_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        let refused = OnDisk::new(&path).open(&Builder::new(), &|_| panic!("it is there"));
        assert!(refused.unwrap_err().to_string().contains("the file is empty"));
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let medium = OnDisk::new(&path);
        let old = medium.open(&Builder::new(), &|database| put(database, "a secret")).unwrap();
        let held = File::open(&path).unwrap();
        let failed = medium.replace(&Builder::new(), &|_| Err(redb::Error::Corrupted("not today".into())));
        assert!(failed.is_err());
        assert_eq!((text(&old), names(folder.path())), ("a secret".into(), vec!["file".into()]));
        medium.replace(&Builder::new(), &|database| put(database, "nothing")).unwrap();
        let mut bytes = vec![1; held.metadata().unwrap().len() as usize];
        held.read_exact_at(&mut bytes, 0).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0));
        drop(old);
        assert_eq!(text(&medium.open(&Builder::new(), &|_| panic!("it is there")).unwrap()), "nothing");
        assert_eq!(names(folder.path()), ["file"]);
    }
}
