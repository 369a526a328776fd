//! The directories of models, and how a model gets there: all of it at once, or not at all.
//!
//! What is not complete lies in `.partial/<id>` of the directory, on the same file system, under a name that is no model
//! id. It becomes a model by one renaming, when its files are on the disk.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aios_core::config::is_model_id;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::{
    keys::{KeyError, Signing},
    manifest::{MANIFEST_FILE, MODEL_FILE, Manifest, ManifestError, SIGNATURE_FILE, file_in},
};

/// The id that names the default model, and so no model of its own.
pub const DEFAULT: &str = "default";

/// Where models lie that are not complete.
const PARTIAL: &str = ".partial";

/// The directories of models on this device.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where new models go.
    pub directory: PathBuf,
    /// Where models are looked for, as `runtime.model-dirs` has it.
    pub dirs: Vec<PathBuf>,
    /// Which of `dirs` came with the image.
    pub factory: Vec<PathBuf>,
}

/// A model in one of the directories.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Id: the name of its folder.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Name of its file there: of a language model [`MODEL_FILE`], of an embedding model
    /// [`EMBEDDING_FILE`](crate::manifest::EMBEDDING_FILE).
    pub file: &'static str,
    /// Whether it came with the image.
    pub factory: bool,
    /// Size of its file.
    pub size: u64,
    /// Its manifest, where there is one that can be read.
    pub manifest: Option<Manifest>,
}

/// Why a model could not be found, added or removed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The id can't be a folder's name.
    #[error(
        "'{0}' is no model id: use up to 128 letters, digits, '.', '_' and '-', not 'default', and no '.' in front"
    )]
    Id(String),
    /// There is no such model.
    #[error("model '{id}' is in none of the directories {dirs}; `aios model list` shows what is there")]
    NotFound {
        /// Id that was asked for.
        id: String,
        /// Where it was looked for.
        dirs: String,
    },
    /// The id is in use.
    #[error("model '{id}' exists already in {}: choose another id with --id, or remove it with `aios model rm {id}`", folder.display())]
    Taken {
        /// Id.
        id: String,
        /// Folder of the model that has it.
        folder: PathBuf,
    },
    /// The model can't be removed.
    #[error("model '{id}' came with the image ({}), which is read-only: it can't be removed", folder.display())]
    Factory {
        /// Id.
        id: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// Another process works on the same id.
    #[error("another process is adding model '{0}': wait for it, or choose another id with --id")]
    Busy(String),
    /// The file system is too full for what is to come.
    #[error(
        "{} has {} free, and {} are needed ({} for the model and {} to stay free, models.reserve): remove models with \
         `aios model rm`", directory.display(), size_text(*.available), size_text(*.needed + *.reserve),
        size_text(*.needed), size_text(*.reserve)
    )]
    NoRoom {
        /// Directory of the models.
        directory: PathBuf,
        /// Bytes that the model takes.
        needed: u64,
        /// Bytes that stay free.
        reserve: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The file system is full.
    #[error("{}: the disk is full; nothing of the model was kept. Remove models with `aios model rm`", .0.display())]
    Full(PathBuf),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl StoreError {
    /// The error for what the system said about `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full(path.to_owned())
            }
            _ => StoreError::Io { path: path.to_owned(), source },
        }
    }
}

/// Bytes as people read them.
pub fn size_text(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    format!("{:.1} {unit}", bytes as f64 / factor)
}

