//! The thread that writes: batches, and what happens after failures.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
    time::Instant,
};

use aios_tables::Medium;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use super::{
    Done, Files, Job, Reply, Shared, Write,
    apply::{Failure, Work},
};
use crate::{
    error::StoreError,
    row,
    schema::{self, SchemaError},
    tables::{COUNTERS, LAST_ID},
};

/// Most changes that are written at once.
const BATCH: usize = 1024;
/// Memory for pages of the database, in bytes.
const CACHE: usize = 8 << 20;

/// The thread's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) medium: Box<dyn Medium>,
    /// The last id that was acknowledged, or found on the disk.
    last_id: u64,
    failed: Option<(Instant, StoreError)>,
}

impl Writer {
    /// Opens the file for the first time.
    pub fn open(shared: Arc<Shared>, medium: Box<dyn Medium>) -> Result<Writer, StoreError> {
        let mut writer = Writer { shared, medium, last_id: 0, failed: None };
        match writer.open_database() {
            Ok(database) => writer.take(database)?,
            Err(error @ StoreError::Damaged { .. }) => writer.open_damaged(error),
            // A disk without room still has what is on it.
            Err(error @ StoreError::Full { .. }) => writer.open_read_only(error)?,
            Err(error) => return Err(error),
        }
        writer.shared.tell_state();
        Ok(writer)
    }

    /// Works until nobody can ask for anything any more.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Write(write, reply) => next = self.write_batch((write, reply), jobs),
                    Job::Age(reply) => reply(self.age()),
                    Job::Index(reply) => reply(self.work_on_index()),
                    Job::Erase(selector, reply) => reply(self.erase(&selector)),
                    Job::Length(reply) => reply(Ok(self.medium.length())),
                }
                self.shared.tell_state();
            }
        }
    }

    /// Writes this change together with those that wait behind it. Returns the job that it met and did not do.
    fn write_batch(&mut self, first: (Write, Reply<Done>), jobs: &Receiver<Job>) -> Option<Job> {
        let mut batch = vec![first];
        let mut next = None;
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(Job::Write(write, reply)) => batch.push((write, reply)),
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let outcomes = self.attempt(|work| batch.iter().map(|(write, _)| outcome(work.apply(write))).collect());
        match outcomes {
            Ok(outcomes) => {
                let outcomes: Vec<Result<Done, StoreError>> = outcomes;
                for ((_, reply), outcome) in batch.into_iter().zip(outcomes) {
                    reply(outcome);
                }
            }
            Err(error) => batch.into_iter().for_each(|(_, reply)| reply(Err(error.clone()))),
        }
        next
    }

    /// Lets the index do a part of what can wait.
    fn work_on_index(&mut self) -> Result<(), StoreError> {
        self.attempt(|work| {
            work.is_for_index = true;
            Ok(())
        })
    }

    /// Does `work` in one transaction, and returns when it is on the disk. A database is not used again after an error:
    /// what it has in memory may differ from what is on the disk.
    pub fn attempt<T>(&mut self, work: impl FnOnce(&mut Work<'_>) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.ready()?;
        let shared = self.shared.clone();
        let done = {
            let files = shared.files();
            let Files::Writable(database) = &*files else { return Err(StoreError::Closed) };
            // Bytes that are no page of the database may make it panic.
            catch_unwind(AssertUnwindSafe(|| transact(database, &shared, work)))
        };
        match done {
            Ok(Ok((done, last_id))) => {
                self.last_id = last_id;
                shared.tell_content();
                Ok(done)
            }
            Ok(Err(error)) => Err(self.fail(StoreError::storage(&shared.place, error))),
            Err(_) => Err(self.fail(shared.damage("a page makes no sense"))),
        }
    }

    /// Refuses where the file is not to be written now; opens it again after a failure, when it is time to.
    pub fn ready(&mut self) -> Result<(), StoreError> {
        if let Some(error @ StoreError::Damaged { .. }) = &*self.shared.trouble() {
            return Err(error.clone());
        }
        let Some((when, error)) = &self.failed else { return Ok(()) };
        if when.elapsed() < self.shared.options.retry_after {
            return Err(error.clone());
        }
        if !matches!(&*self.shared.files(), Files::Writable(_)) {
            self.reopen()?;
        }
        self.failed = None;
        *self.shared.trouble() = None;
        Ok(())
    }

    /// Notes a failure, and opens the file again for whoever reads.
    pub fn fail(&mut self, error: StoreError) -> StoreError {
        tracing::error!(%error, "the memory could not be written");
        self.failed = Some((Instant::now(), error.clone()));
        *self.shared.trouble() = Some(error.clone());
        if let Err(again) = self.reopen() {
            tracing::error!(error = %again, "the memory could not be opened again");
        }
        error
    }

    /// Closes the file and opens what the disk has: for writing if that can be, else for reading.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        let closed = std::mem::replace(&mut *self.shared.files_mut(), Files::None(StoreError::Closed));
        drop(closed);
        self.medium.forget();
        let opened = match self.open_database() {
            Ok(database) => self.take(database),
            Err(error @ StoreError::Damaged { .. }) => {
                self.open_damaged(error.clone());
                return Err(error);
            }
            Err(error) => Err(error),
        };
        let Err(error) = opened else { return Ok(()) };
        if let Err(unreadable) = self.open_read_only(error.clone()) {
            *self.shared.files_mut() = Files::None(unreadable);
        }
        Err(error)
    }

    /// Has the database used from now on, if all that was acknowledged is in it.
    fn take(&mut self, database: Database) -> Result<(), StoreError> {
        let found = last_id(&database).map_err(|error| StoreError::storage(&self.shared.place, error))?;
        *self.shared.files_mut() = Files::Writable(database);
        if found < self.last_id {
            // A write that was told as failed can have been done; one that was acknowledged can't be gone.
            let error = self.shared.damage(&format!("item {} was acknowledged, and is gone", self.last_id));
            self.shared.damaged(&error);
            return Err(error);
        }
        self.last_id = found;
        Ok(())
    }

    /// Opens or begins the database, with the tables of this version.
    fn open_database(&self) -> Result<Database, StoreError> {
        let place = &self.shared.place;
        let index = &self.shared.options.index;
        let work = || {
            let fill = |database: &Database| schema::prepare(database, index).map_err(redb_error);
            let database = self.medium.open(&builder(), &fill).map_err(|error| StoreError::storage(place, error))?;
            schema::prepare(&database, index).map_err(|error: SchemaError| error.at(place))?;
            if let Some(index) = index {
                let opened = database.begin_read().map_err(redb::Error::from).and_then(|read| index.open(&read));
                opened.map_err(|error| StoreError::storage(place, error))?;
            }
            Ok(database)
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(self.shared.damage("a page makes no sense")))
    }

    /// Opens what can be read of a damaged file.
    fn open_damaged(&mut self, error: StoreError) {
        if let Err(unreadable) = self.open_read_only(error.clone()) {
            tracing::error!(error = %unreadable, "nothing of the memory can be read");
            *self.shared.files_mut() = Files::None(error.clone());
        }
        self.shared.damaged(&error);
    }

    /// Opens the file for reading, because of `error`.
    fn open_read_only(&mut self, error: StoreError) -> Result<(), StoreError> {
        let place = &self.shared.place;
        let work = || -> Result<_, StoreError> {
            let opened = self.medium.open_read_only(&builder());
            let database = opened.map_err(|error| StoreError::storage(place, error))?;
            let transaction = database.begin_read().map_err(|error| StoreError::storage(place, error))?;
            schema::found(&transaction).map_err(|error| error.at(place))?;
            if let Some(index) = &self.shared.options.index
                && let Err(error) = index.open(&transaction)
            {
                tracing::warn!(%error, "what is searched by can't be read");
            }
            drop(transaction);
            Ok(database)
        };
        let opened = catch_unwind(AssertUnwindSafe(work));
        let database = opened.unwrap_or_else(|_| Err(self.shared.damage("a page makes no sense")))?;
        *self.shared.files_mut() = Files::ReadOnly(database);
        self.failed = Some((Instant::now(), error.clone()));
        *self.shared.trouble() = Some(error);
        Ok(())
    }
}

