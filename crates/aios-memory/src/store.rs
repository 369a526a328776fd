//! The store: one file, one thread that writes, any number that read.

mod ageing;
mod apply;
mod erase;
mod read;
mod writer;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::Duration,
};

use aios_policy::Origin;
use aios_tables::{Medium, OnDisk};
use redb::{Database, ReadOnlyDatabase, ReadableDatabase as _};

use crate::{
    error::StoreError,
    index::SharedIndex,
    item::{Content, Item, Metric, Status},
};
use writer::Writer;

pub use ageing::Aged;
pub(crate) use apply::goal_hash;
pub use erase::Selector;
pub use read::{Events, KindTotal, View};
pub(crate) use writer::{Restored, restore};

/// Changes that may wait.
const QUEUE: usize = 4096;

/// Tells the time in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What may be another since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Items, vectors or the index: a transaction is on the disk.
    Content,
    /// What [`Store::state`] says.
    State,
}

/// Is told of changes, in the thread that made them, where it must not wait. It spares whoever works behind the store
/// from looking again and again.
pub type Observer = Arc<dyn Fn(Changed) + Send + Sync>;

/// How a memory is kept.
#[derive(Clone)]
pub struct Options {
    /// What was not changed for so long leaves the working tier.
    pub working_retention: Duration,
    /// What was not changed for so long leaves the long-term tier, for good. Zero: never.
    pub long_term_retention: Duration,
    /// Bytes that items may have together.
    pub size_max: u64,
    /// How long after a failure the file is not written again: until then the same error is told at once.
    pub retry_after: Duration,
    /// The clock.
    pub clock: Clock,
    /// What searches.
    pub index: SharedIndex,
    /// Who is told of changes.
    pub observer: Option<Observer>,
}

impl Default for Options {
    /// 30 days of work, no end of what lasts, 1 GiB, no index.
    fn default() -> Options {
        Options {
            working_retention: Duration::from_secs(30 * 24 * 3600),
            long_term_retention: Duration::ZERO,
            size_max: 1 << 30,
            retry_after: Duration::from_millis(250),
            clock: Arc::new(now),
            index: None,
            observer: None,
        }
    }
}

/// A change of one thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A new item. The state of an agent replaces the one under the same key.
    Put(Content),
    /// Another content for a task.
    ReplaceTask {
        /// The task.
        id: u64,
        /// What it is now.
        content: Content,
    },
    /// Where a goal stands.
    UpdateGoal(GoalUpdate),
    /// One use of a pattern.
    CountUse {
        /// The pattern.
        id: u64,
        /// Whether it did what it should.
        success: bool,
    },
    /// The value of a metric. The store says when.
    Metric(Metric),
    /// Vectors of items.
    Vectors(Vec<Embedded>),
}

/// Where a goal stands; what is `None` stays as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoalUpdate {
    /// The goal.
    pub id: u64,
    /// How far it is.
    pub status: Option<Status>,
    /// 0 to 1.
    pub progress: Option<f64>,
    /// Larger is sooner.
    pub priority: Option<u32>,
    /// What came of it.
    pub result: Option<String>,
    /// Whose words the result is made of; added to the goal's.
    pub origins: BTreeSet<Origin>,
}

/// The vector of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// The item.
    pub id: u64,
    /// [`Item::updated`] of the item whose words the vector is of. If it was changed since, the vector is not taken.
    pub updated: i64,
    /// The vector.
    pub vector: Vec<f32>,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it lives as long as one answer, and is nearly always the large one")]
pub enum Done {
    /// The item as it is now.
    Item(Item),
    /// It was written.
    Written,
}

/// Whether the memory can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Writable,
    /// It can be read; the error says why no more.
    ReadOnly(StoreError),
    /// Nothing of it can be read.
    Unreadable(StoreError),
}

