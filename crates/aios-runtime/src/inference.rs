//! What both protocols do: find the model, make tokens, wait for a slot.

use std::sync::Arc;

use crate::{
    constraint::{Form, FormError},
    embedding::Embedder,
    engine::Cancel,
    generate::{GenerateRequest, Guidance},
    model::PromptError,
    registry::{Registry, RegistryError, Resident},
    sampling::Sampling,
    scheduler::{NotAdmitted, Scheduler},
    template::ChatMessage,
    tools::{Choice, Tool, Tools},
};

pub use crate::scheduler::{Completed, Event, FailedRun, Run};

/// Most stop sequences of a request, as in OpenAI's API.
pub const MAX_STOPS: usize = 4;

/// Models and the workers that run them.
pub struct Inference {
    /// The models.
    pub registry: Arc<Registry>,
    /// The workers.
    pub scheduler: Scheduler,
    /// Embeddings, which have a model and a queue of their own.
    pub embedder: Embedder,
}

/// What is to be continued.
#[derive(Clone, Debug)]
pub enum Input {
    /// Text as it is.
    Text(String),
    /// Messages, to be rendered with the model's chat template.
    Chat(Vec<ChatMessage>),
}

/// What the answer must look like.
#[derive(Clone, Debug, Default)]
pub enum Expected {
    /// Text.
    #[default]
    Text,
    /// Text of this form.
    Form {
        /// The form.
        form: Form,
        /// The form's name in the protocol.
        param: &'static str,
    },
    /// Text or calls of tools.
    Tools(Tools),
}

/// How long the beginning of a prompt is known to later requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// As long as there is room in memory.
    #[default]
    Memory,
    /// On disk as well: of a chat, the instructions and tools that other chats may begin with; of a text, all of it.
    Disk,
}

/// A request, whatever protocol it came by.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name in the log, and towards the client.
    pub id: String,
    /// Model id; empty and `default` name the default model.
    pub model: String,
    /// What is to be continued.
    pub input: Input,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens to generate at most; the end of the context comes first where it is nearer.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// What the answer must look like.
    pub expected: Expected,
    /// Asks for the probability of each token, and of so many likeliest others in its place.
    pub logprobs: Option<usize>,
    /// How long the beginning of the prompt is known to later requests.
    pub retention: Retention,
}

/// Why a request was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No loaded model has this id.
    #[error("model '{model}' does not exist or is not loaded")]
    UnknownModel {
        /// Id that was asked for.
        model: String,
    },
    /// The model was out of memory, and there is no room for it now.
    #[error("{reason}")]
    NoMemory {
        /// How much it needs, and how much there is.
        reason: String,
    },
    /// The model was out of memory, and can't be loaded again.
    #[error("{reason}")]
    NotLoaded {
        /// Why.
        reason: String,
    },
    /// The prompt leaves no room for an answer.
    #[error(
        "This model's maximum context length is {context} tokens, but {prompt} are in the {param}. Shorten the {param}."
    )]
    ContextExceeded {
        /// Tokens that the context holds.
        context: usize,
        /// Tokens of the prompt.
        prompt: usize,
        /// The input's name in the protocols.
        param: &'static str,
    },
    /// The chat template does not take these messages.
    #[error("{reason}")]
    Template {
        /// What the template said.
        reason: String,
    },
    /// No answer can have the form that is asked for.
    #[error("'{param}': {reason}")]
    Form {
        /// The form's name in the protocols.
        param: String,
        /// What is wrong with it.
        reason: FormError,
    },
    /// There is nothing to continue.
    #[error("The {param} must not be empty.")]
    EmptyPrompt {
        /// The input's name in the protocols.
        param: &'static str,
    },
    /// As many requests run and wait as are allowed to.
    #[error("All slots are busy and the queue is full: try again later.")]
    QueueFull,
    /// The process is about to end.
    #[error("The runtime is shutting down: try again.")]
    ShuttingDown,
    /// A defect.
    #[error("The prompt could not be made into tokens: {reason}")]
    Internal {
        /// What went wrong.
        reason: String,
    },
}

/// What is to be counted.
#[derive(Clone, Debug, Default)]
pub struct ToCount {
    /// Model id; empty and `default` name the default model.
    pub model: String,
    /// Each alone, as it stands behind other text.
    pub texts: Vec<String>,
    /// With what its template puts around the messages.
    pub chat: Option<Vec<ChatMessage>>,
}

/// Numbers of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Id of the model, never `default`.
    pub model: String,
    /// Of each text.
    pub texts: Vec<usize>,
    /// Of the chat; 0 without one.
    pub chat: usize,
    /// Longest context of the model.
    pub context_length: usize,
}

impl Inference {
    /// Counts tokens, and generates nothing.
    pub async fn count(&self, ToCount { model, texts, chat }: ToCount) -> Result<Counted, Refusal> {
        let model = self.model(&model).await?;
        // A megabyte of text takes tens of milliseconds.
        let work = move || {
            let length = |tokens: Result<Vec<u32>, PromptError>| Ok(tokens.map_err(prompt_refusal)?.len());
            let texts = texts.iter().map(|text| length(model.continuation_tokens(text))).collect::<Result<_, _>>()?;
            let chat = chat.map_or(Ok(0), |messages| length(model.chat_tokens(&messages, &[])))?;
            let context_length = model.engine.info().context_length;
            Ok(Counted { model: model.id.clone(), texts, chat, context_length })
        };
        let counted = tokio::task::spawn_blocking(work).await;
        counted.unwrap_or_else(|error| Err(Refusal::Internal { reason: error.to_string() }))
    }

