//! Between the domain's types and the wire's.

use aios_api::runtime::v1::{
    self as wire, Conversation, CountTokensRequest, CountTokensResponse, EmbedRequest, EmbedResponse, Embedding,
    FinishReason, InferRequest, InferResponse, Message, Model, ModelKind, ModelState, PromptCacheRetention, Role,
    Timings, Usage, form, infer_request, stream_infer_response::Done,
};
use tonic::Status;

use crate::{
    constraint::Form,
    embedding::{self, EmbedError, Embeddings, MAX_INPUTS, Made},
    generate::Finish,
    inference::{Completed, Counted, Expected, FailedRun, Input, MAX_STOPS, Refusal, Request, Retention, ToCount},
    registry::{InMemory, Listed, ListedState, RegistryError, millis},
    sampling::Sampling,
    template::ChatMessage,
};

/// Checks a request and gives it a name.
pub fn request(wire: InferRequest) -> Result<Request, Status> {
    let retention = match wire.prompt_cache_retention() {
        PromptCacheRetention::Unspecified | PromptCacheRetention::InMemory => Retention::Memory,
        PromptCacheRetention::OnDisk => Retention::Disk,
    };
    let input = match wire.input {
        Some(infer_request::Input::Prompt(text)) => Input::Text(text),
        Some(infer_request::Input::Conversation(conversation)) => Input::Chat(messages(conversation)?),
        None => return Err(Status::invalid_argument("input: set prompt or conversation")),
    };
    let sampling = wire.sampling.unwrap_or_default();
    let (temperature, top_p) = (sampling.temperature.unwrap_or(1.0), sampling.top_p.unwrap_or(1.0));
    let sampling = Sampling { temperature, top_p, seed: sampling.seed };
    sampling.validate().map_err(|error| Status::invalid_argument(format!("sampling: {error}")))?;
    if wire.max_tokens == Some(0) {
        return Err(Status::invalid_argument("max_tokens: must be at least 1"));
    }
    if wire.stop.len() > MAX_STOPS || wire.stop.iter().any(String::is_empty) {
        return Err(Status::invalid_argument(format!("stop: at most {MAX_STOPS} texts, none of them empty")));
    }
    Ok(Request {
        id: format!("{:032x}", rand::random::<u128>()),
        model: wire.model,
        input,
        sampling,
        max_tokens: wire.max_tokens.map(|bound| bound as usize),
        stop: wire.stop,
        expected: wire.form.map_or(Ok(Expected::Text), expected)?,
        logprobs: None,
        retention,
    })
}

fn expected(wire: wire::Form) -> Result<Expected, Status> {
    let form = match wire.form {
        Some(form::Form::JsonSchema(text)) => {
            let schema = serde_json::from_str(&text)
                .map_err(|error| Status::invalid_argument(format!("form.json_schema: not valid JSON: {error}")))?;
            if !matches!(schema, serde_json::Value::Object(_) | serde_json::Value::Bool(_)) {
                return Err(Status::invalid_argument("form.json_schema: a schema is an object, true or false"));
            }
            Form::Schema(schema)
        }
        Some(form::Form::Regex(regex)) => Form::Regex(regex),
        Some(form::Form::Choice(choice)) => Form::Choice(choice.texts),
        Some(form::Form::Grammar(grammar)) => Form::Grammar(grammar),
        None => return Err(Status::invalid_argument("form: set json_schema, regex, choice or grammar")),
    };
    Ok(Expected::Form { form, param: "form" })
}

fn messages(conversation: Conversation) -> Result<Vec<ChatMessage>, Status> {
    if conversation.messages.is_empty() {
        return Err(Status::invalid_argument("conversation.messages: must hold at least one message"));
    }
    conversation.messages.into_iter().map(message).collect()
}

fn message(wire: Message) -> Result<ChatMessage, Status> {
    let role = match wire.role() {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Unspecified => {
            return Err(Status::invalid_argument("conversation.messages: every message needs a known role"));
        }
    };
    Ok(ChatMessage::new(role, wire.content))
}

/// A whole answer.
pub fn response(model: &str, text: String, completed: &Completed) -> InferResponse {
    let Done { model, finish_reason, usage, timings } = done(model, completed);
    InferResponse { model, text, finish_reason, usage, timings }
}

/// The end of a streamed answer.
pub fn done(model: &str, completed: &Completed) -> Done {
    let generated = &completed.generated;
    let finish_reason = match generated.finish {
        Finish::Stop => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
    };
    let usage = Usage {
        prompt_tokens: saturating(generated.prompt_tokens),
        completion_tokens: saturating(generated.completion_tokens),
        cached_tokens: saturating(generated.cached_tokens),
    };
    let timings = Timings {
        queue_ms: millis(completed.queue_time),
        prompt_ms: millis(generated.prompt_time),
        predicted_ms: millis(generated.predict_time),
    };
    Done { model: model.to_owned(), finish_reason: finish_reason.into(), usage: Some(usage), timings: Some(timings) }
}