/// The memory. It can be shared between threads.
pub struct Store {
    shared: Arc<Shared>,
    line: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    files: RwLock<Files>,
    /// Why the file is not written for now, or any more.
    trouble: Mutex<Option<StoreError>>,
    /// What the observer knows of the state.
    told: Mutex<State>,
    place: String,
    options: Options,
}

/// The open file.
enum Files {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
    None(StoreError),
}

/// What the thread that writes is asked for.
enum Job {
    Write(Write, Reply<Done>),
    Age(Reply<Aged>),
    Index(Reply<()>),
    Erase(Selector, Reply<u64>),
    Length(Reply<u64>),
}

/// Takes the answer. It is called in the thread that writes, and must not wait there.
pub type Reply<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

impl Store {
    /// Opens the memory in the file at `path`, or begins it. Only one process can.
    ///
    /// A damaged file is an open memory, too: [`Store::state`] tells, what can be read is read, and nothing is written.
    /// What is an error is a file of a newer version, of another program, or one that another process has.
    pub fn open(path: &Path, options: Options) -> Result<Store, StoreError> {
        Store::open_on(Box::new(OnDisk::new(path)), options)
    }

    /// Like [`Store::open`], on another medium than a file.
    pub fn open_on(medium: Box<dyn Medium>, options: Options) -> Result<Store, StoreError> {
        let shared = Arc::new(Shared {
            files: RwLock::new(Files::None(StoreError::Closed)),
            trouble: Mutex::new(None),
            told: Mutex::new(State::Unreadable(StoreError::Closed)),
            place: medium.name(),
            options,
        });
        let writer = Writer::open(shared.clone(), medium)?;
        let (line, jobs) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("memory-writer".into()).spawn(move || writer.run(&jobs));
        let thread = thread.map_err(|error| StoreError::Storage {
            place: shared.place.clone(),
            cause: format!("the thread that writes can't be started: {error}"),
        })?;
        Ok(Store { shared, line: Some(line), thread: Some(thread) })
    }

    /// Makes a change, and calls `reply` when it is on the disk or refused. Changes that come together share one writing.
    pub fn submit(&self, write: Write, reply: Reply<Done>) {
        self.send(Job::Write(write, reply));
    }

    /// Makes a change, and returns when it is on the disk.
    ///
    /// After an error other than a refusal the change may still turn up, if the disk failed at the very end; what was
    /// written when this returns stays there.
    pub fn write(&self, write: Write) -> Result<Done, StoreError> {
        self.ask(|reply| Job::Write(write, reply))
    }

    /// Adds an item, and returns its id when it is on the disk.
    pub fn put(&self, content: Content) -> Result<u64, StoreError> {
        match self.write(Write::Put(content))? {
            Done::Item(item) => Ok(item.id),
            Done::Written => Err(self.storage("an item was written without an id")),
        }
    }

    /// Moves what is due to the next tier, and drops what has been kept for long enough.
    pub fn age(&self) -> Result<Aged, StoreError> {
        self.ask(Job::Age)
    }

    /// Lets the index do a part of what makes searches faster and can wait; says whether there was something to do.
    pub fn work_on_index(&self) -> Result<bool, StoreError> {
        let has_work = self.options().index.as_ref().is_some_and(|index| index.has_work());
        if has_work {
            self.ask(Job::Index)?;
        }
        Ok(has_work)
    }

    /// Deletes what is selected, and returns how many items when nothing of them is in the file any more. Meanwhile nobody
    /// reads or writes. Where the deletion is on the disk but the file could not be written anew for lack of room, that is
    /// an error, and [`Store::age`] does it later.
    pub fn erase(&self, selector: Selector) -> Result<u64, StoreError> {
        self.ask(|reply| Job::Erase(selector, reply))
    }

    /// Length of the file in bytes.
    pub fn file_length(&self) -> Result<u64, StoreError> {
        self.ask(Job::Length)
    }

    /// Reads, all of one moment.
    pub fn read<T>(&self, read: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.read(read)
    }