    /// The model of that id, which may have to be brought back into memory.
    async fn model(&self, id: &str) -> Result<Arc<Resident>, Refusal> {
        let model = self.registry.serve(id).await.map_err(|error| match error {
            RegistryError::Memory { .. } => Refusal::NoMemory { reason: error.to_string() },
            error => Refusal::NotLoaded { reason: error.to_string() },
        })?;
        model.ok_or_else(|| Refusal::UnknownModel { model: id.to_owned() })
    }

    /// Lets a request in, or refuses it. What it returns waits for a slot or runs; dropping that cancels it.
    pub async fn start(&self, request: Request) -> Result<(Arc<Resident>, Run), Refusal> {
        let name = request.id.clone();
        let started = self.admit(request).await;
        if let Err(refusal) = &started {
            tracing::info!(request_id = name, reason = %refusal, "request refused");
        }
        started
    }

    async fn admit(&self, request: Request) -> Result<(Arc<Resident>, Run), Refusal> {
        let model = self.model(&request.model).await?;
        let admission = self.scheduler.admit().map_err(|reason| match reason {
            NotAdmitted::Full => Refusal::QueueFull,
            NotAdmitted::Closing => Refusal::ShuttingDown,
        })?;
        let Request { id, input, sampling, max_tokens, stop, expected, logprobs, retention, .. } = request;
        // A long prompt or a large form takes milliseconds, in which this thread could serve others.
        let preparing = model.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let tokens = tokens(&preparing, &input, &expected)?;
            let pin = pinned(&preparing, &tokens, &input, &expected, retention);
            Ok((tokens, pin, guidance(&preparing, &expected)?))
        });
        let prepared = prepared.await.map_err(|error| Refusal::Internal { reason: error.to_string() })?;
        let (prompt_tokens, pin, guidance) = prepared?;
        let (cancel, lookup) = (Cancel::default(), true);
        let request =
            GenerateRequest { prompt_tokens, sampling, max_tokens, stop, guidance, logprobs, pin, lookup, cancel };
        let run = self.scheduler.submit(admission, id, model.clone(), request);
        Ok((model, run))
    }
}

fn tools(expected: &Expected) -> &[Tool] {
    if let Expected::Tools(tools) = expected { &tools.tools } else { &[] }
}

/// How many of a prompt's tokens are to be kept on disk.
fn pinned(model: &Resident, tokens: &[u32], input: &Input, expected: &Expected, retention: Retention) -> usize {
    match (retention, input) {
        (Retention::Memory, _) => 0,
        (Retention::Disk, Input::Text(_)) => tokens.len(),
        (Retention::Disk, Input::Chat(messages)) => model.shared_beginning(tokens, messages, tools(expected)),
    }
}

fn tokens(model: &Resident, input: &Input, expected: &Expected) -> Result<Vec<u32>, Refusal> {
    let (tokens, param) = match input {
        Input::Text(text) => (model.text_tokens(text), "prompt"),
        Input::Chat(messages) => (model.chat_tokens(messages, tools(expected)), "messages"),
    };
    let tokens = tokens.map_err(prompt_refusal)?;
    let (prompt, context) = (tokens.len(), model.engine.info().context_length);
    match prompt {
        0 => Err(Refusal::EmptyPrompt { param }),
        prompt if prompt >= context => Err(Refusal::ContextExceeded { context, prompt, param }),
        _ => Ok(tokens),
    }
}

fn prompt_refusal(error: PromptError) -> Refusal {
    match error {
        PromptError::NoTemplate(_) | PromptError::Template(_) => Refusal::Template { reason: error.to_string() },
        PromptError::Encode(_) => Refusal::Internal { reason: error.to_string() },
    }
}

fn guidance(model: &Resident, expected: &Expected) -> Result<Option<Guidance>, Refusal> {
    let compile = |form: &Form, param: &str| {
        model.grammars.compile(form).map_err(|reason| Refusal::Form { param: param.to_owned(), reason })
    };
    match expected {
        Expected::Text => Ok(None),
        Expected::Form { form, param } => Ok(Some(Guidance { constraint: compile(form, param)?, marker: None })),
        Expected::Tools(tools) => {
            let syntax = model.call_syntax();
            let constraint = compile(&tools.form(&syntax), "tools").map_err(|refusal| {
                // Which of the schemas is at fault is found by trying each alone.
                let schemas = tools.tools.iter().map(|tool| Form::Schema(tool.parameters.clone()));
                let place = |index: usize| format!("tools[{index}].function.parameters");
                let alone = schemas.enumerate().find_map(|(index, form)| compile(&form, &place(index)).err());
                alone.unwrap_or(refusal)
            })?;
            let marker = (tools.choice == Choice::Auto).then(|| syntax.marker.to_owned());
            Ok(Some(Guidance { constraint, marker }))
        }
    }
}
