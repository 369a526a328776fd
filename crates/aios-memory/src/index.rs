//! What searches, and what makes vectors: both are given to the store by whoever opens it.

use std::sync::Arc;

use redb::{ReadTransaction, WriteTransaction};

/// An index over the items, in tables of its own in the memory's file.
///
/// It changes in the transactions that change the items, so the two never differ, not after a power cut either. The names of
/// its tables begin with its own, and none is one of the store's.
pub trait Index: Send + Sync + 'static {
    /// Version of what its tables hold. Where a file has another, or none, the index is cleared and given all items.
    fn version(&self) -> u64;

    /// Makes the tables that are missing. Called once for each file that is opened for writing.
    fn begin(&self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Takes into memory what it needs of the file that searches will read, in place of what it had. Called each time that
    /// the store opens its file, for reading alone too, after `begin` and before anything else is asked of it.
    fn open(&self, transaction: &ReadTransaction) -> Result<(), redb::Error>;

    /// Forgets everything.
    fn clear(&self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Follows what a transaction did to the items, in order. Called once in a transaction at most, but for the items that
    /// a cleared index is given: then it is called for each of them, what it returns is dropped, and `open` follows.
    fn apply(&self, transaction: &WriteTransaction, changes: &[Change]) -> Result<AfterCommit, redb::Error>;

    /// Whether there is something that makes searches faster and can wait.
    fn has_work(&self) -> bool {
        false
    }

    /// Does a part of that, which keeps other writers waiting for no longer than a commit does. Called in transactions that
    /// change no item.
    fn work(&self, transaction: &WriteTransaction) -> Result<AfterCommit, redb::Error> {
        let _ = transaction;
        Ok(None)
    }

    /// The items that fit best, best first. Those that `accept` refuses don't count.
    fn search(
        &self,
        transaction: &ReadTransaction,
        query: &Query<'_>,
        accept: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<Found>, redb::Error>;

    /// The items whose vectors are nearest to this one, nearest first, with the cosines as their scores. Empty where no
    /// vector can be compared with it. Those that `accept` refuses don't count.
    fn nearest(&self, vector: &[f32], limit: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Found>;

    /// Copies everything into a new file, in which `begin` was called. Nothing else of the old file is kept.
    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error>;
}

/// What is left to do when a transaction is on the disk: searches see then what it changed. It is called before the next
/// transaction begins. Where the commit fails it is dropped, and the file is opened again.
pub type AfterCommit = Option<Box<dyn FnOnce() -> Result<(), redb::Error>>>;

/// What happened to an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It has these words now, whether it was there before or not. A vector that it had is no longer its own.
    Words {
        /// Item.
        id: u64,
        /// Its words.
        text: String,
        /// The words that it had; `None` where it is new, and has no vector either.
        before: Option<String>,
    },
    /// It has this vector now.
    Vector {
        /// Item.
        id: u64,
        /// Its vector.
        vector: Vec<f32>,
    },
    /// It is gone.
    Removed {
        /// Item.
        id: u64,
        /// The words that it had.
        text: String,
    },
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// In words.
    pub text: &'q str,
    /// The vector of `text`, where there is a model to make it.
    pub vector: Option<&'q [f32]>,
    /// Results at most.
    pub limit: usize,
}

/// One result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Item.
    pub id: u64,
    /// Comparable within one answer.
    pub score: f64,
    /// Whether it has anything to do with what was looked for: the best of what is there may have not.
    pub is_related: bool,
}

/// Makes vectors of texts. It blocks; it is called where that is allowed.
pub trait Embedder: Send + Sync + 'static {
    /// A vector for each text, in their order. None of the texts is empty.
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// Whether vectors would be made now, as far as can be said without making one.
    fn is_ready(&self) -> bool;
}

/// Why there are no vectors now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no vectors: {0}")]
pub struct EmbedError(pub String);

/// What a store searches with; without an index, it refuses to.
pub type SharedIndex = Option<Arc<dyn Index>>;
