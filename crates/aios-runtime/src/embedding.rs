//! Embeddings: texts as vectors whose cosine says how near they are in meaning.
//!
//! One model, loaded by the first request. Requests take turns, each with all threads; a bounded number may wait.

mod bert;
mod model;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Mutex, Semaphore, TryAcquireError};

pub use self::model::{EmbeddingLoadError, EmbeddingModel};
use crate::registry::{DEFAULT, millis};

/// Most texts of a request, as in OpenAI's API.
pub const MAX_INPUTS: usize = 2048;

/// Makes embeddings with the configured model.
pub struct Embedder {
    id: Option<String>,
    dirs: Vec<PathBuf>,
    /// A permit for each request that runs or may wait.
    admission: Arc<Semaphore>,
    /// Held by the request that is worked on.
    model: Arc<Mutex<Option<EmbeddingModel>>>,
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
    /// A vector of length 1 for each input.
    pub vectors: Vec<Vec<f32>>,
    /// Word pieces that were read, without those that mark beginning and end.
    pub tokens: usize,
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
    /// For the model `id` in one of `dirs`. One request is worked on, `queue` further ones may wait.
    pub fn new(id: Option<String>, dirs: Vec<PathBuf>, queue: usize) -> Self {
        let admission = Arc::new(Semaphore::new(queue.saturating_add(1).min(Semaphore::MAX_PERMITS)));
        Self { id, dirs, admission, model: Arc::default() }
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
        let mut turn = self.model.clone().lock_owned().await;
        let cancel = CancelOnDrop(Arc::default());
        let (cancelled, dirs) = (cancel.0.clone(), self.dirs.clone());
        let work = move || {
            let _permit = permit;
            let model = match &mut *turn {
                Some(model) => model,
                none => none.insert(load(&id, &dirs)?),
            };
            if dimensions.is_some_and(|dimensions| dimensions != model.dimensions()) {
                return Err(EmbedError::Dimensions { has: model.dimensions() });
            }
            let (vectors, tokens) = model.embed(&inputs, &cancelled)?;
            Ok(Embeddings { model: id, vectors, tokens })
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked.unwrap_or_else(|_| Err(EmbedError::Failed("the log of the runtime has the reason".into())))
    }

    /// Lets no request in any more.
    pub fn close(&self) {
        self.admission.close();
    }

    fn resolve(&self, id: &str) -> Result<&str, EmbedError> {
        let configured = self.id.as_deref().ok_or(EmbedError::NoModel)?;
        match id {
            "" | DEFAULT => Ok(configured),
            id if id == configured => Ok(configured),
            other => Err(EmbedError::UnknownModel { model: other.to_owned(), configured: format!("'{configured}'") }),
        }
    }
}

fn load(id: &str, dirs: &[PathBuf]) -> Result<EmbeddingModel, EmbedError> {
    let dir = dirs.iter().map(|dir| dir.join(id)).find(|dir| dir.join(model::WEIGHTS).is_file());
    let dir = dir.ok_or_else(|| {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        EmbedError::Missing(format!(
            "model '{id}' is in none of {}: put it there as {id}/{}",
            dirs.join(", "),
            model::WEIGHTS
        ))
    });
    let read = |dir: PathBuf| EmbeddingModel::load(&dir).map_err(|error| EmbedError::Load(error.to_string()));
    let loaded = dir.and_then(read);
    match &loaded {
        Ok(model) => tracing::info!(model = id, ms = millis(model.load_time()), "embedding model loaded"),
        Err(error) => tracing::error!(model = id, reason = %error, "embedding model not loaded"),
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<Input> {
        vec![Input::Text("a".into())]
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_refused_at_once() {
        let embedder = Arc::new(Embedder::new(Some("m".into()), Vec::new(), 1));
        let busy = embedder.model.clone().lock_owned().await;
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
        let embedder = Embedder::new(Some("m".into()), Vec::new(), 1);
        let error = embedder.embed("other", text(), None).await.unwrap_err();
        assert!(error.to_string().contains("'m'"), "{error}");
        let none = Embedder::new(None, Vec::new(), 1);
        assert_eq!(none.embed("", text(), None).await, Err(EmbedError::NoModel));
        embedder.close();
        assert_eq!(embedder.embed("", text(), None).await, Err(EmbedError::Cancelled));
    }
}
