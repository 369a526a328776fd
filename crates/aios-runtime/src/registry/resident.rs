//! A model in memory, and who uses it.

use std::{
    convert::Infallible,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::oneshot;

use crate::model::LoadedModel;

/// A loaded model. Requests and idle sessions hold it; with the last of them its memory is given back.
pub struct Resident {
    model: LoadedModel,
    /// Memory that it takes with all slots at work, as it was counted before it was loaded.
    pub(super) memory: u64,
    loaded_at: SystemTime,
    born: Instant,
    unloaded: AtomicBool,
    requests: AtomicUsize,
    /// When the last request ended, in milliseconds since `born`.
    used: AtomicU64,
    /// Its end tells the registry that the model is gone.
    _alive: oneshot::Sender<Infallible>,
}

/// A request's hold on a model: while there is one, the model is not idle.
pub struct Using(Arc<Resident>);

impl Resident {
    pub(super) fn new(model: LoadedModel, memory: u64) -> (Arc<Self>, oneshot::Receiver<Infallible>) {
        let (alive, gone) = oneshot::channel();
        let resident = Resident {
            model,
            memory,
            loaded_at: SystemTime::now(),
            born: Instant::now(),
            unloaded: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            _alive: alive,
        };
        (Arc::new(resident), gone)
    }

    /// When it was loaded.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// Whether it is to be given back as soon as no request needs it.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Acquire)
    }

    pub(super) fn unload(&self) {
        self.unloaded.store(true, Ordering::Release);
    }

    /// How long no request has used it; `None` while one does.
    pub(super) fn idle(&self) -> Option<Duration> {
        let used = Duration::from_millis(self.used.load(Ordering::Acquire));
        let busy = self.requests.load(Ordering::Acquire) > 0;
        (!busy).then(|| self.born.elapsed().saturating_sub(used))
    }
}

impl Using {
    /// Marks the model as in use until this is dropped.
    pub fn new(model: Arc<Resident>) -> Self {
        model.requests.fetch_add(1, Ordering::AcqRel);
        Using(model)
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let now = self.0.born.elapsed().as_millis();
        self.0.used.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Release);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Deref for Resident {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}
