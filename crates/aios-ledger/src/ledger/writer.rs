//! The thread that leads writes here: database, head of chain and tree, and what happens after failures.

mod load;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aios_keys::note::Verifier;
use aios_tables::Medium;
use redb::{Builder, ConcurrencyMode, Database, WriteTransaction};

use super::{CACHE, Clock, Pruned, queue::Ticket};
use crate::{
    checkpoint::Checkpoint,
    entry::{Entry, Receipt, hashes, time_text},
    error::{LedgerError, ReadError},
    hash::Hash,
    read::Snapshot,
    tables::{CHECKPOINTS, ENTRIES, checkpoint_value, entry_value},
    tree::Frontier,
};
use load::{Loaded, load};

/// Where the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The tree of all records.
    pub frontier: Frontier,
    /// Hash of the chain up to the last record.
    pub chain: Hash,
}

/// The database and what is known of it.
pub(super) struct Writer {
    medium: Box<dyn Medium>,
    keys: Verifier,
    retry_after: Duration,
    /// `None` before it is opened, after a failure, and while something is written, so that after a panic it is opened
    /// anew, too.
    database: Option<Database>,
    /// What was acknowledged, or was found on the disk.
    head: Head,
    /// Number of entries that have a checkpoint.
    signed: u64,
    failed: Option<(Instant, LedgerError)>,
    closed: bool,
}

impl Writer {
    /// Opens or begins the ledger on `medium`, whose checkpoints `keys` check.
    pub fn open(medium: Box<dyn Medium>, keys: Verifier, retry_after: Duration) -> Result<Writer, LedgerError> {
        let (database, loaded) = open(&*medium, &keys)?;
        let Loaded { head, signed } = loaded;
        Ok(Writer { medium, keys, retry_after, database: Some(database), head, signed, failed: None, closed: false })
    }

    /// Number of entries with a checkpoint, and of all.
    pub fn unsigned(&self) -> (u64, u64) {
        (self.signed, self.head.frontier.size())
    }

    /// Where the ledger stands, if it has entries without a checkpoint.
    pub fn unsigned_head(&self) -> Option<Head> {
        (self.head.frontier.size() > self.signed).then(|| self.head.clone())
    }

    /// Writes the entries of a batch: all or none.
    pub fn append(&mut self, batch: &[Arc<Ticket>], clock: &Clock) -> Result<Vec<Receipt>, LedgerError> {
        let (head, receipts) = self.attempt(|database, head| {
            let transaction = begin(database)?;
            let mut head = head.clone();
            let entries = batch.iter().map(|ticket| &ticket.entry);
            let receipts = entries.map(|entry| put(&transaction, &mut head, entry, clock)).collect::<Result<_, _>>()?;
            transaction.commit()?;
            Ok((head, receipts))
        })?;
        self.head = head;
        Ok(receipts)
    }

    /// Keeps the signed checkpoint of `head`.
    pub fn put_checkpoint(&mut self, head: &Head, note: &str) -> Result<(), LedgerError> {
        let size = head.frontier.size();
        self.attempt(|database, _| {
            let transaction = begin(database)?;
            transaction.open_table(CHECKPOINTS)?.insert(size, &checkpoint_value(&head.frontier, note)[..])?;
            transaction.commit()?;
            Ok(())
        })?;
        self.signed = self.signed.max(size);
        Ok(())
    }

    /// Drops the entries and checkpoints before `checkpoint`, and records that. All or nothing.
    pub fn prune(&mut self, checkpoint: &Checkpoint, clock: &Clock) -> Result<Pruned, LedgerError> {
        let size = checkpoint.size;
        let place = self.medium.name();
        let snapshot = self.snapshot().map_err(|error| LedgerError::Storage { place, cause: error.to_string() })?;
        let kept = snapshot.checkpoint(size).ok().flatten();
        if kept.and_then(|note| Checkpoint::open(&note, &self.keys).ok()).as_ref() != Some(checkpoint) {
            return Err(LedgerError::Unknown { size });
        }
        if size <= snapshot.first() {
            return Ok(Pruned { dropped: 0, receipt: None });
        }
        let dropped = size - snapshot.first();
        drop(snapshot);
        let (head, receipt) = self.attempt(|database, head| {
            let transaction = begin(database)?;
            let mut head = head.clone();
            transaction.open_table(ENTRIES)?.retain_in(..size, |_, _| false)?;
            transaction.open_table(CHECKPOINTS)?.retain_in(..size, |_, _| false)?;
            let receipt = put(&transaction, &mut head, &Entry::retention(size, &checkpoint.root), clock)?;
            transaction.commit()?;
            Ok((head, receipt))
        })?;
        self.head = head;
        Ok(Pruned { dropped, receipt: Some(receipt) })
    }

