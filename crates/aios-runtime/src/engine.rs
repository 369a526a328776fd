//! The seam between serving and arithmetic.
//!
//! Everything above this trait (tokens, templates, sampling, queues, protocols) is the same for every engine; everything
//! below it is free to choose its own weights layout, threads and cache.

mod candle;
mod decoder;
mod pool_guard;
mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aios_models::formats::ARCHITECTURES;

use crate::gguf::{Gguf, GgufError};
use crate::model::LoadOptions;
pub use threads::{ThreadsError, computing_threads, leaves_cpus_idle, read_bandwidth, use_threads};

/// Loads the weights of `gguf`.
pub fn load(gguf: &Gguf, options: &LoadOptions) -> Result<Box<dyn Engine>, EngineError> {
    let architecture = gguf.require("general.architecture", gguf.string("general.architecture")?)?;
    if let Some(family) = decoder::Family::of(architecture) {
        return decoder::load(gguf, family, options);
    }
    match candle::Architecture::named(architecture) {
        Some(known) => candle::load(gguf, known, options.context),
        None => {
            let supported = ARCHITECTURES.join(", ");
            Err(gguf.error(format!("architecture {architecture:?} is not supported; supported are {supported}")).into())
        }
    }
}

/// What a loaded model is, in the GGUF's own terms.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineInfo {
    /// `general.architecture`, for example `llama`.
    pub architecture: String,
    /// What computes: the instructions that the kernels use, or `candle`.
    pub arithmetic: &'static str,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the vocabulary, which is the length of the logits.
    pub vocabulary: usize,
    /// Longest context in tokens: trained length, or less where the configuration bounds it.
    pub context_length: usize,
}

/// A loaded model: immutable weights, shared by all of its sessions.
pub trait Engine: Send + Sync {
    /// What was loaded.
    fn info(&self) -> &EngineInfo;

    /// Opens an empty context. Memory for it is taken here, not during inference.
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;
}

/// One context: the tokens so far and their cache.
///
/// A panic in a call leaves candle's threads unusable, for every model: the process should end and be started again.
pub trait Session: Send {
    /// Number of tokens in the context.
    fn len(&self) -> usize;

    /// Whether the context holds no token.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `tokens` and returns the logits after each of the last `outputs` of them, or after all where there are
    /// fewer: row after row, one number per vocabulary entry.
    ///
    /// But for rounding, a token's logits do not depend on which tokens were handed in with it. `cancel` is looked at between batches and layers; a cancelled call returns [`EngineError::Cancelled`] and leaves
    /// the context as it was before the call.
    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError>;

    /// Makes the context hold a beginning of `tokens`, as long a one as can be had without computing, and returns its
    /// length.
    fn resume(&mut self, tokens: &[u32]) -> usize;

    /// Asks that the first `len` tokens of the context be known for longer than others, after a restart too. An engine that
    /// keeps nothing does nothing.
    fn pin(&mut self, _len: usize) {}

    /// Whether [`Session::truncate`] costs nothing. Where it does, the next `forward` computes all that was left anew, and
    /// tokens that may turn out wrong are better not handed in.
    fn truncates_for_free(&self) -> bool {
        true
    }

    /// Shortens the context to its first `len` tokens. Does nothing where it is no longer than that.
    fn truncate(&mut self, len: usize);
}

/// How many tokens both begin with.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Refuses tokens that are none of the vocabulary, and more than a context of `held` tokens has room for.
fn check_tokens(tokens: &[u32], held: usize, capacity: usize, vocabulary: usize) -> Result<(), EngineError> {
    let needed = held.saturating_add(tokens.len());
    if needed > capacity {
        return Err(EngineError::ContextFull { capacity, needed });
    }
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        None => Ok(()),
        Some(token) => Err(EngineError::Compute(format!("token {token} is not one of the model's {vocabulary}"))),
    }
}

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file can't be used as a model.
    #[error("model file {0}")]
    Model(GgufError),
    /// More tokens than the context holds.
    #[error("the context holds {capacity} tokens, {needed} are needed")]
    ContextFull {
        /// Tokens the context holds.
        capacity: usize,
        /// Tokens that the call would have led to.
        needed: usize,
    },
    /// The caller went away.
    #[error("cancelled")]
    Cancelled,
    /// The arithmetic library failed.
    #[error("inference: {0}")]
    Compute(String),
}

// Not as a source: the text has all of it.
impl From<GgufError> for EngineError {
    fn from(error: GgufError) -> Self {
        Self::Model(error)
    }
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(error.to_string())
    }
}

/// A flag that tells running work that nobody waits for it any more. Clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the work to stop at its next look.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
