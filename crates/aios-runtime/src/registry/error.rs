//! Why a model is not in memory.

use aios_models::{store::size_text, trust::TrustError};

/// Why a model can't be loaded or unloaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is not there.
    #[error("model '{id}' is in none of the directories {dirs}: put it there as {id}/{file}")]
    NotFound {
        /// Id that was asked for.
        id: String,
        /// Its file there.
        file: &'static str,
        /// Where it was looked for.
        dirs: String,
    },
    /// `default` names nothing.
    #[error("no default model is configured: set runtime.default-model, or name a model")]
    NoDefault,
    /// It is not in memory.
    #[error("model '{0}' is not loaded")]
    NotLoaded(String),
    /// It makes embeddings, and is asked for an answer.
    #[error("model '{0}' makes embeddings and answers nothing")]
    Embedding(String),
    /// Its file can't be used.
    #[error("{0}")]
    Load(String),
    /// There is no room for it.
    #[error(
        "model '{id}' needs {} of memory, and {} of {} are free for models (runtime.memory-budget){}",
        size_text(*.needed), size_text(*.available), size_text(*.budget),
        if .needed > .budget { ": choose a smaller one, fewer slots or a shorter context" } else { ", and the others are in use: try again" }
    )]
    Memory {
        /// Id of the model.
        id: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are left.
        available: u64,
        /// Bytes that all models may need together.
        budget: u64,
    },
    /// Its file is not the one that was vouched for, or nobody vouched for it.
    #[error("{0}")]
    Untrusted(String),
}

/// A model that is not trusted. Those that were changed are for whoever reads the audit.
pub(super) fn refused(id: &str, error: TrustError) -> RegistryError {
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