    /// What is on the disk now.
    pub fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let place = self.medium.name();
        if let Err(error) = self.ready() {
            return Err(ReadError::Storage { place, cause: error.to_string() });
        }
        let database = self.database.as_ref().expect("invariant: a ready writer has a database");
        Snapshot::of(database, place)
    }

    /// Closes the file for good.
    pub fn close(&mut self) -> Result<(), LedgerError> {
        self.closed = true;
        match self.database.take() {
            Some(database) => database.close().map_err(|error| LedgerError::storage(&self.medium.name(), error)),
            None => Ok(()),
        }
    }

    /// Does `work` on the database. A database is not used again after an error: what it has in memory may differ from
    /// what is on the disk.
    fn attempt<T>(&mut self, work: impl FnOnce(&Database, &Head) -> Result<T, redb::Error>) -> Result<T, LedgerError> {
        self.ready()?;
        let database = self.database.take().expect("invariant: a ready writer has a database");
        match work(&database, &self.head) {
            Ok(done) => {
                self.database = Some(database);
                Ok(done)
            }
            Err(error) => {
                drop(database);
                self.medium.forget();
                Err(self.fail(LedgerError::storage(&self.medium.name(), error)))
            }
        }
    }

    /// Opens the database again after a failure, when it is time to.
    fn ready(&mut self) -> Result<(), LedgerError> {
        if self.closed {
            return Err(LedgerError::Closed);
        }
        if self.database.is_some() {
            return Ok(());
        }
        if let Some((when, error)) = &self.failed
            && (when.elapsed() < self.retry_after || matches!(error, LedgerError::Lost { .. }))
        {
            return Err(error.clone());
        }
        match self.reopen() {
            Ok(()) => {
                self.failed = None;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn reopen(&mut self) -> Result<(), LedgerError> {
        let (database, Loaded { head, signed }) = open(&*self.medium, &self.keys)?;
        // What was acknowledged has to be there. More may be: a write that was told as failed can have been done.
        if let Some(seq) = self.head.frontier.size().checked_sub(1) {
            let place = self.medium.name();
            let hash = Snapshot::of(&database, place.clone()).ok().and_then(|snapshot| snapshot.hash(seq));
            if hash != Some(self.head.chain) {
                return Err(LedgerError::Lost { place, seq });
            }
        }
        (self.database, self.head, self.signed) = (Some(database), head, signed);
        tracing::info!(entries = self.head.frontier.size(), "the ledger is open again");
        Ok(())
    }

    fn fail(&mut self, error: LedgerError) -> LedgerError {
        self.failed = Some((Instant::now(), error.clone()));
        error
    }
}

/// Opens the database on `medium` and reads where the ledger stands.
fn open(medium: &dyn Medium, keys: &Verifier) -> Result<(Database, Loaded), LedgerError> {
    let place = medium.name();
    let mut builder = Builder::new();
    // Other processes read while this one writes.
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(CACHE);
    let tables = |database: &Database| load::begin_tables(database, keys.name());
    let database = medium.open(&builder, &tables).map_err(|error| LedgerError::storage(&place, error))?;
    let loaded = load(&database, &place, keys)?;
    Ok((database, loaded))
}

/// Begins to write. The commit is durable when it returns, and in two phases: data that an agent chose can't make half of
/// it look whole after a power cut (see redb's `set_two_phase_commit`).
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Writes `entry` as the next one.
fn put(transaction: &WriteTransaction, head: &mut Head, entry: &Entry, clock: &Clock) -> Result<Receipt, redb::Error> {
    let (seq, time) = (head.frontier.size(), clock());
    let record = entry.record(seq, &time_text(time));
    let (chain, leaf) = hashes(&head.chain, record.as_bytes());
    transaction.open_table(ENTRIES)?.insert(seq, &entry_value(&chain, &record)[..])?;
    head.chain = chain;
    head.frontier.push(leaf);
    Ok(Receipt { seq, hash: chain, time })
}