/// How the database is opened.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Begins to write. The commit is durable when it returns, and in two phases: data that an agent chose can't make half of
/// it look whole after a power cut. It keeps what opening needs after a crash, so that opening takes no look at every page.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// One transaction, and the last id after it.
fn transact<T>(
    database: &Database,
    shared: &Shared,
    work: impl FnOnce(&mut Work<'_>) -> Result<T, redb::Error>,
) -> Result<(T, u64), redb::Error> {
    let transaction = begin(database)?;
    let now = (shared.options.clock)();
    let mut at_work = Work::new(&transaction, &shared.place, shared.options.size_max, now)?;
    let done = work(&mut at_work)?;
    let last_id = at_work.tables.counters.get(LAST_ID)?.map_or(0, |last| last.value());
    let after_commit = at_work.finish(&transaction, shared.options.index.as_deref())?;
    transaction.commit()?;
    after_commit.map_or(Ok(()), |publish| publish())?;
    Ok((done, last_id))
}

/// What becomes of one change: a refusal is its own, anything else is the whole transaction's.
fn outcome(applied: Result<Done, Failure>) -> Result<Result<Done, StoreError>, redb::Error> {
    match applied {
        Ok(done) => Ok(Ok(done)),
        Err(Failure::Refused(error)) => Ok(Err(error)),
        Err(Failure::Storage(error)) => Err(error),
    }
}

fn last_id(database: &Database) -> Result<u64, redb::Error> {
    let counters = database.begin_read()?.open_table(COUNTERS)?;
    Ok(counters.get(LAST_ID)?.map_or(0, |last| last.value()))
}

/// A new file is of this version, so that only the database's own errors can come.
pub(super) fn redb_error(error: SchemaError) -> redb::Error {
    match error {
        SchemaError::Redb(error) => error,
        SchemaError::Newer(_) | SchemaError::Foreign(_) => redb::Error::Corrupted("a new file is not new".into()),
    }
}

/// What repair has saved of a memory.
pub(crate) struct Restored<'s> {
    /// In the order of their ids.
    pub items: Vec<&'s crate::item::Item>,
    pub metrics: &'s [crate::item::Metric],
}

/// Fills a new database with items and metrics that were in another.
pub(crate) fn restore(database: &Database, restored: &Restored<'_>, place: &str) -> Result<(), redb::Error> {
    schema::prepare(database, &None).map_err(redb_error)?;
    let transaction = begin(database)?;
    let mut work = Work::new(&transaction, place, u64::MAX, 0)?;
    for item in &restored.items {
        work.restore(item)?;
    }
    for metric in restored.metrics {
        work.tables.metrics.insert(&*metric.name, &row::encode_metric(metric)[..])?;
    }
    work.finish(&transaction, None)?;
    Ok(transaction.commit()?)
}
