//! The models of this machine: found in directories, loaded and unloaded by id, within a budget of memory.
//!
//! A model that somebody loaded is wanted until somebody unloads it. Meanwhile it may leave memory, because it was idle for
//! long or because another one needs the room, and the next request brings it back.

pub mod budget;
mod error;
mod resident;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use aios_core::config::is_model_id;
use aios_models::{
    gguf::Gguf,
    manifest::{EMBEDDING_FILE, MODEL_FILE},
    memory::Needs,
    store::size_text,
    trust::Trust,
};
use tokio::sync::oneshot;

pub use self::error::RegistryError;
use self::error::refused;
pub use self::resident::{InMemory, Resident, Using};
use crate::{
    embedding::EmbeddingModel,
    kept::{Place, Shelf},
    model::{LoadOptions, LoadedModel},
};

/// The id that names the default model.
pub const DEFAULT: &str = "default";

/// Makes a model of a file. Boxed, so that the tests of the protocols need no gigabytes.
pub type Loader = Box<dyn Fn(&str, &Path, &LoadOptions) -> anyhow::Result<LoadedModel> + Send + Sync>;

/// Where models are and how they are loaded.
pub struct Settings {
    /// Where models are looked for. The first directory that has an id wins.
    pub dirs: Vec<PathBuf>,
    /// The model that `default` names.
    pub default: Option<String>,
    /// The model that makes embeddings. Requests for some bring it into memory.
    pub embedding: Option<String>,
    /// How models are loaded.
    pub options: LoadOptions,
    /// Makes models of files.
    pub loader: Loader,
    /// Which models are loaded at all.
    pub trust: Trust,
    /// Requests worked on at once, each with a context of its own.
    pub slots: usize,
    /// Bytes that all models in memory may need together. `None`: no bound.
    pub budget: Option<u64>,
    /// Where beginnings of prompts are kept on disk; `None` for nowhere.
    pub kept: Option<Place>,
}

/// The models of this machine.
pub struct Registry {
    settings: Settings,
    /// Makes idle sessions let go of models that are unloaded.
    release: OnceLock<Box<dyn Fn() + Send + Sync>>,
    state: Mutex<State>,
    /// Held while a model is loaded or unloaded: two loads at once would need memory for both.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    resident: BTreeMap<String, Entry>,
    /// Models that requests may bring into memory.
    wanted: BTreeSet<String>,
    /// Why the last attempt to load a model failed.
    failed: BTreeMap<String, String>,
}

/// How a model is loaded.
struct Plan {
    path: PathBuf,
    memory: u64,
    options: LoadOptions,
}

struct Entry {
    model: InMemory,
    gone: oneshot::Receiver<Infallible>,
}

/// One model of the list.
pub struct Listed {
    /// Id: the name of its directory.
    pub id: String,
    /// Whether `default` names it.
    pub is_default: bool,
    /// Whether it makes embeddings.
    pub is_embedding: bool,
    /// Size of its file.
    pub size_bytes: u64,
    /// Whether it is in memory.
    pub state: ListedState,
}

/// What became of a model.
pub enum ListedState {
    /// In a directory, not in memory.
    Available,
    /// In memory.
    Loaded(InMemory),
    /// The last attempt to load it failed, for this reason.
    Failed(String),
}

impl Registry {
    /// A registry in which nothing is loaded yet.
    pub fn new(settings: Settings) -> Self {
        let wanted = settings.embedding.iter().cloned().collect();
        let (state, changing) = (Mutex::new(State { wanted, ..State::default() }), Default::default());
        Registry { settings, release: OnceLock::new(), state, changing }
    }

    /// Says how idle sessions are made to let go of models that are unloaded. The first one counts.
    pub fn release_sessions_by(&self, release: impl Fn() + Send + Sync + 'static) {
        let _ = self.release.set(Box::new(release));
    }

    /// The id that `id` stands for; both an empty one and `default` stand for the default model.
    pub fn resolve<'a>(&'a self, id: &'a str) -> Result<&'a str, RegistryError> {
        match id {
            "" | DEFAULT => self.settings.default.as_deref().ok_or(RegistryError::NoDefault),
            id => Ok(id),
        }
    }

