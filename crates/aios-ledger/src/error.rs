//! Why the ledger could not be written or read.

use std::io;

use aios_keys::{note::NoteError, seed::SeedError};

use crate::{checkpoint::CheckpointError, entry::EntryError};

/// Why something was not recorded. Nobody may act on what was not recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system is full.
    #[error(
        "{place}: the file system is full, so nothing can be recorded; free room there, and recording goes on by itself"
    )]
    Full {
        /// The ledger's file.
        place: String,
    },
    /// The file can't be read or written, or another process writes it.
    #[error("{place}: the ledger can't be used: {cause}")]
    Storage {
        /// The ledger's file.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// The file is something else, or damaged.
    #[error(
        "{place}: is no ledger that can be continued: {reason}; `aios ledger verify` says more, and with another file a new ledger begins"
    )]
    Damaged {
        /// The ledger's file.
        place: String,
        /// What does not fit.
        reason: String,
    },
    /// The ledger is of another key.
    #[error(
        "{place}: is the ledger '{found}', and this device's key is that of '{expected}'; put back the key, or begin a new ledger in another file"
    )]
    Origin {
        /// The ledger's file.
        place: String,
        /// Ledger in the file.
        found: String,
        /// Ledger of the key.
        expected: String,
    },
    /// After a failure, the file has not what was on the disk before it.
    #[error("{place}: entry {seq} was recorded and is gone after a failure of the disk; nothing more is recorded here")]
    Lost {
        /// The ledger's file.
        place: String,
        /// Last entry that was acknowledged.
        seq: u64,
    },
    /// It was closed.
    #[error("the ledger is closed")]
    Closed,
    /// It can't be recorded as it is.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A checkpoint can't be signed or believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint is believed, but is not one of this ledger's.
    #[error(
        "the checkpoint of {size} entries is none that this ledger keeps; export again, and drop entries by that export's last checkpoint"
    )]
    Unknown {
        /// Size of the checkpoint.
        size: u64,
    },
    /// The thread that signs checkpoints can't be started.
    #[error("the thread that signs checkpoints can't be started: {0}")]
    Thread(String),
    /// The secret key can't be used.
    #[error("{0}")]
    Key(String),
}

/// Why the ledger can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("{place}: there is no ledger yet; the tools' service makes it when it starts")]
    NotFound {
        /// The ledger's file.
        place: String,
    },
    /// It can't be read.
    #[error("{place}: the ledger can't be read: {cause}")]
    Storage {
        /// The ledger's file.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// What is there is no ledger.
    #[error("{place}: is no ledger: {reason}")]
    Damaged {
        /// The ledger's file.
        place: String,
        /// What does not fit.
        reason: String,
    },
}

impl From<NoteError> for LedgerError {
    fn from(error: NoteError) -> LedgerError {
        LedgerError::Checkpoint(error.into())
    }
}

impl From<SeedError> for LedgerError {
    fn from(error: SeedError) -> LedgerError {
        LedgerError::Key(error.to_string())
    }
}

impl LedgerError {
    /// What the database said of the ledger at `place`.
    pub(crate) fn storage(place: &str, error: impl Into<redb::Error>) -> LedgerError {
        let error = error.into();
        let place = place.to_owned();
        match &error {
            redb::Error::Io(cause) if is_full(cause) => LedgerError::Full { place },
            redb::Error::Corrupted(reason) => LedgerError::Damaged { place, reason: reason.clone() },
            redb::Error::DatabaseAlreadyOpen => {
                LedgerError::Storage { place, cause: "another process writes it".to_owned() }
            }
            other => LedgerError::Storage { place, cause: other.to_string() },
        }
    }
}

impl ReadError {
    /// What the database said of the ledger at `place`.
    pub(crate) fn storage(place: &str, error: impl Into<redb::Error>) -> ReadError {
        let place = place.to_owned();
        match error.into() {
            redb::Error::Io(cause) if cause.kind() == io::ErrorKind::NotFound => ReadError::NotFound { place },
            redb::Error::Corrupted(reason) => ReadError::Damaged { place, reason },
            other => ReadError::Storage { place, cause: other.to_string() },
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
