//! A model that is ready to answer: engine, tokenizer, chat template.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aios_kernels::Isa;

use crate::constraint::Grammars;
use crate::engine::{self, Engine, EngineError};
use crate::gguf::{Gguf, GgufError};
use crate::kept::Shelf;
use crate::template::{ChatMessage, ChatTemplate, TemplateError};
use crate::tokenizer::{EncodeError, Tokenizer};
use crate::tools::{Syntax, Tool};

/// How a model is loaded. The number of threads is the process's, see [`engine::use_threads`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Longest context in tokens; the model's trained length where that is shorter. Each session's cache is this long.
    pub context: usize,
    /// Instructions for the kernels to compute with. `None` takes the fastest; where this CPU has none that the kernels are
    /// written for, candle computes.
    pub isa: Option<Isa>,
    /// Bytes of memory for the keys and values of prompts' beginnings, which later prompts may share; 0 for none.
    pub prefix_cache: usize,
    /// Where those are kept that a request asks to keep; `None` for nowhere.
    pub kept: Option<Shelf>,
}

impl LoadOptions {
    /// For contexts of at most `context` tokens, with what is fastest on this CPU, without memory for prompts' beginnings.
    pub fn new(context: usize) -> Self {
        Self { context, isa: None, prefix_cache: 0, kept: None }
    }
}

/// Why a model can't be loaded. The text names the file, what is wrong, and what would do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is unusable.
    #[error("model file {0}")]
    File(GgufError),
    /// The engine refused the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The chat template does not compile.
    #[error("model file {path}: {error}")]
    Template {
        /// File that was read.
        path: String,
        /// What is wrong.
        error: TemplateError,
    },
    /// Vocabulary and weights are of different size.
    #[error("model file {path}: its tokenizer has {tokenizer} tokens, its embedding {embedding}")]
    Vocabulary {
        /// File that was read.
        path: String,
        /// Tokens in the metadata.
        tokenizer: usize,
        /// Rows of the embedding.
        embedding: usize,
    },
}

// Not as a source: the text has all of it.
impl From<GgufError> for LoadError {
    fn from(error: GgufError) -> Self {
        Self::File(error)
    }
}

/// Why messages can't become tokens.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file brings no chat template.
    #[error("model {0} has no chat template; use plain completion, or a model that was tuned for chat")]
    NoTemplate(String),
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A model in memory. Shared by all requests.
pub struct LoadedModel {
    /// Name by which requests ask for it.
    pub id: String,
    /// Weights and arithmetic.
    pub engine: Box<dyn Engine>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Forms that its answers may be asked for.
    pub grammars: Grammars,
    /// Messages to a prompt; `None` where the file brings no template.
    pub template: Option<ChatTemplate>,
    /// How long loading took.
    pub load_time: Duration,
    /// Size of the file.
    pub size_bytes: u64,
}

impl LoadedModel {
    /// Loads the GGUF file at `path`. Takes as long as reading the file; call it where blocking is allowed.
    pub fn load(id: &str, path: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        let started = Instant::now();
        let gguf = Gguf::open(path)?;
        // Neither uses all processors to their end.
        let (engine, tokenizer) = thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::from_gguf(&gguf));
            (engine::load(&gguf, options), tokenizer.join())
        });
        let (engine, tokenizer) = (engine?, tokenizer.unwrap_or_else(|panic| resume_unwind(panic))?);
        let tokenizer = Arc::new(tokenizer);
        let (vocabulary, embedding) = (tokenizer.vocabulary(), engine.info().vocabulary);
        if vocabulary != embedding {
            return Err(LoadError::Vocabulary { path: path.display().to_string(), tokenizer: vocabulary, embedding });
        }
        let template = chat_template(&gguf, &tokenizer)?;
        let size_bytes = gguf.size();
        let grammars = Grammars::new(tokenizer.clone());
        Ok(Self { id: id.to_owned(), engine, tokenizer, grammars, template, load_time: started.elapsed(), size_bytes })
    }

    /// The tokens of a chat, with what the model is told of `tools`, up to where the assistant's answer begins. Nothing in a
    /// message or a tool acts as a control token.
    pub fn chat_tokens(&self, messages: &[ChatMessage], tools: &[Tool]) -> Result<Vec<u32>, PromptError> {
        let template = self.template.as_ref().ok_or_else(|| PromptError::NoTemplate(self.id.clone()))?;
        Ok(self.tokenizer.encode_prompt(&template.render(messages, tools, true)?)?)
    }

    /// How many of a chat's `tokens` every chat with the same instructions (the system messages in front) and tools begins
    /// with.
    pub fn shared_beginning(&self, tokens: &[u32], messages: &[ChatMessage], tools: &[Tool]) -> usize {
        let instructions = messages.iter().take_while(|message| message.role == "system").count();
        // Another chat, whose first message begins with another letter.
        let other = match messages.get(instructions).is_some_and(|message| message.content.starts_with('a')) {
            true => "b",
            false => "a",
        };
        let other = [&messages[..instructions], &[ChatMessage::new("user", other.to_owned())]].concat();
        self.chat_tokens(&other, tools).map_or(0, |other| engine::common(&other, tokens))
    }

    /// How it writes calls of tools.
    pub fn call_syntax(&self) -> Syntax {
        self.template.as_ref().map_or(Syntax::TAGS, ChatTemplate::call_syntax)
    }

    /// The tokens of plain text that is to be continued. Nothing in it acts as a control token.
    pub fn text_tokens(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        Ok(self.tokenizer.encode(text)?)
    }

    /// The tokens of plain text that stands behind other text. Nothing in it acts as a control token.
    pub fn continuation_tokens(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        Ok(self.tokenizer.encode_continuation(text)?)
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LoadedModel").field("id", &self.id).field("info", self.engine.info()).finish()
    }
}

fn chat_template(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, LoadError> {
    let Some(source) = gguf.string("tokenizer.chat_template")? else { return Ok(None) };
    let tokens = gguf.strings("tokenizer.ggml.tokens")?.unwrap_or(&[]);
    let text = |key: &str| -> Result<&str, GgufError> {
        Ok(gguf.count(key)?.and_then(|id| tokens.get(id)).map_or("", String::as_str))
    };
    let (bos, eos) = (text("tokenizer.ggml.bos_token_id")?, text("tokenizer.ggml.eos_token_id")?);
    let control = tokenizer.control_texts().map(str::to_owned).collect();
    ChatTemplate::new(source, control, bos, eos)
        .map(Some)
        .map_err(|error| LoadError::Template { path: gguf.path().display().to_string(), error })
}
