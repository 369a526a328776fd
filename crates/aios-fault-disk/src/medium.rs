//! The disk as the place of a database.

use std::io;

use aios_tables::{Fill, Medium};
use redb::{Builder, Database, ReadOnlyDatabase, StorageBackend as _};

use crate::Disk;

impl Disk {
    /// Makes a file, fills it, and gives it the name.
    fn begin(&self, builder: &Builder, fill: Fill<'_>) -> Result<Disk, redb::Error> {
        let draft = self.draft();
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

    fn existing(&self) -> Result<Disk, io::Error> {
        self.named().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Medium for Disk {
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error> {
        let file = match self.named() {
            Some(file) => file,
            None => self.begin(builder, fill)?,
        };
        Ok(builder.create_with_backend(file)?)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error> {
        Ok(builder.open_read_only_with_backend(self.existing()?)?)
    }

    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error> {
        let old = self.existing()?;
        self.begin(builder, fill)?;
        Ok(old.write(0, &vec![0; Disk::length(&old) as usize])?)
    }

    fn forget(&self) {
        Disk::forget(self);
    }

    fn length(&self) -> u64 {
        self.named().map_or(0, |file| Disk::length(&file))
    }

    fn name(&self) -> String {
        "disk".into()
    }
}