    /// The loaded model of that id, if it is loaded.
    pub fn find(&self, id: &str) -> Option<Arc<Resident>> {
        match self.in_memory(self.resolve(id).ok()?)? {
            InMemory::Language(model) => Some(model),
            InMemory::Embedding(_) => None,
        }
    }

    fn in_memory(&self, id: &str) -> Option<InMemory> {
        self.state().resident.get(id).map(|entry| entry.model.clone())
    }

    /// The loaded models that answer, the default one first.
    pub fn resident(&self) -> Vec<Arc<Resident>> {
        let language = |entry: &Entry| match &entry.model {
            InMemory::Language(model) => Some(model.clone()),
            InMemory::Embedding(_) => None,
        };
        let mut models: Vec<_> = self.state().resident.values().filter_map(language).collect();
        models.sort_by_key(|model| self.settings.default.as_ref() != Some(&model.id));
        models
    }

    /// Id of the model that makes embeddings.
    pub fn embedding_id(&self) -> Option<&str> {
        self.settings.embedding.as_deref()
    }

    fn is_embedding(&self, id: &str) -> bool {
        self.embedding_id() == Some(id)
    }

    /// The model that makes embeddings, as far as requests for some would find it: its file, and itself where it is in
    /// memory.
    pub fn embedding_listed(&self) -> Option<(PathBuf, Option<Arc<Resident<EmbeddingModel>>>)> {
        let id = self.embedding_id().filter(|id| self.state().wanted.contains(*id))?;
        let path = self.path(id).ok()?;
        let loaded = match self.in_memory(id) {
            Some(InMemory::Embedding(model)) => Some(model),
            _ => None,
        };
        Some((path, loaded))
    }

    /// The model that makes embeddings, for a request. In memory, or brought there unless somebody unloaded it.
    pub async fn embedding(self: &Arc<Self>) -> Result<Using<EmbeddingModel>, RegistryError> {
        let id = self.embedding_id().ok_or(RegistryError::NoDefault)?;
        if !self.state().wanted.contains(id) {
            return Err(RegistryError::NotLoaded(id.to_owned()));
        }
        match self.load_any(id).await? {
            InMemory::Embedding(model) => Ok(Using::new(model)),
            InMemory::Language(_) => Err(RegistryError::NotLoaded(id.to_owned())),
        }
    }

    /// Whether a model is the default one.
    pub fn is_default(&self, id: &str) -> bool {
        self.settings.default.as_deref() == Some(id)
    }

    /// The model of that id for a request: in memory, or brought back if somebody loaded it before. `None` where nobody did.
    pub async fn serve(self: &Arc<Self>, id: &str) -> Result<Option<Arc<Resident>>, RegistryError> {
        if let Some(model) = self.find(id) {
            return Ok(Some(model));
        }
        let wanted = self.resolve(id).is_ok_and(|id| self.state().wanted.contains(id) && !self.is_embedding(id));
        if wanted { self.load(id).await.map(Some) } else { Ok(None) }
    }

    /// Loads a model, or finds it loaded. From then on requests bring it back where it has left memory.
    ///
    /// The load goes on when the caller loses interest, as half a load is of no use to anybody.
    pub async fn load(self: &Arc<Self>, id: &str) -> Result<Arc<Resident>, RegistryError> {
        match self.load_any(id).await? {
            InMemory::Language(model) => Ok(model),
            InMemory::Embedding(_) => Err(RegistryError::Embedding(id.to_owned())),
        }
    }

    /// The same for a model of either kind.
    pub async fn load_any(self: &Arc<Self>, id: &str) -> Result<InMemory, RegistryError> {
        let id = self.resolve(id)?.to_owned();
        if let Some(model) = self.in_memory(&id) {
            return Ok(model);
        }
        let registry = self.clone();
        let load = async move {
            let _changing = registry.changing.lock().await;
            if let Some(model) = registry.in_memory(&id) {
                return Ok(model);
            }
            let loaded = registry.bring(&id).await;
            registry.settle(id, loaded)
        };
        tokio::spawn(load).await.unwrap_or_else(|error| Err(RegistryError::Load(error.to_string())))
    }

