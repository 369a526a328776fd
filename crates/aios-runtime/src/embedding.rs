//! Embeddings: texts as vectors whose cosine says how near they are in meaning.
//!
//! One model of the registry, loaded by the first request. Requests take turns, each with all threads; a bounded number may
//! wait.

mod bert;
mod cache;
mod model;
mod weights;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Mutex, Semaphore, TryAcquireError};

pub use self::model::{EmbeddingLoadError, EmbeddingModel, Made};
use crate::registry::{DEFAULT, Registry, RegistryError};

/// Most texts of a request, as in OpenAI's API.
pub const MAX_INPUTS: usize = 2048;

/// Makes embeddings with the configured model.
pub struct Embedder {
    registry: Arc<Registry>,
    /// A permit for each request that runs or may wait.
    admission: Arc<Semaphore>,
    /// Held by the request that is worked on.
    turn: Arc<Mutex<()>>,
}

/// What is to be embedded.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Word pieces of the model, without those that mark beginning and end.
    Tokens(Vec<u32>),
}

/// What was made of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Id of the model, never `default`.
    pub model: String,
    /// The vectors and their costs.
    pub made: Made,
}

/// Why there are no embeddings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// It is not the configured one.
    #[error("model '{model}' makes no embeddings; the one that does is {configured} (runtime.embedding-model)")]
    UnknownModel {
        /// Id that was asked for.
        model: String,
        /// What would do.
        configured: String,
    },
    /// None is configured.
    #[error("no model for embeddings is configured (runtime.embedding-model)")]
    NoModel,
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// There is no room for it.
    #[error("{0}")]
    NoMemory(String),
    /// Its files can't be used.
    #[error("{0}")]
    Load(String),
    /// A token is none of the model's.
    #[error("input {input} has the token {token}, which is not one of the model's {vocabulary}")]
    UnknownToken {
        /// Index of the input.
        input: usize,
        /// The token.
        token: u32,
        /// How many there are.
        vocabulary: usize,
    },
    /// The vectors have another length than is asked for.
    #[error("the model's embeddings have {has} dimensions, and can't be made shorter or longer")]
    Dimensions {
        /// Numbers in a vector.
        has: usize,
    },
    /// As many requests run and wait as are allowed to.
    #[error("as many requests for embeddings wait as are allowed to: try again later")]
    QueueFull,
    /// The process is about to end, or the client has gone.
    #[error("the runtime is shutting down: try again")]
    Cancelled,
    /// The model failed.
    #[error("the model failed on this request: {0}")]
    Failed(String),
}

/// Tells the work that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Embedder {
    /// With the embedding model of `registry`. One request is worked on, `queue` further ones may wait.
    pub fn new(registry: Arc<Registry>, queue: usize) -> Self {
        let admission = Arc::new(Semaphore::new(queue.saturating_add(1).min(Semaphore::MAX_PERMITS)));
        Self { registry, admission, turn: Arc::default() }
    }

    /// Embeds `inputs` with the model `id`; an empty one and `default` name the configured one. With `dimensions`, the
    /// vectors must have as many. Dropping the future ends the work.
    pub async fn embed(
        &self,
        id: &str,
        inputs: Vec<Input>,
        dimensions: Option<usize>,
    ) -> Result<Embeddings, EmbedError> {
        let id = self.resolve(id)?.to_owned();
        let permit = self.admission.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => EmbedError::QueueFull,
            TryAcquireError::Closed => EmbedError::Cancelled,
        })?;
        let turn = self.turn.clone().lock_owned().await;
        let model = self.registry.embedding().await?;
        let cancel = CancelOnDrop(Arc::default());
        let cancelled = cancel.0.clone();
        let work = move || {
            let _held = (permit, turn);
            if dimensions.is_some_and(|dimensions| dimensions != model.dimensions()) {
                return Err(EmbedError::Dimensions { has: model.dimensions() });
            }
            Ok(Embeddings { model: id, made: model.embed(&inputs, &cancelled)? })
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked.unwrap_or_else(|_| Err(EmbedError::Failed("the log of the runtime has the reason".into())))
    }

    /// Lets no request in any more.
    pub fn close(&self) {
        self.admission.close();
    }

    fn resolve(&self, id: &str) -> Result<&str, EmbedError> {
        let configured = self.registry.embedding_id().ok_or(EmbedError::NoModel)?;
        match id {
            "" | DEFAULT => Ok(configured),
            id if id == configured => Ok(configured),
            other => Err(EmbedError::UnknownModel { model: other.to_owned(), configured: format!("'{configured}'") }),
        }
    }
}

impl From<RegistryError> for EmbedError {
    fn from(error: RegistryError) -> Self {
        let reason = error.to_string();
        match error {
            RegistryError::NotFound { .. } | RegistryError::NotLoaded(_) => EmbedError::Missing(reason),
            RegistryError::NoDefault => EmbedError::NoModel,
            RegistryError::Memory { .. } => EmbedError::NoMemory(reason),
            RegistryError::Load(_) | RegistryError::Untrusted(_) | RegistryError::Embedding(_) => {
                EmbedError::Load(reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{model::LoadOptions, registry::Settings};
    use aios_models::trust::Trust;

    fn embedder(id: Option<&str>) -> Embedder {
        let registry = Registry::new(Settings {
            dirs: Vec::new(),
            default: None,
            embedding: id.map(str::to_owned),
            options: LoadOptions::new(16),
            loader: Box::new(|_, _, _| unreachable!("no language model is asked for")),
            trust: Trust::anything(),
            slots: 1,
            budget: None,
            kept: None,
        });
        Embedder::new(Arc::new(registry), 1)
    }

    fn text() -> Vec<Input> {
        vec![Input::Text("a".into())]
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_refused_at_once() {
        let embedder = Arc::new(embedder(Some("m")));
        let busy = embedder.turn.clone().lock_owned().await;
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn({
                    let embedder = embedder.clone();
                    async move { embedder.embed("m", text(), None).await }
                })
            })
            .collect();
        while embedder.admission.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(embedder.embed("m", text(), None).await, Err(EmbedError::QueueFull));
        drop(busy);
        for waiting in waiting {
            assert!(matches!(waiting.await.unwrap(), Err(EmbedError::Missing(_))), "there is no such model");
        }
        assert_eq!(embedder.admission.available_permits(), 2);
    }

    #[tokio::test]
    async fn only_the_configured_model_makes_embeddings() {
        let embedder = embedder(Some("m"));
        let error = embedder.embed("other", text(), None).await.unwrap_err();
        assert!(error.to_string().contains("'m'"), "{error}");
        let none = super::tests::embedder(None);
        assert_eq!(none.embed("", text(), None).await, Err(EmbedError::NoModel));
        embedder.close();
        assert_eq!(embedder.embed("", text(), None).await, Err(EmbedError::Cancelled));
    }
}
