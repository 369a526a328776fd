//! A disk that fails, as the ledger's medium.

use aios_fault_disk::Disk;
use aios_ledger::{Begin, Medium};
use redb::{Builder, Database};

/// Clones of the disk are the same disk.
#[derive(Debug)]
pub struct OnDisk(pub Disk);

impl Medium for OnDisk {
    fn open(&self, builder: &Builder, begin: Begin<'_>) -> Result<Database, redb::Error> {
        let OnDisk(disk) = self;
        if !disk.is_named() {
            disk.remove_draft();
            let database = builder.create_with_backend(disk.clone())?;
            begin(&database)?;
            database.close()?;
            disk.give_name()?;
        }
        Ok(builder.create_with_backend(disk.clone())?)
    }

    fn forget(&self) {
        self.0.forget();
    }

    fn name(&self) -> String {
        "disk".into()
    }
}
