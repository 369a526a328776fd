//! Who works next: a bounded queue, first come first served, and one worker thread with one session per slot.

mod worker;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, mpsc::OwnedPermit},
    time::timeout,
};

use crate::{
    engine::Cancel,
    generate::{GenerateRequest, Generated, Piece},
    registry::{Resident, Using},
};

/// Events that may wait for a slow receiver before its slot waits with it. The last one has a place of its own.
const EVENTS_IN_FLIGHT: usize = 64;

/// Time for a worker to notice that its request was cancelled; the engine looks between layers.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Admits, queues and runs requests.
pub struct Scheduler {
    shared: Arc<Shared>,
    /// One permit for each request that runs or may wait.
    admission: Arc<Semaphore>,
    capacity: u32,
    closing: AtomicBool,
    next_id: AtomicU64,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// What workers and requests share.
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Workers wait for slow receivers on its clock.
    handle: Handle,
    /// Longest wait for a receiver that takes nothing; then its request is given up.
    receiver_timeout: Duration,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Cancellation of what each worker runs.
    running: Vec<Option<Cancel>>,
    /// Which workers are to drop their sessions before anything else.
    release: Vec<bool>,
    closed: bool,
}

struct Job {
    id: u64,
    name: String,
    model: Arc<Resident>,
    request: GenerateRequest,
    events: mpsc::Sender<Event>,
    /// The place of the last event: no receiver is so slow that a slot waits for it twice, or that it is not told why.
    last: OwnedPermit<Event>,
    queued: Instant,
    permit: OwnedSemaphorePermit,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// As many requests run and wait as are allowed to.
    Full,
    /// The process is about to end.
    Closing,
}

/// The right to hand in one request.
pub struct Admission(OwnedSemaphorePermit);

/// What happens to a request that was let in. The last event is `Done` or `Failed`.
#[derive(Debug)]
pub enum Event {
    /// The next piece of the answer.
    Piece(Piece),
    /// The answer is complete.
    Done(Completed),
    /// There is no answer, or no more of it.
    Failed(FailedRun),
}

/// A complete answer's figures.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Counts and times of the generation.
    pub generated: Generated,
    /// From submission to the start of work.
    pub queue_time: Duration,
}

/// Why a request that was let in got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailedRun {
    /// It was cancelled because the process ends.
    #[error("the runtime is shutting down: try again")]
    Cancelled,
    /// The form that was asked of the answer can't be followed to its end.
    #[error("{0}")]
    Form(String),
    /// The engine failed on it.
    #[error("the model failed on this request: {0}")]
    Engine(String),
    /// Its receiver took nothing for the longest that a slot waits.
    #[error("no more of the answer was taken for {} s: take it as it comes", .0.as_secs_f32())]
    SlowReceiver(Duration),
    /// A defect of the engine.
    #[error("the model failed on this request; the log of the runtime has the reason")]
    Panicked,
}

/// A request that waits or runs. Dropping it cancels the work.
pub struct Run {
    id: u64,
    events: mpsc::Receiver<Event>,
    cancel: Cancel,
    shared: Arc<Shared>,
    /// Keeps the model from being taken for idle.
    _using: Using,
}

impl Scheduler {
    /// Starts `slots` workers. At most `queue` further requests may wait. `receiver_timeout` is the longest that a slot
    /// waits for a receiver.
    ///
    /// Call it inside a tokio runtime.
    pub fn start(slots: usize, queue: usize, receiver_timeout: Duration) -> std::io::Result<Scheduler> {
        let state = State { running: vec![None; slots], release: vec![false; slots], ..State::default() };
        let (state, work, handle) = (Mutex::new(state), Condvar::new(), Handle::current());
        let shared = Arc::new(Shared { state, work, handle, receiver_timeout });
        let mut workers = Vec::with_capacity(slots);
        for slot in 0..slots {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("slot-{slot}"));
            workers.push(thread.spawn(move || worker::work(&shared, slot))?);
        }
        let capacity = u32::try_from(slots + queue).unwrap_or(u32::MAX);
        let admission = Arc::new(Semaphore::new(capacity as usize));
        let workers = Mutex::new(workers);
        Ok(Scheduler { shared, admission, capacity, closing: false.into(), next_id: 0.into(), workers })
    }

    /// Lets a request in, or not. What is dear, such as making tokens of a long prompt, comes after this.
    pub fn admit(&self) -> Result<Admission, NotAdmitted> {
        if self.closing.load(Ordering::Acquire) {
            return Err(NotAdmitted::Closing);
        }
        match self.admission.clone().try_acquire_owned() {
            Ok(permit) => Ok(Admission(permit)),
            Err(TryAcquireError::NoPermits) => Err(NotAdmitted::Full),
            Err(TryAcquireError::Closed) => Err(NotAdmitted::Closing),
        }
    }

    /// Hands in a request; `name` is its name in the log.
    pub fn submit(&self, admission: Admission, name: String, model: Arc<Resident>, request: GenerateRequest) -> Run {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(EVENTS_IN_FLIGHT + 1);
        let last = sender.clone().try_reserve_owned().expect("invariant: a new channel has room");
        let cancel = request.cancel.clone();
        let (permit, using) = (admission.0, Using::new(model.clone()));
        let job = Job { id, name, model, request, events: sender, last, queued: Instant::now(), permit };
        let mut state = self.shared.state();
        // After the end nobody would take it; dropping it closes its channel, which reads as a cancellation.
        if !state.closed {
            state.queue.push_back(job);
            self.shared.work.notify_one();
        }
        drop(state);
        Run { id, events, cancel, shared: self.shared.clone(), _using: using }
    }

    /// Makes workers drop their sessions once they are idle, and with them what keeps an unloaded model in memory.
    pub fn releaser(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.state().release.fill(true);
                shared.work.notify_all();
            }
        }
    }

    /// Lets nobody in any more, gives what runs and waits `grace` to end, cancels the rest and ends the workers.
    pub async fn drain(&self, grace: Duration) {
        self.closing.store(true, Ordering::Release);
        if timeout(grace, self.admission.acquire_many(self.capacity)).await.is_err() {
            tracing::warn!("requests cancelled at shutdown");
        }
        self.close();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let join = tokio::task::spawn_blocking(|| workers.into_iter().for_each(|worker| drop(worker.join())));
        // A worker that does not notice in time ends with the process.
        let _ = timeout(CANCEL_GRACE, join).await;
    }

    fn close(&self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.running.iter().flatten().for_each(|cancel| cancel.cancel());
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        drop(waiting);
        self.shared.work.notify_all();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

impl Run {
    /// The next event. `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cancel.cancel();
        let mut state = self.shared.state();
        let place = state.queue.iter().position(|job| job.id == self.id);
        let job = place.and_then(|place| state.queue.remove(place));
        drop(state);
        if let Some(job) = job {
            tracing::info!(request_id = job.name, model = job.model.id, "request cancelled in the queue");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock: engines run outside of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
