//! Full-text search with BM25, in tables of the caller's database.
//!
//! A text is written in the transaction of the item that it belongs to: both are there after a power cut, or neither.
//! docs/formats/text-index.md has every byte of the tables.

mod block;
mod postings;
mod rank;
mod search;
mod tables;
mod tokens;

use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};

use self::{
    block::Posting,
    postings::{insert_posting, remove_posting},
    tables::{Forward, Names, STATISTICS_KEY, Totals},
};
pub use self::{
    rank::{B, K1},
    tokens::{MOST_QUERY_TERMS, MOST_TERM_BYTES, MOST_TERMS, terms},
};

/// Why an index can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The database does not do what it should.
    #[error("text index '{index}': the database can't be used: {cause}")]
    Storage {
        /// Name of the index.
        index: String,
        /// What the database said.
        cause: redb::Error,
    },
    /// What is in the tables can't have been written by this program.
    #[error("text index '{index}' is damaged: {what}; erase it and insert its texts again")]
    Damaged {
        /// Name of the index.
        index: String,
        /// What does not fit.
        what: String,
    },
}

/// A text that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Number of the text.
    pub id: u64,
    /// BM25 score, above 0; comparable within one search only.
    pub score: f64,
}

/// What an index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Number of texts.
    pub texts: u64,
    /// Terms of all texts together, each as often as it occurs.
    pub terms: u64,
}

/// An index of texts by their terms: three tables of a database, whose names begin with the index's.
#[derive(Clone, Debug)]
pub struct TextIndex {
    names: Names,
}

/// Writes to an index in a transaction. It holds the index's tables open, so there is one at a time; what it wrote is
/// committed or lost with the transaction.
pub struct TextWriter<'txn> {
    index: String,
    postings: Table<'txn, &'static [u8], &'static [u8]>,
    texts: Table<'txn, u64, &'static [u8]>,
    statistics: Table<'txn, &'static str, (u64, u64)>,
    totals: Totals,
}

impl TextIndex {
    /// The index `name`. Nothing is read or made yet.
    pub fn new(name: &str) -> TextIndex {
        TextIndex { names: Names::new(name) }
    }

    /// Opens the index in `transaction` to write to it; makes its tables where there are none.
    pub fn writer<'txn>(&self, transaction: &'txn WriteTransaction) -> Result<TextWriter<'txn>, TextError> {
        let storage = |error: redb::TableError| self.names.storage(error);
        let statistics = transaction.open_table(self.names.statistics()).map_err(storage)?;
        let totals = {
            let row = statistics.get(STATISTICS_KEY).map_err(|error| self.names.storage(error))?;
            row.map_or(Totals::default(), |row| Totals::from(row.value()))
        };
        Ok(TextWriter {
            index: self.names.index.clone(),
            postings: transaction.open_table(self.names.postings()).map_err(storage)?,
            texts: transaction.open_table(self.names.texts()).map_err(storage)?,
            statistics,
            totals,
        })
    }

    /// Writes one text; [`TextIndex::writer`] is faster for many.
    pub fn insert(&self, transaction: &WriteTransaction, id: u64, text: &str) -> Result<(), TextError> {
        self.writer(transaction)?.insert(id, text)
    }

    /// Removes one text; says whether it was there.
    pub fn remove(&self, transaction: &WriteTransaction, id: u64) -> Result<bool, TextError> {
        self.writer(transaction)?.remove(id)
    }

    /// Removes the index with all its texts.
    pub fn erase(&self, transaction: &WriteTransaction) -> Result<(), TextError> {
        let storage = |error: redb::TableError| self.names.storage(error);
        transaction.delete_table(self.names.postings()).map_err(storage)?;
        transaction.delete_table(self.names.texts()).map_err(storage)?;
        transaction.delete_table(self.names.statistics()).map_err(storage)?;
        Ok(())
    }

    /// Copies the index into a database that has none of this name: what was removed stays behind, with the pages that it
    /// lay in.
    pub fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<(), TextError> {
        tables::copy(&self.names, from, to).map_err(|error| self.names.storage(error))
    }

    /// The `k` texts that fit `query` best among those that `filter` lets through: the best first, of equal ones that of
    /// the lower number. An index that was never written to has none.
    pub fn search(
        &self,
        transaction: &ReadTransaction,
        query: &str,
        k: usize,
        filter: impl Fn(u64) -> bool,
    ) -> Result<Vec<Hit>, TextError> {
        let totals = self.statistics(transaction)?;
        let mut words = tokens::query_terms(query);
        if totals.texts == 0 || k == 0 || words.is_empty() {
            return Ok(Vec::new());
        }
        let table = transaction.open_table(self.names.postings()).map_err(|error| self.names.storage(error))?;
        // An order that the texts' order does not change: sums of floating-point numbers depend on it.
        words.sort_unstable();
        let mut lists = Vec::with_capacity(words.len());
        for (term, times) in &words {
            lists.extend(search::List::open(&self.names.index, &table, term, *times, totals)?);
        }
        search::best(&self.names.index, lists, k, filter)
    }

    /// What the index holds.
    pub fn statistics(&self, transaction: &ReadTransaction) -> Result<Statistics, TextError> {
        let table = match transaction.open_table(self.names.statistics()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Statistics::default()),
            Err(error) => return Err(self.names.storage(error)),
        };
        let row = table.get(STATISTICS_KEY).map_err(|error| self.names.storage(error))?;
        Ok(row.map_or(Statistics::default(), |row| Totals::from(row.value()).into()))
    }

    /// Whether the text `id` is there.
    pub fn contains(&self, transaction: &ReadTransaction, id: u64) -> Result<bool, TextError> {
        match transaction.open_table(self.names.texts()) {
            Ok(table) => Ok(table.get(id).map_err(|error| self.names.storage(error))?.is_some()),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(self.names.storage(error)),
        }
    }

    /// Reads all tables and says whether they fit each other, which they do unless the file was damaged.
    pub fn check(&self, transaction: &ReadTransaction) -> Result<Statistics, TextError> {
        tables::check(&self.names, transaction, self.statistics(transaction)?)
    }
}

