//! Why vectors could not be read, taken or stored.

/// Why a vector is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// It has another number of dimensions than those of the index.
    #[error("the vector has {found} numbers, and this index takes {expected}; embed the text with the index's model")]
    Dimensions {
        /// Dimensions of the index.
        expected: usize,
        /// Numbers of the vector.
        found: usize,
    },
    /// A number is infinite or none.
    #[error(
        "number {position} of the vector is not finite, so it is near to nothing; the model that made it is at fault"
    )]
    NotFinite {
        /// Where it stands, from 0.
        position: usize,
    },
    /// It has no direction.
    #[error("all numbers of the vector are 0, so it has no direction; leave texts that say nothing out of the index")]
    Zero,
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options ask for what there is no code for.
    #[error("an index of {0} dimensions is not possible: it takes 1 to {max}", max = crate::quantize::DIMENSIONS_MAX)]
    Options(usize),
    /// The tables are of another version.
    #[error(
        "the table vectors.about: the vectors are of format {found}, and this program reads {expected}; use one that does"
    )]
    Format {
        /// Format of the tables.
        found: u64,
        /// Format of this program.
        expected: u64,
    },
    /// The vectors have another number of dimensions.
    #[error(
        "the table vectors.about: the vectors have {found} dimensions, and {expected} are asked for; configure the model that they were made with, or erase them and embed the texts again"
    )]
    Dimensions {
        /// Dimensions that were asked for.
        expected: usize,
        /// Dimensions of what is stored.
        found: u64,
    },
    /// A row is not what was written.
    #[error("the table {table}, row {key}: {reason}; restore the database, or erase the item and embed its text again")]
    Damaged {
        /// Name of the table.
        table: &'static str,
        /// Key of the row.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The database can't be read.
    #[error("the vectors can't be read")]
    Storage(#[source] Box<redb::Error>),
}

/// Why a batch was not stored. Nothing of it is in memory; the transaction may hold a part of it and has to be aborted.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// What is in memory is not what is in the tables.
    #[error(
        "the vectors in memory are of batch {memory}, and those in the tables of batch {tables}: a batch was committed and not published, or published and not committed; open the index again"
    )]
    Behind {
        /// Number of the last batch that was published.
        memory: u64,
        /// Number of the last batch in the tables.
        tables: u64,
    },
    /// There is no number for one more vector.
    #[error("the index is full: it takes {max} vectors", max = crate::rows::SLOTS_MAX)]
    Full,
    /// A row is not what was written.
    #[error("the table {table}, row {key}: {reason}; restore the database, or erase the item and embed its text again")]
    Damaged {
        /// Name of the table.
        table: &'static str,
        /// Key of the row.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The database can't be written.
    #[error("the vectors can't be written")]
    Storage(#[source] Box<redb::Error>),
}

/// Why a batch was not published: another one was, between its making and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "batch {staged} can't follow batch {memory}, which is in memory; publish each batch right after its commit, and open the index again"
)]
pub struct PublishError {
    /// Number of the batch.
    pub staged: u64,
    /// Number of the last batch that was published.
    pub memory: u64,
}

/// What does not fit, and where.
pub(crate) struct Damage {
    pub(crate) table: &'static str,
    pub(crate) key: String,
    pub(crate) reason: String,
}

impl Damage {
    pub(crate) fn new(table: &'static str, key: impl ToString, reason: impl Into<String>) -> Damage {
        Damage { table, key: key.to_string(), reason: reason.into() }
    }
}

impl From<Damage> for OpenError {
    fn from(Damage { table, key, reason }: Damage) -> OpenError {
        OpenError::Damaged { table, key, reason }
    }
}

impl From<Damage> for BatchError {
    fn from(Damage { table, key, reason }: Damage) -> BatchError {
        BatchError::Damaged { table, key, reason }
    }
}

/// The errors of redb's calls, each of which has a type of its own.
macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for OpenError {
            fn from(error: redb::$error) -> OpenError {
                OpenError::Storage(Box::new(error.into()))
            }
        }
        impl From<redb::$error> for BatchError {
            fn from(error: redb::$error) -> BatchError {
                BatchError::Storage(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(StorageError, TableError);
