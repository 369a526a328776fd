//! The models of this machine: found in directories, loaded and unloaded by id.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use aios_core::config::is_model_id;
use aios_models::trust::{Trust, TrustError};
use tokio::sync::oneshot;

use crate::model::{LoadOptions, LoadedModel};

/// The id that names the default model.
pub const DEFAULT: &str = "default";

/// File of a model in its directory.
const MODEL_FILE: &str = "model.gguf";

/// Makes a model of a file. Boxed, so that the tests of the protocols need no gigabytes.
pub type Loader = Box<dyn Fn(&str, &Path, &LoadOptions) -> anyhow::Result<LoadedModel> + Send + Sync>;

/// Where models are and how they are loaded.
pub struct Settings {
    /// Where models are looked for. The first directory that has an id wins.
    pub dirs: Vec<PathBuf>,
    /// The model that `default` names.
    pub default: Option<String>,
    /// How models are loaded.
    pub options: LoadOptions,
    /// Makes models of files.
    pub loader: Loader,
    /// Which models are loaded at all.
    pub trust: Trust,
}

/// The models of this machine.
pub struct Registry {
    settings: Settings,
    state: Mutex<State>,
    /// Held while a model is loaded or unloaded: two loads at once would need memory for both.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    resident: BTreeMap<String, Entry>,
    /// Why the last attempt to load a model failed.
    failed: BTreeMap<String, String>,
}

struct Entry {
    model: Arc<Resident>,
    gone: oneshot::Receiver<Infallible>,
}

/// A loaded model. Requests and idle sessions hold it; with the last of them its memory is given back.
pub struct Resident {
    model: LoadedModel,
    loaded_at: SystemTime,
    unloaded: AtomicBool,
    /// Its end tells the registry that the model is gone.
    _alive: oneshot::Sender<Infallible>,
}

impl Resident {
    /// When it was loaded.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// Whether it is to be given back as soon as no request needs it.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Acquire)
    }
}

impl Deref for Resident {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}

/// One model of the list.
pub struct Listed {
    /// Id: the name of its directory.
    pub id: String,
    /// Whether `default` names it.
    pub is_default: bool,
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
    Loaded(Arc<Resident>),
    /// The last attempt to load it failed, for this reason.
    Failed(String),
}

/// Why a model can't be loaded or unloaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is not there.
    #[error("model '{id}' is in none of the directories {dirs}: put it there as {id}/{MODEL_FILE}")]
    NotFound {
        /// Id that was asked for.
        id: String,
        /// Where it was looked for.
        dirs: String,
    },
    /// `default` names nothing.
    #[error("no default model is configured: set runtime.default-model, or name a model")]
    NoDefault,
    /// It is not in memory.
    #[error("model '{0}' is not loaded")]
    NotLoaded(String),
    /// Its file can't be used.
    #[error("{0}")]
    Load(String),
    /// Its file is not the one that was vouched for, or nobody vouched for it.
    #[error("{0}")]
    Untrusted(String),
}

impl Registry {
    /// A registry in which nothing is loaded yet.
    pub fn new(settings: Settings) -> Self {
        let (state, changing) = Default::default();
        Registry { settings, state, changing }
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
        let id = self.resolve(id).ok()?;
        self.state().resident.get(id).map(|entry| entry.model.clone())
    }

    /// The loaded models, the default one first.
    pub fn resident(&self) -> Vec<Arc<Resident>> {
        let mut models: Vec<_> = self.state().resident.values().map(|entry| entry.model.clone()).collect();
        models.sort_by_key(|model| self.settings.default.as_ref() != Some(&model.id));
        models
    }

    /// Whether a model is the default one.
    pub fn is_default(&self, id: &str) -> bool {
        self.settings.default.as_deref() == Some(id)
    }

    /// Loads a model, or finds it loaded.
    ///
    /// The load goes on when the caller loses interest, as half a load is of no use to anybody.
    pub async fn load(self: &Arc<Self>, id: &str) -> Result<Arc<Resident>, RegistryError> {
        let id = self.resolve(id)?.to_owned();
        let registry = self.clone();
        let load = async move {
            let _changing = registry.changing.lock().await;
            if let Some(model) = registry.find(&id) {
                return Ok(model);
            }
            let (worker, name) = (registry.clone(), id.clone());
            let loaded = tokio::task::spawn_blocking(move || worker.load_file(&name)).await;
            let loaded = loaded.unwrap_or_else(|_| Err(RegistryError::Load(format!("loading model '{id}' panicked"))));
            registry.settle(id, loaded)
        };
        tokio::spawn(load).await.unwrap_or_else(|error| Err(RegistryError::Load(error.to_string())))
    }