    /// Whether it can be written.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Writes what is in line, and closes the file. Dropping does the same, but says nothing of errors.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), StoreError> {
        drop(self.line.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(self.storage("the thread that writes ended by a panic"));
        }
        match std::mem::replace(&mut *self.shared.files_mut(), Files::None(StoreError::Closed)) {
            Files::Writable(database) => {
                database.close().map_err(|error| StoreError::storage(&self.shared.place, error))
            }
            Files::ReadOnly(_) | Files::None(_) => Ok(()),
        }
    }

    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = mpsc::channel();
        self.send(job(Box::new(move |result| drop(reply.send(result)))));
        answer.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn send(&self, job: Job) {
        let Some(line) = &self.line else { return job.refuse(StoreError::Closed) };
        match line.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.refuse(StoreError::Busy(QUEUE)),
            Err(TrySendError::Disconnected(job)) => job.refuse(StoreError::Closed),
        }
    }

    fn storage(&self, cause: &str) -> StoreError {
        StoreError::Storage { place: self.shared.place.clone(), cause: cause.to_owned() }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "the memory could not be closed in order");
        }
    }
}

impl Job {
    fn refuse(self, error: StoreError) {
        match self {
            Job::Write(_, reply) => reply(Err(error)),
            Job::Age(reply) => reply(Err(error)),
            Job::Index(reply) => reply(Err(error)),
            Job::Erase(_, reply) | Job::Length(reply) => reply(Err(error)),
        }
    }
}

impl Shared {
    fn files(&self) -> RwLockReadGuard<'_, Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn files_mut(&self) -> RwLockWriteGuard<'_, Files> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        let trouble = self.trouble().clone();
        match (&*self.files(), trouble) {
            (Files::None(error), _) => State::Unreadable(error.clone()),
            (_, Some(error)) => State::ReadOnly(error),
            (Files::Writable(_), None) => State::Writable,
            (Files::ReadOnly(_), None) => State::ReadOnly(StoreError::Closed),
        }
    }

    /// Tells the observer of another state. Called where none of the locks is held, after whatever may have changed it.
    fn tell_state(&self) {
        let Some(observer) = &self.options.observer else { return };
        let state = self.state();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != state {
            *told = state;
            observer(Changed::State);
        }
    }

    fn tell_content(&self) {
        if let Some(observer) = &self.options.observer {
            observer(Changed::Content);
        }
    }

    /// From now on nothing is written: the file is damaged.
    fn damaged(&self, error: &StoreError) {
        let mut trouble = self.trouble();
        if !matches!(&*trouble, Some(StoreError::Damaged { .. })) {
            tracing::error!(%error, "the memory is damaged and is only read from now on");
            *trouble = Some(error.clone());
        }
    }

    fn read<T>(&self, read: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let files = self.files();
        let storage = |error: redb::Error| StoreError::storage(&self.place, error);
        let transaction = match &*files {
            Files::Writable(database) => database.begin_read(),
            Files::ReadOnly(database) => database.begin_read(),
            Files::None(error) => return Err(error.clone()),
        };
        let view = View::new(transaction.map_err(|error| storage(error.into()))?, self);
        // Bytes that are no page of the database may make it panic.
        let work = std::panic::AssertUnwindSafe(|| read(&view));
        let done = std::panic::catch_unwind(work).unwrap_or_else(|_| Err(self.damage("a page makes no sense")));
        if let Some(error) = done.as_ref().err().cloned().or_else(|| view.first_damage())
            && matches!(error, StoreError::Damaged { .. })
        {
            self.damaged(&error);
            drop(view);
            drop(files);
            self.tell_state();
        }
        done
    }

    fn damage(&self, reason: &str) -> StoreError {
        StoreError::Damaged { place: self.place.clone(), reason: reason.to_owned() }
    }
}

/// The time by the device's clock.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
