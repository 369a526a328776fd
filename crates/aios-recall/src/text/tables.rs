//! The tables of an index.

use std::collections::BTreeMap;

use aios_tables::copy_table;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{
    Statistics, TextError,
    block::{self, read_number, write_number},
    postings::parse_key,
};

/// Key of the only row of the statistics.
pub(super) const STATISTICS_KEY: &str = "totals";

/// Names of an index and its tables.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub index: String,
    postings: String,
    texts: String,
    statistics: String,
}

impl Names {
    pub fn new(index: &str) -> Names {
        Names {
            index: index.to_owned(),
            postings: format!("{index}.text.postings"),
            texts: format!("{index}.text.texts"),
            statistics: format!("{index}.text.statistics"),
        }
    }

    /// By term, a zero byte and the number of its first text (eight bytes, the highest first): a block.
    pub fn postings(&self) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
        TableDefinition::new(&self.postings)
    }

    /// By number of the text: its length and terms.
    pub fn texts(&self) -> TableDefinition<'_, u64, &'static [u8]> {
        TableDefinition::new(&self.texts)
    }

    /// By [`STATISTICS_KEY`]: number of texts and terms.
    pub fn statistics(&self) -> TableDefinition<'_, &'static str, (u64, u64)> {
        TableDefinition::new(&self.statistics)
    }

    pub fn storage(&self, error: impl Into<redb::Error>) -> TextError {
        storage(&self.index, error)
    }
}

/// Copies all tables.
pub(super) fn copy(names: &Names, from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(names.postings(), from, to)?;
    copy_table(names.texts(), from, to)?;
    copy_table(names.statistics(), from, to)
}

/// What the database said of `index`.
pub(super) fn storage(index: &str, error: impl Into<redb::Error>) -> TextError {
    TextError::Storage { index: index.to_owned(), cause: error.into() }
}

/// Counts of all texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    texts: u64,
    terms: u64,
}

impl Totals {
    pub fn row(self) -> (u64, u64) {
        (self.texts, self.terms)
    }

    /// With a text of `length` terms more.
    pub fn with(self, length: u32) -> Totals {
        Totals { texts: self.texts + 1, terms: self.terms + u64::from(length) }
    }

    /// Without a text of `length` terms; none where that can't have been there.
    pub fn without(self, length: u32) -> Option<Totals> {
        let texts = self.texts.checked_sub(1)?;
        Some(Totals { texts, terms: self.terms.checked_sub(length.into())? })
    }
}

impl From<(u64, u64)> for Totals {
    fn from((texts, terms): (u64, u64)) -> Totals {
        Totals { texts, terms }
    }
}

impl From<Totals> for Statistics {
    fn from(totals: Totals) -> Statistics {
        Statistics { texts: totals.texts, terms: totals.terms }
    }
}

/// What has to be known of a text to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forward {
    /// Number of its terms, each as often as it occurs.
    pub length: u32,
    /// Its terms, each once, rising.
    pub terms: Vec<String>,
}

impl Forward {
    /// Length, then each term as: how many bytes it shares with the one before, how many follow, those bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * self.terms.len());
        write_number(&mut bytes, self.length.into());
        let mut before: &str = "";
        for term in &self.terms {
            let shared = before.bytes().zip(term.bytes()).take_while(|(one, other)| one == other).count();
            write_number(&mut bytes, shared as u64);
            write_number(&mut bytes, (term.len() - shared) as u64);
            bytes.extend(&term.as_bytes()[shared..]);
            before = term;
        }
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Option<Forward> {
        let length = u32::try_from(read_number(&mut bytes)?).ok()?;
        let mut terms: Vec<String> = Vec::new();
        while !bytes.is_empty() {
            let shared = usize::try_from(read_number(&mut bytes)?).ok()?;
            let more = usize::try_from(read_number(&mut bytes)?).ok()?;
            let (new, rest) = bytes.split_at_checked(more)?;
            let before = terms.last().map_or(&[][..], |term| term.as_bytes());
            let term = [before.get(..shared)?, new].concat();
            terms.push(String::from_utf8(term).ok()?);
            bytes = rest;
        }
        Some(Forward { length, terms })
    }
}

/// Reads all tables and compares them with each other and with `counted`.
pub(super) fn check(
    names: &Names,
    transaction: &ReadTransaction,
    counted: Statistics,
) -> Result<Statistics, TextError> {
    let damaged = |what: String| TextError::Damaged { index: names.index.clone(), what };
    let texts = match transaction.open_table(names.texts()) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) if counted == Statistics::default() => return Ok(counted),
        Err(error) => return Err(names.storage(error)),
    };
    let (mut found, mut terms) = (Statistics::default(), 0_u64);
    let mut lengths = BTreeMap::new();
    for row in texts.iter().map_err(|error| names.storage(error))? {
        let (id, bytes) = row.map_err(|error| names.storage(error))?;
        let forward = Forward::from_bytes(bytes.value());
        let forward = forward.ok_or_else(|| damaged(format!("the terms of text {} can't be read", id.value())))?;
        found = Statistics { texts: found.texts + 1, terms: found.terms + u64::from(forward.length) };
        terms += forward.terms.len() as u64;
        lengths.insert(id.value(), forward.length);
    }
    if found != counted {
        return Err(damaged(format!("it counts {counted:?} and has {found:?}")));
    }
    let postings = transaction.open_table(names.postings()).map_err(|error| names.storage(error))?;
    let (mut block, mut listed) = (Vec::new(), 0_u64);
    let mut before = (String::new(), None);
    for row in postings.iter().map_err(|error| names.storage(error))? {
        let (key, value) = row.map_err(|error| names.storage(error))?;
        let unreadable = || damaged(format!("the block {:?} can't be read", String::from_utf8_lossy(key.value())));
        let (term, first) = parse_key(key.value()).ok_or_else(unreadable)?;
        block::decode(first, value.value(), &mut block).ok_or_else(unreadable)?;
        if before.0 == term && before.1 >= Some(first) {
            return Err(damaged(format!("blocks of '{term}' overlap")));
        }
        let fits = block.iter().all(|posting| lengths.get(&posting.id) == Some(&posting.length));
        if !fits {
            return Err(damaged(format!("the block of '{term}' from {first} has texts that are not there")));
        }
        listed += block.len() as u64;
        before = (term.to_owned(), block.last().map(|posting| posting.id));
    }
    if listed != terms {
        return Err(damaged(format!("its texts have {terms} different terms, and {listed} are listed")));
    }
    debug_assert!(texts.len().is_ok_and(|len| len == found.texts));
    Ok(found)
}