impl Store {
    /// All models, by id. Of two with the same id, the one in the earlier directory counts.
    pub fn models(&self) -> Vec<Installed> {
        let mut found: BTreeMap<String, Installed> = BTreeMap::new();
        for dir in &self.dirs {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(id) = entry.file_name().into_string() else { continue };
                if let Some(installed) = self.installed(dir, &id) {
                    found.entry(id).or_insert(installed);
                }
            }
        }
        found.into_values().collect()
    }

    /// The model of that id.
    pub fn find(&self, id: &str) -> Result<Installed, StoreError> {
        self.dirs.iter().find_map(|dir| self.installed(dir, id)).ok_or_else(|| {
            let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
            StoreError::NotFound { id: id.to_owned(), dirs: dirs.join(", ") }
        })
    }

    fn installed(&self, dir: &Path, id: &str) -> Option<Installed> {
        // An id that is no plain name would lead out of the directories.
        if !is_model_id(id) || id == DEFAULT {
            return None;
        }
        let folder = dir.join(id);
        let file = file_in(&folder)?;
        let size = fs::metadata(folder.join(file)).ok()?.len();
        let manifest = Manifest::read(&folder).ok().flatten().map(|(manifest, _)| manifest);
        Some(Installed {
            id: id.to_owned(),
            factory: self.factory.iter().any(|f| f == dir),
            folder,
            file,
            size,
            manifest,
        })
    }

    /// Refuses to begin what would leave less than `reserve` bytes free.
    pub fn check_room(&self, needed: u64, reserve: u64) -> Result<(), StoreError> {
        self.make_directory()?;
        let free = statvfs(&self.directory).map_err(|error| StoreError::io(&self.directory, error.into()))?;
        let available = free.f_bavail.saturating_mul(free.f_frsize);
        match needed.checked_add(reserve) {
            Some(bytes) if bytes <= available => Ok(()),
            _ => Err(StoreError::NoRoom { directory: self.directory.clone(), needed, reserve, available }),
        }
    }

    fn make_directory(&self) -> Result<(), StoreError> {
        let partial = self.directory.join(PARTIAL);
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&partial);
        made.map_err(|error| StoreError::io(&partial, error))
    }

    /// Begins, or goes on with, a model of that id. The place is this process's until it is dropped.
    pub fn stage(&self, id: &str) -> Result<Staging, StoreError> {
        if !is_model_id(id) || id == DEFAULT {
            return Err(StoreError::Id(id.to_owned()));
        }
        if let Ok(Installed { folder, .. }) = self.find(id) {
            return Err(StoreError::Taken { id: id.to_owned(), folder });
        }
        self.make_directory()?;
        let folder = self.partial(id);
        let fail = |error| StoreError::io(&folder, error);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(fail)?;
        let lock = File::open(&folder).map_err(fail)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Busy(id.to_owned()))?;
        // Whoever had the lock before may have made a model of the folder.
        let same = |there: fs::Metadata| lock.metadata().is_ok_and(|held| held.ino() == there.ino());
        if !fs::metadata(&folder).is_ok_and(same) {
            return Err(StoreError::Busy(id.to_owned()));
        }
        Ok(Staging { id: id.to_owned(), target: self.directory.join(id), folder, _lock: lock })
    }

    /// Removes a model, or what there is of one that is not complete.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let gone = self.partial(&format!("{id}.removed"));
        match self.find(id) {
            Ok(Installed { factory: true, folder, .. }) => {
                return Err(StoreError::Factory { id: id.to_owned(), folder });
            }
            Ok(Installed { folder, .. }) => {
                self.make_directory()?;
                // What an earlier removal left is in the way.
                let _ = fs::remove_dir_all(&gone);
                match fs::rename(&folder, &gone) {
                    // Directories of `model-dirs` may be on other file systems.
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                        fs::remove_dir_all(&folder).map_err(|error| StoreError::io(&folder, error))?;
                    }
                    renamed => renamed.map_err(|error| StoreError::io(&folder, error))?,
                }
            }
            Err(missing) if !is_model_id(id) || !self.partial(id).exists() => return Err(missing),
            Err(_) => self.stage(id)?.discard(),
        }
        let _ = fs::remove_dir_all(&gone);
        Ok(())
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.directory.join(PARTIAL).join(name)
    }
}

/// A model that is not complete yet. Dropping it leaves it there for the next attempt.
pub struct Staging {
    id: String,
    folder: PathBuf,
    target: PathBuf,
    /// Its lock ends with it.
    _lock: File,
}

impl Staging {
    /// The weights' file, which need not exist yet.
    pub fn file(&self) -> PathBuf {
        self.folder.join(MODEL_FILE)
    }

    /// A file beside it that says what is to come; it does not become part of the model.
    pub fn state(&self) -> PathBuf {
        self.folder.with_file_name(format!("{}.state", self.id))
    }

    /// Deletes what is there.
    pub fn discard(self) {
        // The folder goes last: while it is there, its lock holds.
        let _ = fs::remove_file(self.state());
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Makes it a model: writes and signs the manifest, and puts all of it in its place. Leaves nothing if it fails.
    pub fn install(self, manifest: &Manifest, signing: &Signing) -> Result<PathBuf, StoreError> {
        match self.put_in_place(manifest, signing) {
            Ok(()) => {
                let _ = fs::remove_file(self.state());
                Ok(self.target)
            }
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    fn put_in_place(&self, manifest: &Manifest, signing: &Signing) -> Result<(), StoreError> {
        let weights = self.file();
        let settle = || {
            fs::set_permissions(&weights, fs::Permissions::from_mode(0o644))?;
            File::open(&weights)?.sync_all()
        };
        settle().map_err(|error| StoreError::io(&weights, error))?;
        write_manifest(&self.folder, manifest, signing)?;
        let sync = |path: &Path| File::open(path)?.sync_all();
        sync(&self.folder).map_err(|error| StoreError::io(&self.folder, error))?;
        fs::rename(&self.folder, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                StoreError::Taken { id: self.id.clone(), folder: self.target.clone() }
            }
            _ => StoreError::io(&self.target, error),
        })?;
        let directory = self.target.parent().unwrap_or(&self.target);
        sync(directory).map_err(|error| StoreError::io(directory, error))
    }
}

/// Writes and signs the manifest of the model in `folder`.
pub fn write_manifest(folder: &Path, manifest: &Manifest, signing: &Signing) -> Result<(), StoreError> {
    let text = manifest.text();
    // The signature first: with a new manifest beside an old signature the model would be refused.
    for (name, content) in [(SIGNATURE_FILE, &signing.sign(&text)), (MANIFEST_FILE, &text)] {
        let (path, draft) = (folder.join(name), folder.join(format!("{name}.draft")));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&draft)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&draft);
            StoreError::io(&path, error)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