    /// Makes room for a model and reads it.
    async fn bring(self: &Arc<Self>, id: &str) -> Result<Entry, RegistryError> {
        let panicked = |_| RegistryError::Load(format!("loading model '{id}' panicked"));
        let (worker, name) = (self.clone(), id.to_owned());
        let plan = tokio::task::spawn_blocking(move || worker.examine(&name)).await.map_err(panicked).flatten()?;
        self.make_room(id, plan.memory).await?;
        let (worker, name) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || worker.read(&name, plan)).await.map_err(panicked)?
    }

    fn read(&self, id: &str, plan: Plan) -> Result<Entry, RegistryError> {
        let Plan { path, memory, options } = plan;
        if self.is_embedding(id) {
            let folder = path.parent().expect("invariant: the file lies in the model's folder");
            let loaded = EmbeddingModel::load(folder).map_err(|error| RegistryError::Load(error.to_string()))?;
            tracing::info!(model = id, ms = millis(loaded.load_time()), memory, "embedding model loaded");
            let (model, gone) = Resident::new(loaded, memory);
            return Ok(Entry { model: InMemory::Embedding(model), gone });
        }
        let loaded = (self.settings.loader)(id, &path, &options);
        let loaded = loaded.map_err(|error| RegistryError::Load(format!("{error:#}")))?;
        let arithmetic = loaded.engine.info().arithmetic;
        tracing::info!(model = id, ms = millis(loaded.load_time), memory, arithmetic, "model loaded");
        let (model, gone) = Resident::new(loaded, memory);
        Ok(Entry { model: InMemory::Language(model), gone })
    }

    /// Checks that a model may be loaded, counts the memory that it will need, and says how it is loaded.
    fn examine(&self, id: &str) -> Result<Plan, RegistryError> {
        let path = self.path(id)?;
        tracing::info!(model = id, path = %path.display(), "loading model");
        let folder = path.parent().expect("invariant: the file lies in the model's folder");
        let trusted = self.settings.trust.check(folder).map_err(|error| refused(id, error))?;
        // What was checked is what is loaded.
        if let Some(manifest) = trusted.manifest.as_ref().filter(|manifest| !path.ends_with(&manifest.file)) {
            let reason = format!("{} is not the file of its manifest, {}", path.display(), manifest.file);
            return Err(RegistryError::Untrusted(reason));
        }
        let Settings { options, kept, .. } = &self.settings;
        if self.is_embedding(id) {
            let memory = EmbeddingModel::needs(folder).map_err(|error| RegistryError::Load(error.to_string()))?;
            return Ok(Plan { path, memory, options: options.clone() });
        }
        let gguf = Gguf::open(&path).map_err(|error| RegistryError::Load(format!("model file {error}")))?;
        let shelf = |place: &Place| {
            let identity = trusted.identity(folder).ok()?;
            Some(Shelf { place: place.clone(), model: id.to_owned(), identity })
        };
        let options = LoadOptions { kept: kept.as_ref().and_then(shelf), ..options.clone() };
        let memory = self.memory(id, &gguf);
        Ok(Plan { path, memory, options })
    }

    /// Memory that a model needs, with all slots at work where there is room for that.
    fn memory(&self, id: &str, gguf: &Gguf) -> u64 {
        let Settings { options, slots, budget, .. } = &self.settings;
        let needs = Needs::of(gguf, options.context);
        let with = |slots: usize| needs.total(slots).saturating_add(options.prefix_cache as u64);
        let (all, least) = (with(*slots), with(1));
        match *budget {
            // Few requests are as long as the context, and not all slots are at work at once: a small machine gets its model.
            Some(budget) if least <= budget && budget < all => {
                let (needed, available) = (size_text(all), size_text(budget));
                tracing::warn!(model = id, needed, available, "no room for a whole context in each slot");
                budget
            }
            _ => all,
        }
    }

    /// Unloads idle models, the one first that was not used for longest, until there is room for `needed` bytes.
    async fn make_room(&self, id: &str, needed: u64) -> Result<(), RegistryError> {
        let Some(budget) = self.settings.budget else { return Ok(()) };
        loop {
            let (available, idlest) = {
                let state = self.state();
                let taken: u64 = state.resident.values().map(|entry| entry.model.usage().memory).sum();
                let idle =
                    state.resident.iter().filter_map(|(id, entry)| Some((entry.model.usage().idle()?, id.clone())));
                (budget.saturating_sub(taken), idle.max())
            };
            match idlest {
                _ if needed <= available => return Ok(()),
                // What can never fit costs nobody the place.
                Some((_, idlest)) if needed <= budget => {
                    tracing::info!(model = idlest, room_for = id, "model makes room");
                    self.evict(&idlest).await;
                }
                _ => return Err(RegistryError::Memory { id: id.to_owned(), needed, available, budget }),
            }
        }
    }

    /// Unloads the models that no request has used for `limit`. They stay wanted.
    pub async fn unload_idle(&self, limit: Duration) {
        let _changing = self.changing.lock().await;
        let idle: Vec<String> = {
            let state = self.state();
            let idle =
                state.resident.iter().filter(|(_, entry)| entry.model.usage().idle().is_some_and(|idle| idle >= limit));
            idle.map(|(id, _)| id.clone()).collect()
        };
        for id in idle {
            tracing::info!(model = id, "model is idle");
            self.evict(&id).await;
        }
    }

    /// Takes a model out of memory and waits until that is done. Whether it is wanted stays as it is.
    async fn evict(&self, id: &str) {
        let Some(entry) = self.state().resident.remove(id) else { return };
        // Before the idle sessions are released: those that are opened from then on see it at their request's end.
        entry.model.usage().unload();
        drop(entry.model);
        if let Some(release) = self.release.get() {
            release();
        }
        // Nothing is ever sent: the channel closes when the last holder lets go.
        let _ = entry.gone.await;
        tracing::info!(model = id, "model unloaded");
    }

    fn settle(&self, id: String, loaded: Result<Entry, RegistryError>) -> Result<InMemory, RegistryError> {
        let mut state = self.state();
        match loaded {
            Ok(entry) => {
                let model = entry.model.clone();
                state.failed.remove(&id);
                state.wanted.insert(id.clone());
                state.resident.insert(id, entry);
                Ok(model)
            }
            Err(error) => {
                tracing::error!(model = id, reason = %error, "model not loaded");
                state.failed.insert(id, error.to_string());
                Err(error)
            }
        }
    }

    /// Unloads a model and waits until its memory is given back. New requests don't find it any more; those that run or
    /// wait end first.
    pub async fn unload(&self, id: &str) -> Result<(), RegistryError> {
        let id = self.resolve(id)?.to_owned();
        let _changing = self.changing.lock().await;
        let was_wanted = self.state().wanted.remove(&id);
        if !was_wanted {
            return Err(RegistryError::NotLoaded(id));
        }
        self.evict(&id).await;
        Ok(())
    }

    /// All models in the directories, and those in memory whose files are gone.
    pub fn list(&self) -> Vec<Listed> {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.settings.dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            let file = fs::metadata(entry.path().join(self.file(&id))).ok().filter(fs::Metadata::is_file);
            if let Some(file) = file.filter(|_| is_model_id(&id) && id != DEFAULT) {
                sizes.entry(id).or_insert(file.len());
            }
        }
        let state = self.state();
        for (id, entry) in &state.resident {
            sizes.insert(id.clone(), entry.model.size_bytes());
        }
        let listed = |(id, size_bytes): (String, u64)| {
            let resident = state.resident.get(&id).map(|entry| ListedState::Loaded(entry.model.clone()));
            let failed = || state.failed.get(&id).map(|reason| ListedState::Failed(reason.clone()));
            let model = resident.or_else(failed).unwrap_or(ListedState::Available);
            let (is_default, is_embedding) = (self.is_default(&id), self.is_embedding(&id));
            Listed { is_default, is_embedding, id, size_bytes, state: model }
        };
        sizes.into_iter().map(listed).collect()
    }

    /// Name of a model's file in its folder.
    fn file(&self, id: &str) -> &'static str {
        if self.is_embedding(id) { EMBEDDING_FILE } else { MODEL_FILE }
    }

    fn path(&self, id: &str) -> Result<PathBuf, RegistryError> {
        let file = self.file(id);
        let found = self.settings.dirs.iter().map(|dir| dir.join(id).join(file)).find(|path| path.is_file());
        // An id that is no plain name would lead out of the directories.
        found.filter(|_| is_model_id(id)).ok_or_else(|| {
            let dirs: Vec<String> = self.settings.dirs.iter().map(|dir| dir.display().to_string()).collect();
            RegistryError::NotFound { id: id.to_owned(), file, dirs: dirs.join(", ") }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every change is a single insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duration as the protocols and the log carry it.
pub fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
