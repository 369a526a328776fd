//! A disk that fails, as the memory's medium.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io;

use aios_fault_disk::Disk;
use aios_memory::{Fill, Medium};
use redb::{Builder, Database, ReadOnlyDatabase, StorageBackend as _};

/// Clones of the disk are the same disk.
#[derive(Debug)]
pub struct OnDisk(pub Disk);

impl OnDisk {
    /// Makes a file, fills it, and gives it the memory's name.
    fn begin(&self, builder: &Builder, fill: Fill<'_>) -> Result<Disk, redb::Error> {
        let draft = self.0.draft();
        let made = || -> Result<(), redb::Error> {
            let database = builder.create_with_backend(draft.clone())?;
            fill(&database)?;
            Ok(database.close()?)
        };
        if let Err(error) = made() {
            draft.remove_draft();
            return Err(error);
        }
        draft.give_name()?;
        Ok(draft)
    }

    fn named(&self) -> Result<Disk, io::Error> {
        self.0.named().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Medium for OnDisk {
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error> {
        let file = match self.0.named() {
            Some(file) => file,
            None => self.begin(builder, fill)?,
        };
        Ok(builder.create_with_backend(file)?)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error> {
        Ok(builder.open_read_only_with_backend(self.named()?)?)
    }

    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error> {
        let old = self.named()?;
        self.begin(builder, fill)?;
        Ok(old.write(0, &vec![0; old.length() as usize])?)
    }

    fn forget(&self) {
        self.0.forget();
    }

    fn length(&self) -> u64 {
        self.0.named().map_or(0, |file| file.length())
    }

    fn name(&self) -> String {
        "disk".into()
    }
}
