//! The directory of all models' beginnings, and its bounds.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Where beginnings are kept, how many, and for how long. What was not used for longest goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Directory, in which each model has a folder.
    pub directory: PathBuf,
    /// Bytes that the files of all models may take together.
    pub bytes: u64,
    /// What was not used for so long is deleted; never, where that is zero.
    pub age: Duration,
}

struct Found {
    used: SystemTime,
    size: u64,
    path: PathBuf,
}

impl Place {
    /// Deletes what is too old or too much.
    pub fn sweep(&self) {
        self.clear(0);
    }

    /// Makes a model's folder, and room for a file of `size` bytes. `false` where there can be none.
    pub(super) fn make(&self, folder: &Path, size: u64) -> io::Result<bool> {
        if size > self.bytes {
            return Ok(false);
        }
        self.clear(size);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(true)
    }

    fn clear(&self, needed: u64) {
        let now = SystemTime::now();
        let mut files = self.files();
        files.sort_by_key(|file| file.used);
        let mut taken: u64 = files.iter().map(|file| file.size).sum();
        for Found { used, size, path } in files {
            let age = now.duration_since(used).unwrap_or_default();
            let too_old = !self.age.is_zero() && age > self.age;
            if too_old || taken.saturating_add(needed) > self.bytes {
                tracing::info!(path = %path.display(), too_old, "beginning deleted");
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "beginning can't be deleted");
                    }
                    _ => taken -= size,
                }
            }
        }
    }

    fn files(&self) -> Vec<Found> {
        let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
        let folders = entries(&self.directory).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let files = folders.flat_map(|folder| entries(&folder.path()));
        let found = files.filter_map(|file| {
            let facts = file.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Found { used: facts.modified().ok()?, size: facts.len(), path: file.path() })
        });
        found.collect()
    }
}