impl TextWriter<'_> {
    /// Writes `text` as that of `id`, in place of one that was there. Of a very long text the first [`MOST_TERMS`] terms
    /// count.
    pub fn insert(&mut self, id: u64, text: &str) -> Result<(), TextError> {
        self.remove(id)?;
        let counts = tokens::counts(text);
        let length: u32 = counts.values().sum();
        for (term, times) in &counts {
            let posting = Posting { id, times: *times, length };
            insert_posting(&self.index, &mut self.postings, term, posting)?;
        }
        let forward = Forward { length, terms: counts.into_keys().collect() };
        let outcome = self.texts.insert(id, forward.to_bytes().as_slice()).map(drop);
        outcome.map_err(|error| self.storage(error))?;
        self.count(self.totals.with(length))
    }

    /// Removes the text of `id` with everything that was written of it; says whether it was there.
    pub fn remove(&mut self, id: u64) -> Result<bool, TextError> {
        let forward = match self.texts.remove(id).map_err(|error| tables::storage(&self.index, error))? {
            Some(bytes) => Forward::from_bytes(bytes.value()),
            None => return Ok(false),
        };
        let forward = forward.ok_or_else(|| self.damaged(format!("the terms of text {id} can't be read")))?;
        for term in &forward.terms {
            if !remove_posting(&self.index, &mut self.postings, term, id)? {
                return Err(self.damaged(format!("text {id} is not among those with '{term}'")));
            }
        }
        let totals = self.totals.without(forward.length);
        let totals = totals.ok_or_else(|| self.damaged("it counts fewer texts than it has".to_owned()))?;
        self.count(totals)?;
        Ok(true)
    }

    fn count(&mut self, totals: Totals) -> Result<(), TextError> {
        self.totals = totals;
        let outcome = self.statistics.insert(STATISTICS_KEY, totals.row()).map(drop);
        outcome.map_err(|error| self.storage(error))
    }

    fn storage(&self, error: redb::StorageError) -> TextError {
        tables::storage(&self.index, error)
    }

    fn damaged(&self, what: String) -> TextError {
        TextError::Damaged { index: self.index.clone(), what }
    }
}
