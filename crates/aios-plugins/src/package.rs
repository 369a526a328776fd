//! The three files of a plugin, and the statement that is signed.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    os::fd::{AsFd, OwnedFd},
};

use aios_keys::{hex, note};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::{
    manifest::{MANIFEST_MAX, Manifest, ManifestError},
    module::MODULE_MAX,
};

/// The manifest.
pub const MANIFEST_FILE: &str = "plugin.toml";
/// The module.
pub const MODULE_FILE: &str = "plugin.wasm";
/// The signed statement: a note ([`aios_keys::note`]). A package without one is not signed.
pub const SIGNATURE_FILE: &str = "plugin.sig";

/// First line of the statement, so that the signature of a plugin is never one of anything else.
const PURPOSE: &str = "aios plugin 1";
/// Most entries of an archive that are looked at.
const ARCHIVE_ENTRIES_MAX: usize = 16;

/// A plugin as it lies in a folder or an archive. Its form is right; whether it is trusted is another question.
#[derive(Clone, Debug)]
pub struct Package {
    manifest: Manifest,
    text: String,
    module: Vec<u8>,
    note: Option<String>,
}

/// Why files are no plugin.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file can't be read or written.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is missing.
    #[error("{0} is missing: a plugin is plugin.toml, plugin.wasm and, signed, plugin.sig")]
    Missing(&'static str),
    /// A file is too large.
    #[error("{file} is larger than {most} bytes")]
    TooLarge {
        /// Name of the file.
        file: &'static str,
        /// What is allowed.
        most: u64,
    },
    /// A file is not text.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// An archive holds something else than a plugin.
    #[error("the archive: {0}")]
    Archive(String),
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The bytes of the files, as far as they are there.
#[derive(Default)]
struct Files {
    manifest: Option<Vec<u8>>,
    module: Option<Vec<u8>>,
    note: Option<Vec<u8>>,
}

impl Files {
    /// Where the file `name` goes, and its longest content; `None` for a name that is no plugin's.
    fn slot(&mut self, name: &str) -> Option<(&mut Option<Vec<u8>>, &'static str, u64)> {
        match name {
            MANIFEST_FILE => Some((&mut self.manifest, MANIFEST_FILE, MANIFEST_MAX)),
            MODULE_FILE => Some((&mut self.module, MODULE_FILE, MODULE_MAX)),
            SIGNATURE_FILE => Some((&mut self.note, SIGNATURE_FILE, note::NOTE_MAX as u64)),
            _ => None,
        }
    }
}

impl Package {
    /// Reads the plugin in an opened folder. A link in the place of a file is refused.
    pub fn read(folder: impl AsFd) -> Result<Package, PackageError> {
        let mut files = Files::default();
        for name in [MANIFEST_FILE, MODULE_FILE, SIGNATURE_FILE] {
            let (slot, file, most) = files.slot(name).expect("invariant: these are a plugin's names");
            let io = |source| PackageError::Io { file: file.to_owned(), source };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = match rustix::fs::openat(&folder, file, flags, Mode::empty()) {
                Ok(opened) => File::from(opened),
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(io(error.into())),
            };
            if !opened.metadata().map_err(io)?.is_file() {
                return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")));
            }
            *slot = Some(bounded(opened, file, most)?);
        }
        Package::of(files)
    }

    /// Reads a plugin from a tar archive, which holds the files alone or in one folder.
    pub fn read_archive(archive: impl Read) -> Result<Package, PackageError> {
        let broken = |error: io::Error| PackageError::Archive(error.to_string());
        let mut files = Files::default();
        let mut archive = tar::Archive::new(archive);
        for (index, entry) in archive.entries().map_err(broken)?.enumerate() {
            let entry = entry.map_err(broken)?;
            if index >= ARCHIVE_ENTRIES_MAX {
                return Err(PackageError::Archive(format!("holds more than {ARCHIVE_ENTRIES_MAX} entries")));
            }
            if entry.header().entry_type() == tar::EntryType::Directory {
                continue;
            }
            let path = entry.path().map_err(broken)?.into_owned();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let shown = path.to_string_lossy().chars().take(100).collect::<String>();
            let Some((slot, file, most)) = files.slot(&name) else {
                return Err(PackageError::Archive(format!("{shown:?} is no file of a plugin")));
            };
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(PackageError::Archive(format!("{shown:?} is not a regular file")));
            }
            if slot.is_some() {
                return Err(PackageError::Archive(format!("{file} is there twice")));
            }
            *slot = Some(bounded(entry, file, most)?);
        }
        Package::of(files)
    }

    fn of(files: Files) -> Result<Package, PackageError> {
        let text = |bytes: Vec<u8>, file| String::from_utf8(bytes).map_err(|_| PackageError::Text(file));
        let manifest = text(files.manifest.ok_or(PackageError::Missing(MANIFEST_FILE))?, MANIFEST_FILE)?;
        let module = files.module.ok_or(PackageError::Missing(MODULE_FILE))?;
        let note = files.note.map(|note| text(note, SIGNATURE_FILE)).transpose()?;
        Ok(Package { manifest: Manifest::parse(&manifest)?, text: manifest, module, note })
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The module's bytes.
    pub fn module(&self) -> &[u8] {
        &self.module
    }

    /// The signature file.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// What a signature is over: name and version, and the SHA-256 of both files.
    pub fn statement(&self) -> String {
        let hash = |bytes: &[u8]| hex::encode(&Sha256::digest(bytes));
        format!(
            "{PURPOSE}\nname: {}\nversion: {}\n{MANIFEST_FILE}: {}\n{MODULE_FILE}: {}\n",
            self.manifest.name,
            self.manifest.version,
            hash(self.text.as_bytes()),
            hash(&self.module)
        )
    }

    /// SHA-256 of the statement, in hexadecimal digits: names exactly these files.
    pub fn digest(&self) -> String {
        hex::encode(&Sha256::digest(self.statement().as_bytes()))
    }

    /// The package with the signature of `signer`.
    pub fn signed(self, signer: &note::Signer) -> Result<Package, note::NoteError> {
        let note = signer.sign(&self.statement())?;
        Ok(Package { note: Some(note), ..self })
    }

    /// Writes the files into an opened empty folder; they are on the disk when this returns.
    pub fn write(&self, folder: impl AsFd) -> Result<(), PackageError> {
        write(&folder, MANIFEST_FILE, self.text.as_bytes())?;
        write(&folder, MODULE_FILE, &self.module)?;
        if let Some(note) = &self.note {
            write(&folder, SIGNATURE_FILE, note.as_bytes())?;
        }
        Ok(())
    }
}

fn write(folder: impl AsFd, name: &str, bytes: &[u8]) -> Result<(), PackageError> {
    let io = |source| PackageError::Io { file: name.to_owned(), source };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened: OwnedFd =
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644)).map_err(|error| io(error.into()))?;
    let mut file = File::from(opened);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

fn bounded(reader: impl Read, file: &'static str, most: u64) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    let read = reader.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|source| PackageError::Io { file: file.to_owned(), source })?;
    if bytes.len() as u64 > most { Err(PackageError::TooLarge { file, most }) } else { Ok(bytes) }
}

#[cfg(test)]
pub(crate) mod tests;
