//! Reading: any number of processes, while another one writes.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use jiff::Timestamp;
use redb::{
    Builder, ConcurrencyMode, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable as _,
    ReadableTableMetadata as _,
};

use crate::{
    entry::Record,
    error::ReadError,
    hash::Hash,
    tables::{ABOUT, CHECKPOINTS, ENTRIES, FORMAT, FORMAT_NOW, ORIGIN, parse_checkpoint, parse_entry},
    tree::Frontier,
};

/// Memory for pages of the database, in bytes.
const CACHE: usize = 8 << 20;

/// A ledger's file, open for reading.
pub struct Reader {
    database: ReadOnlyDatabase,
    place: String,
}

/// A ledger as it was at one moment. What is written later is not in it.
pub struct Snapshot {
    place: String,
    origin: String,
    first: u64,
    size: u64,
    entries: ReadOnlyTable<u64, &'static [u8]>,
    checkpoints: ReadOnlyTable<u64, &'static [u8]>,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Number of the entry.
    pub seq: u64,
    /// Hash of the chain up to it, as it is stored; [`verify`](crate::verify()) tells whether it is right.
    pub hash: Hash,
    /// Canonical JSON.
    pub record: String,
}

/// Which entries are looked for. What is `None` is not asked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this tool: the body's member `tool`.
    pub tool: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Older than this.
    pub until: Option<Timestamp>,
}

/// Which entry comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were recorded.
    OldestFirst,
    /// The last one first.
    NewestFirst,
}

impl Reader {
    /// Opens the ledger in the file at `path`. It changes nothing there, and needs no more than to read the file.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        let place = path.display().to_string();
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(CACHE);
        let database =
            guarded(&place, || builder.open_read_only(path).map_err(|error| ReadError::storage(&place, error)))?;
        Ok(Reader { database, place })
    }

    /// What is recorded now.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        guarded(&self.place, || Snapshot::of(&self.database, self.place.clone()))
    }
}