    fn load_file(&self, id: &str) -> Result<LoadedModel, RegistryError> {
        let path = self.path(id)?;
        tracing::info!(model = id, path = %path.display(), "loading model");
        let folder = path.parent().expect("invariant: the file lies in the model's folder");
        self.settings.trust.check(folder).map_err(|error| refused(id, error))?;
        (self.settings.loader)(id, &path, &self.settings.options)
            .map_err(|error| RegistryError::Load(format!("{error:#}")))
    }

    fn settle(&self, id: String, loaded: Result<LoadedModel, RegistryError>) -> Result<Arc<Resident>, RegistryError> {
        let mut state = self.state();
        match loaded {
            Ok(model) => {
                let (alive, gone) = oneshot::channel();
                let (loaded_at, unloaded) = (SystemTime::now(), AtomicBool::new(false));
                let model = Arc::new(Resident { model, loaded_at, unloaded, _alive: alive });
                tracing::info!(model = id, ms = millis(model.load_time), "model loaded");
                state.failed.remove(&id);
                state.resident.insert(id, Entry { model: model.clone(), gone });
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
    /// wait end first. `release` makes idle sessions let go of it.
    pub async fn unload(&self, id: &str, release: impl FnOnce()) -> Result<(), RegistryError> {
        let id = self.resolve(id)?.to_owned();
        let _changing = self.changing.lock().await;
        let entry = self.state().resident.remove(&id).ok_or_else(|| RegistryError::NotLoaded(id.clone()))?;
        // Before the idle sessions are released: those that are opened from then on see it at their request's end.
        entry.model.unloaded.store(true, Ordering::Release);
        drop(entry.model);
        release();
        // Nothing is ever sent: the channel closes when the last holder lets go.
        let _ = entry.gone.await;
        tracing::info!(model = id, "model unloaded");
        Ok(())
    }

    /// All models in the directories, and those in memory whose files are gone.
    pub fn list(&self) -> Vec<Listed> {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.settings.dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            let file = fs::metadata(entry.path().join(MODEL_FILE)).ok().filter(fs::Metadata::is_file);
            if let Some(file) = file.filter(|_| is_model_id(&id) && id != DEFAULT) {
                sizes.entry(id).or_insert(file.len());
            }
        }
        let state = self.state();
        for (id, entry) in &state.resident {
            sizes.insert(id.clone(), entry.model.size_bytes);
        }
        let listed = |(id, size_bytes): (String, u64)| {
            let resident = state.resident.get(&id).map(|entry| ListedState::Loaded(entry.model.clone()));
            let failed = || state.failed.get(&id).map(|reason| ListedState::Failed(reason.clone()));
            let model = resident.or_else(failed).unwrap_or(ListedState::Available);
            Listed { is_default: self.is_default(&id), id, size_bytes, state: model }
        };
        sizes.into_iter().map(listed).collect()
    }

    fn path(&self, id: &str) -> Result<PathBuf, RegistryError> {
        let found = self.settings.dirs.iter().map(|dir| dir.join(id).join(MODEL_FILE)).find(|path| path.is_file());
        // An id that is no plain name would lead out of the directories.
        found.filter(|_| is_model_id(id)).ok_or_else(|| {
            let dirs: Vec<String> = self.settings.dirs.iter().map(|dir| dir.display().to_string()).collect();
            RegistryError::NotFound { id: id.to_owned(), dirs: dirs.join(", ") }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every change is a single insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model that is not trusted. Those that were changed are for whoever reads the audit.
fn refused(id: &str, error: TrustError) -> RegistryError {
    match &error {
        TrustError::Tampered { path, expected, found, .. } => {
            tracing::error!(audit = "model-tampered", model = id, path = %path.display(), expected, found, "model refused");
        }
        TrustError::Signature { path, .. } => {
            tracing::error!(audit = "model-signature", model = id, path = %path.display(), "model refused");
        }
        TrustError::Unsigned { path, .. } => {
            tracing::error!(audit = "model-unsigned", model = id, path = %path.display(), "model refused");
        }
        TrustError::Manifest(_) | TrustError::Key(_) | TrustError::Read { .. } => {}
    }
    RegistryError::Untrusted(error.to_string())
}

/// A duration as the protocols and the log carry it.
pub fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
