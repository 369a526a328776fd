//! A file of a hub, written to disk and hashed on the way, from where an earlier attempt ended.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use aios_models::store::StoreError;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use ureq::{
    Body,
    http::{Response, StatusCode, header},
};

use super::{Hub, HubError, Progress};

/// What is to be downloaded.
pub struct Download<'a> {
    /// Its address at the hub.
    pub url: &'a str,
    /// Its name in messages.
    pub what: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: &'a str,
}

/// Why there is no complete file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The hub failed; what came so far can be gone on with.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] StoreError),
    /// The bytes are not those that were promised.
    #[error(
        "the {what} that came is not the one that was promised: expected {expected}, found {found}; nothing of it was kept"
    )]
    Wrong {
        /// What was downloaded.
        what: String,
        /// Promise.
        expected: String,
        /// What came.
        found: String,
    },
}

impl DownloadError {
    /// Whether the next attempt can go on with what came so far.
    pub fn can_resume(&self) -> bool {
        matches!(self, DownloadError::Hub(_))
    }
}

/// A file as far as it has come.
struct Partial {
    file: File,
    hash: Sha256,
    length: u64,
}

/// Downloads to `path`, going on with what is there.
pub fn download(hub: &Hub, wanted: &Download<'_>, path: &Path, progress: &mut Progress) -> Result<(), DownloadError> {
    let disk = |error| DownloadError::Disk(StoreError::io(path, error));
    let mut partial = Partial::open(path, wanted.size).map_err(disk)?;
    progress.begin(partial.length, wanted.size);
    let mut failures = 0;
    while partial.length < wanted.size {
        let before = partial.length;
        match attempt(hub, wanted, &mut partial, path, progress) {
            Err(DownloadError::Hub(error)) if error.may_pass() => {
                if partial.length > before {
                    failures = 0;
                }
                if failures >= hub.retries {
                    return Err(error.into());
                }
                progress.interrupt();
                hub.wait(&error, &mut failures);
            }
            result => result?,
        }
    }
    progress.end();
    partial.file.sync_all().map_err(disk)?;
    let found = aios_keys::hex::encode(&partial.hash.finalize());
    if found != wanted.sha256 {
        return Err(wrong(wanted, format!("sha256 {}", wanted.sha256), format!("sha256 {found}")));
    }
    Ok(())
}

/// One connection's worth.
fn attempt(
    hub: &Hub,
    wanted: &Download<'_>,
    partial: &mut Partial,
    path: &Path,
    progress: &mut Progress,
) -> Result<(), DownloadError> {
    let disk = |error| DownloadError::Disk(StoreError::io(path, error));
    let response = hub.open(wanted.url, partial.length, wanted.what)?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => check_range(hub, wanted, partial.length, &response)?,
        // The server knows no ranges, or the file there is shorter: from the start.
        StatusCode::OK => partial.restart().map_err(disk)?,
        StatusCode::RANGE_NOT_SATISFIABLE if partial.length > 0 => return partial.restart().map_err(disk),
        status => return Err(hub.strange(&format!("{status} for the {}", wanted.what)).into()),
    }
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HubError::cut(&error).into()),
        };
        partial.append(&buffer[..length]).map_err(disk)?;
        if partial.length > wanted.size {
            return Err(wrong(wanted, format!("{} bytes", wanted.size), "more of them".to_owned()));
        }
        progress.advance(partial.length);
    }
    match partial.length == wanted.size {
        true => Ok(()),
        false => Err(HubError::Cut(format!("{} of {} bytes came", partial.length, wanted.size)).into()),
    }
}

/// A part that begins elsewhere, or belongs to a file of another size, would make a mixture of two files.
fn check_range(hub: &Hub, wanted: &Download<'_>, start: u64, response: &Response<Body>) -> Result<(), DownloadError> {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = range.strip_prefix("bytes ").and_then(|range| {
        let (part, whole) = range.split_once('/')?;
        Some((part.split_once('-')?.0.parse::<u64>().ok()?, whole.parse::<u64>().ok()?))
    });
    match parsed {
        Some((first, whole)) if first == start && whole == wanted.size => Ok(()),
        Some((_, whole)) if whole != wanted.size => {
            Err(wrong(wanted, format!("{} bytes", wanted.size), format!("{whole} bytes")))
        }
        _ => Err(hub.strange(&format!("asked for bytes from {start} on, it sends {range:?}")).into()),
    }
}

fn wrong(wanted: &Download<'_>, expected: String, found: String) -> DownloadError {
    DownloadError::Wrong { what: wanted.what.to_owned(), expected, found }
}

impl Partial {
    /// Opens what there is of the file, and takes the room for all of it.
    fn open(path: &Path, size: u64) -> io::Result<Partial> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut partial = Partial { file, hash: Sha256::new(), length: 0 };
        if partial.file.metadata()?.len() > size {
            partial.file.set_len(0)?;
        }
        let room = fallocate(&partial.file, FallocateFlags::KEEP_SIZE, 0, size.max(1));
        // Not every file system can; then the disk may be found full later.
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = room {
            return Err(error.into());
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            match partial.file.read(&mut buffer)? {
                0 => return Ok(partial),
                length => {
                    partial.hash.update(&buffer[..length]);
                    partial.length += length as u64;
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            (self.hash, self.length) = (Sha256::new(), 0);
        }
        Ok(())
    }
}