impl Snapshot {
    pub(crate) fn of(database: &impl ReadableDatabase, place: String) -> Result<Snapshot, ReadError> {
        let storage = |error: redb::Error| ReadError::storage(&place, error);
        let tables = (|| -> Result<_, redb::Error> {
            let transaction = database.begin_read()?;
            let about = transaction.open_table(ABOUT)?;
            let text = |name| Ok::<_, redb::Error>(about.get(name)?.map(|value| value.value().to_owned()));
            let (format, origin) = (text(FORMAT)?, text(ORIGIN)?);
            Ok((transaction.open_table(ENTRIES)?, transaction.open_table(CHECKPOINTS)?, format, origin))
        })();
        let (entries, checkpoints, format, origin) = match tables {
            Err(redb::Error::TableDoesNotExist(_)) => {
                return Err(ReadError::Damaged { place, reason: "it was never begun".into() });
            }
            tables => tables.map_err(storage)?,
        };
        let origin = match (format.as_deref(), origin) {
            (Some(FORMAT_NOW), Some(origin)) => origin,
            (format, _) => {
                let reason =
                    format!("its format is '{}', and this program reads '{FORMAT_NOW}'", format.unwrap_or("?"));
                return Err(ReadError::Damaged { place, reason });
            }
        };
        let ends = |entries: &ReadOnlyTable<u64, &'static [u8]>| -> Result<(u64, u64), redb::Error> {
            let first = entries.first()?.map_or(0, |(seq, _)| seq.value());
            Ok((first, entries.last()?.map_or(0, |(seq, _)| seq.value().saturating_add(1))))
        };
        let (first, size) = ends(&entries).map_err(storage)?;
        Ok(Snapshot { place, origin, first, size, entries, checkpoints })
    }

    /// Name of the ledger.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of the oldest entry that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number of entries, those that were dropped included: the number of the next one.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The entries of these numbers, oldest first; `rev()` turns that around.
    pub fn entries(
        &self,
        range: Range<u64>,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Stored, ReadError>>, ReadError> {
        let items = self.entries.range(range).map_err(|error| ReadError::storage(&self.place, error))?;
        Ok(items.map(|item| {
            let (seq, value) = item.map_err(|error| ReadError::storage(&self.place, error))?;
            self.stored(seq.value(), value.value())
        }))
    }

    /// The entries of these numbers that `filter` lets through.
    pub fn select(
        &self,
        range: Range<u64>,
        order: Order,
        filter: Filter,
    ) -> Result<impl Iterator<Item = Result<Record, ReadError>>, ReadError> {
        let (mut entries, newest) = (self.entries(range)?, order == Order::NewestFirst);
        let next = move || if newest { entries.next_back() } else { entries.next() };
        let records = std::iter::from_fn(next).map(|stored| self.parsed(&stored?));
        Ok(records.filter(move |record| record.as_ref().map_or(true, |record| filter.matches(record))))
    }

    /// The entry of this number.
    pub fn get(&self, seq: u64) -> Result<Option<Stored>, ReadError> {
        let value = self.entries.get(seq).map_err(|error| ReadError::storage(&self.place, error))?;
        value.map(|value| self.stored(seq, value.value())).transpose()
    }

    /// What a stored entry says.
    pub fn parsed(&self, stored: &Stored) -> Result<Record, ReadError> {
        serde_json::from_str(&stored.record).map_err(|error| self.damaged(stored.seq, &error.to_string()))
    }

    /// Number of checkpoints that are kept.
    pub fn checkpoints(&self) -> Result<u64, ReadError> {
        self.checkpoints.len().map_err(|error| ReadError::storage(&self.place, error))
    }

    /// The signed checkpoint of `size` entries.
    pub fn checkpoint(&self, size: u64) -> Result<Option<String>, ReadError> {
        let value = self.checkpoints.get(size).map_err(|error| ReadError::storage(&self.place, error))?;
        Ok(value.and_then(|value| parse_checkpoint(size, value.value()).map(|(_, note)| note.to_owned())))
    }

    /// The newest signed checkpoint with at most `size` entries.
    pub fn checkpoint_before(&self, size: u64) -> Result<Option<String>, ReadError> {
        Ok(self.last_checkpoint_to(size)?.map(|(_, note)| note))
    }

    /// Tree and note of the newest checkpoint.
    pub(crate) fn last_checkpoint(&self) -> Result<Option<(Frontier, String)>, ReadError> {
        self.last_checkpoint_to(u64::MAX)
    }

    /// Tree and note of the newest checkpoint with at most `size` entries.
    pub(crate) fn last_checkpoint_to(&self, size: u64) -> Result<Option<(Frontier, String)>, ReadError> {
        let storage = |error: redb::StorageError| ReadError::storage(&self.place, error);
        let Some(item) = self.checkpoints.range(..=size).map_err(storage)?.next_back() else { return Ok(None) };
        let (size, value) = item.map_err(storage)?;
        let place = self.place.clone();
        let damaged = || ReadError::Damaged { place, reason: format!("its checkpoint {} can't be read", size.value()) };
        let (frontier, note) = parse_checkpoint(size.value(), value.value()).ok_or_else(damaged)?;
        Ok(Some((frontier, note.to_owned())))
    }

    /// The stored hash of an entry.
    pub(crate) fn hash(&self, seq: u64) -> Option<Hash> {
        let value = self.entries.get(seq).ok()??;
        parse_entry(value.value()).map(|(hash, _)| *hash)
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn table(&self) -> &ReadOnlyTable<u64, &'static [u8]> {
        &self.entries
    }

    pub(crate) fn checkpoint_table(&self) -> &ReadOnlyTable<u64, &'static [u8]> {
        &self.checkpoints
    }

    fn stored(&self, seq: u64, value: &[u8]) -> Result<Stored, ReadError> {
        let (hash, record) = parse_entry(value).ok_or_else(|| self.damaged(seq, "it is too short"))?;
        let record = str::from_utf8(record).map_err(|error| self.damaged(seq, &error.to_string()))?;
        Ok(Stored { seq, hash: *hash, record: record.to_owned() })
    }

    fn damaged(&self, seq: u64, reason: &str) -> ReadError {
        ReadError::Damaged { place: self.place.clone(), reason: format!("entry {seq} can't be read: {reason}") }
    }
}

/// What `read` gives of the ledger at `place`. The database believes its file, and may panic on one that was tampered with
/// or rotted; that is an error here.
pub(crate) fn guarded<T>(place: &str, read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let reason = "its database is damaged so that it can't be read".into();
        Err(ReadError::Damaged { place: place.to_owned(), reason })
    })
}

impl Filter {
    /// Whether `record` is one that is looked for.
    pub fn matches(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.agent, Some(&record.agent))
            && is(&self.tool, record.body.get("tool").and_then(|tool| tool.as_str()))
            && is(&self.kind, Some(&record.kind))
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
    }
}
