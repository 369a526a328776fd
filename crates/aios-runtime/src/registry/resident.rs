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

use crate::{embedding::EmbeddingModel, model::LoadedModel};

/// A loaded model. Requests and idle sessions hold it; with the last of them its memory is given back.
pub struct Resident<M = LoadedModel> {
    model: M,
    usage: Usage,
}

/// Who uses a model, and since when nobody does.
pub(super) struct Usage {
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
pub struct Using<M = LoadedModel>(Arc<Resident<M>>);

/// A loaded model of either kind.
#[derive(Clone)]
pub enum InMemory {
    /// It answers.
    Language(Arc<Resident>),
    /// It makes embeddings.
    Embedding(Arc<Resident<EmbeddingModel>>),
}

impl InMemory {
    pub(super) fn usage(&self) -> &Usage {
        match self {
            InMemory::Language(model) => model.usage(),
            InMemory::Embedding(model) => model.usage(),
        }
    }

    /// Size of its file.
    pub fn size_bytes(&self) -> u64 {
        match self {
            InMemory::Language(model) => model.size_bytes,
            InMemory::Embedding(model) => model.size_bytes(),
        }
    }
}

impl<M> Resident<M> {
    pub(super) fn new(model: M, memory: u64) -> (Arc<Self>, oneshot::Receiver<Infallible>) {
        let (alive, gone) = oneshot::channel();
        let usage = Usage {
            memory,
            loaded_at: SystemTime::now(),
            born: Instant::now(),
            unloaded: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            _alive: alive,
        };
        (Arc::new(Resident { model, usage }), gone)
    }

    /// When it was loaded.
    pub fn loaded_at(&self) -> SystemTime {
        self.usage.loaded_at
    }

    /// Whether it is to be given back as soon as no request needs it.
    pub fn is_unloaded(&self) -> bool {
        self.usage.unloaded.load(Ordering::Acquire)
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }
}

impl Usage {
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

impl<M> Using<M> {
    /// Marks the model as in use until this is dropped.
    pub fn new(model: Arc<Resident<M>>) -> Self {
        model.usage.requests.fetch_add(1, Ordering::AcqRel);
        Using(model)
    }
}

impl<M> Drop for Using<M> {
    fn drop(&mut self) {
        let usage = &self.0.usage;
        let now = usage.born.elapsed().as_millis();
        usage.used.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Release);
        usage.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<M> Deref for Using<M> {
    type Target = Resident<M>;

    fn deref(&self) -> &Resident<M> {
        &self.0
    }
}

impl<M> Deref for Resident<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}
