//! Small files that survive a restart.

use std::{
    fs, io,
    io::Write as _,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

/// A file that holds a `T` as JSON.
#[derive(Debug)]
pub struct Kept<T> {
    path: PathBuf,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept::at(self.path.clone())
    }
}

impl<T> Kept<T> {
    /// The file at `path`.
    pub fn at(path: PathBuf) -> Kept<T> {
        Kept { path, holds: PhantomData }
    }
}

impl<T: Default + Serialize + DeserializeOwned> Kept<T> {
    /// What is kept; nothing where there is no file yet. `what` names it where the file holds something else.
    pub fn read(&self, what: &str) -> Result<T> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                let path = self.path.display();
                format!("{path}: holds no {what}; remove it, and give again what is needed")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    /// Keeps `value`, on disk when it returns.
    pub fn write(&self, value: &T) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        fs::File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_damaged_file_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept: Kept<Vec<u32>> = Kept::at(folder.path().join("numbers.json"));
        assert_eq!(kept.read("numbers").expect("nothing yet"), Vec::<u32>::new());
        kept.write(&vec![1, 2]).expect("written");
        assert_eq!(kept.clone().read("numbers").expect("kept"), [1, 2]);
        fs::write(folder.path().join("numbers.json"), "[1,").expect("damaged");
        let error = kept.read("numbers").expect_err("damaged");
        assert!(error.to_string().contains("numbers.json: holds no numbers"), "{error}");
    }
}