/// A model in memory.
pub fn loaded(id: &str, model: &InMemory, is_default: bool) -> Model {
    let model = match model {
        InMemory::Language(model) => model,
        InMemory::Embedding(model) => {
            return Model {
                id: id.to_owned(),
                state: ModelState::Loaded.into(),
                kind: ModelKind::Embedding.into(),
                context_length: saturating(model.longest()),
                size_bytes: model.size_bytes(),
                load_ms: millis(model.load_time()),
                ..Model::default()
            };
        }
    };
    let info = model.engine.info();
    Model {
        id: id.to_owned(),
        state: ModelState::Loaded.into(),
        kind: ModelKind::Language.into(),
        is_default,
        architecture: info.architecture.clone(),
        parameters: info.parameters,
        context_length: saturating(info.context_length),
        size_bytes: model.size_bytes,
        load_ms: millis(model.load_time),
        error: String::new(),
    }
}

/// A model of the list.
pub fn listed(listed: Listed) -> Model {
    let Listed { id, is_default, is_embedding, size_bytes, state } = listed;
    let kind = if is_embedding { ModelKind::Embedding } else { ModelKind::Language };
    let (state, error) = match state {
        ListedState::Loaded(model) => return loaded(&id, &model, is_default),
        ListedState::Available => (ModelState::Available, String::new()),
        ListedState::Failed(reason) => (ModelState::Failed, reason),
    };
    Model { id, state: state.into(), kind: kind.into(), is_default, size_bytes, error, ..Model::default() }
}

/// The model and the texts of a request for embeddings.
pub fn texts(wire: EmbedRequest) -> Result<(String, Vec<embedding::Input>), Status> {
    if wire.texts.is_empty() || wire.texts.len() > MAX_INPUTS || wire.texts.iter().any(String::is_empty) {
        return Err(Status::invalid_argument(format!("texts: 1 to {MAX_INPUTS} texts, none of them empty")));
    }
    Ok((wire.model, wire.texts.into_iter().map(embedding::Input::Text).collect()))
}

/// What was made of the texts.
pub fn embeddings(Embeddings { model, made }: Embeddings) -> EmbedResponse {
    let Made { vectors, tokens, cached_tokens } = made;
    EmbedResponse {
        model,
        embeddings: vectors.into_iter().map(|values| Embedding { values }).collect(),
        prompt_tokens: saturating(tokens),
        cached_tokens: saturating(cached_tokens),
    }
}

/// What a request wants to be counted.
pub fn to_count(wire: CountTokensRequest) -> Result<ToCount, Status> {
    let CountTokensRequest { model, texts, conversation } = wire;
    if texts.len() > MAX_INPUTS {
        return Err(Status::invalid_argument(format!("texts: at most {MAX_INPUTS}")));
    }
    Ok(ToCount { model, texts, chat: conversation.map(messages).transpose()? })
}

/// What was counted.
pub fn counts(counted: Counted) -> CountTokensResponse {
    CountTokensResponse {
        model: counted.model,
        texts: counted.texts.into_iter().map(saturating).collect(),
        conversation: saturating(counted.chat),
        context_length: saturating(counted.context_length),
    }
}

/// Why there are no embeddings, as a status.
pub fn embedding_status(error: EmbedError) -> Status {
    let message = error.to_string();
    match error {
        EmbedError::UnknownModel { .. } | EmbedError::NoModel | EmbedError::Missing(_) => Status::not_found(message),
        EmbedError::UnknownToken { .. } | EmbedError::Dimensions { .. } => Status::invalid_argument(message),
        EmbedError::QueueFull | EmbedError::NoMemory(_) => Status::resource_exhausted(message),
        EmbedError::Cancelled => Status::unavailable(message),
        EmbedError::Load(_) => Status::failed_precondition(message),
        EmbedError::Failed(_) => Status::internal(message),
    }
}

/// Why a request was not let in, as a status.
pub fn refusal_status(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::UnknownModel { .. } => Status::not_found(message),
        Refusal::ContextExceeded { .. }
        | Refusal::Template { .. }
        | Refusal::EmptyPrompt { .. }
        | Refusal::Form { .. } => Status::invalid_argument(message),
        Refusal::NoMemory { .. } => Status::resource_exhausted(message),
        Refusal::NotLoaded { .. } => Status::failed_precondition(message),
        Refusal::QueueFull => Status::resource_exhausted(message),
        Refusal::ShuttingDown => Status::unavailable(message),
        Refusal::Internal { .. } => Status::internal(message),
    }
}

/// Why a request that was let in got no answer, as a status.
pub fn failure_status(failed: FailedRun) -> Status {
    match failed {
        FailedRun::Cancelled => Status::unavailable(failed.to_string()),
        FailedRun::SlowReceiver(_) => Status::aborted(failed.to_string()),
        FailedRun::Form(_) => Status::invalid_argument(failed.to_string()),
        FailedRun::Engine(_) | FailedRun::Panicked => Status::internal(failed.to_string()),
    }
}

/// Why a model was not loaded or unloaded, as a status.
pub fn registry_status(error: RegistryError) -> Status {
    let message = error.to_string();
    match error {
        RegistryError::NotFound { .. } | RegistryError::NoDefault | RegistryError::NotLoaded(_) => {
            Status::not_found(message)
        }
        RegistryError::Memory { .. } => Status::resource_exhausted(message),
        RegistryError::Load(_) | RegistryError::Untrusted(_) | RegistryError::Embedding(_) => {
            Status::failed_precondition(message)
        }
    }
}

/// Contexts are far shorter than the wire's integers.
fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
