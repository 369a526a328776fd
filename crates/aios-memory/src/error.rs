//! Why something was not remembered, or can't be read.

use std::io;

use crate::{kind::Kind, limits::Invalid};

/// Why the memory could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file system is full.
    #[error("{place}: the file system is full; reads go on, and writing does as soon as there is room")]
    Full {
        /// The memory's file.
        place: String,
    },
    /// The memory has as much as the configuration lets it have.
    #[error(
        "{place}: the memory holds {found} bytes, and memory.size-max is {limit}; erase something, shorten \
         memory.long-term-retention or raise memory.size-max"
    )]
    Room {
        /// The memory's file.
        place: String,
        /// Bytes of its items.
        found: u64,
        /// Bytes that they may have.
        limit: u64,
    },
    /// There are as many changes in line as there may be.
    #[error("{0} changes are waiting to be written, which is the most: try again later")]
    Busy(usize),
    /// The file can't be read or written, or another process writes it.
    #[error("{place}: the memory can't be used: {cause}")]
    Storage {
        /// The memory's file.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// The file is damaged. What can be read of it still is.
    #[error(
        "{place}: is damaged ({reason}): nothing more is written there; stop the unit `memory` and run `aios memory repair`"
    )]
    Damaged {
        /// The memory's file.
        place: String,
        /// What does not fit.
        reason: String,
    },
    /// The file is of a newer version of this program.
    #[error(
        "{place}: has schema {found}, and this version knows schemas up to {known}: update aiOS, or use another file"
    )]
    Newer {
        /// The memory's file.
        place: String,
        /// Schema of the file.
        found: u32,
        /// Newest schema that is known here.
        known: u32,
    },
    /// The file is something else.
    #[error("{place}: is no memory of aiOS ({reason}): use another file")]
    Foreign {
        /// The memory's file.
        place: String,
        /// What it is.
        reason: String,
    },
    /// It is deleted, but its bytes may still be in the file.
    #[error(
        "deleted, but the file could not be written anew, so bytes of it may still be there; that is done as soon as it can be: {cause}"
    )]
    Unwiped {
        /// Why not.
        cause: Box<StoreError>,
    },
    /// There is no such item.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its id.
        id: u64,
    },
    /// There is nothing of this name.
    #[error("there is no {what} {name:?}")]
    NoSuch {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A goal that has ended is to be taken up again.
    #[error("goal {0} has ended, and can't be taken up again: store a new one")]
    Ended(u64),
    /// There are as many as there may be.
    #[error("there are {limit} {what}, which is the most: erase some first")]
    Many {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// It can't be kept as it is.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no index to search by.
    #[error("this memory has no index to search by")]
    NoIndex,
    /// It was closed.
    #[error("the memory is closed")]
    Closed,
}

impl StoreError {
    /// What the database said of the memory at `place`.
    pub(crate) fn storage(place: &str, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        let place = place.to_owned();
        match &error {
            redb::Error::Io(cause) if is_full(cause) => StoreError::Full { place },
            redb::Error::Corrupted(reason) => StoreError::Damaged { place, reason: reason.clone() },
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Storage { place, cause: "another process has it open".to_owned() }
            }
            // A table that has to be there is not, or is another one.
            redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. } => StoreError::Damaged { place, reason: error.to_string() },
            other => StoreError::Storage { place, cause: other.to_string() },
        }
    }

    /// Whether it is about the request alone, and not about the file.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            StoreError::NotFound { .. }
                | StoreError::NoSuch { .. }
                | StoreError::Ended(_)
                | StoreError::Many { .. }
                | StoreError::Invalid(_)
                | StoreError::Room { .. }
        )
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
