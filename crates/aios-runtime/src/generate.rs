//! From a prompt to an answer: prefill, sampling, end of turn, stop sequences, the bounds of the context.

mod stop;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Cancel, EngineError, Session};
use crate::model::LoadedModel;
use crate::sampling::{NoFiniteLogit, Sampler, Sampling, SamplingError};
use crate::tokenizer::StreamDecoder;
use stop::StopMatcher;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The whole context, at least one token.
    pub prompt_tokens: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most so many tokens; `None` up to the end of the context.
    pub max_tokens: Option<usize>,
    /// Texts at which the answer ends; they are no part of it. Empty ones are ignored.
    pub stop: Vec<String>,
    /// Looked at before every token and inside the prefill.
    pub cancel: Arc<Cancel>,
}

/// Why the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn, or a stop sequence came up.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// A finished generation. Its text went to the caller's function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the context already, or began another prompt.
    pub cached_tokens: usize,
    /// Tokens generated; the one that ended the turn is not counted.
    pub completion_tokens: usize,
    /// From the start to the first logits.
    pub prompt_time: Duration,
    /// From the first logits to the end.
    pub predict_time: Duration,
}

/// Why there is no answer, or only the part that was already handed out.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No token to begin with.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {prompt} tokens, but the context holds {context} including the answer")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A sampling parameter out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The request was cancelled, or its receiver broke off.
    #[error("cancelled")]
    Cancelled,
    /// The model's output is unusable.
    #[error(transparent)]
    Model(#[from] NoFiniteLogit),
    /// The engine failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for GenerateError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            other => Self::Engine(other),
        }
    }
}

/// Generates an answer in `session`, whose former context is dropped but for what the prompt begins with.
///
/// `on_text` receives the answer piece by piece, in whole characters; when it breaks, the result is
/// [`GenerateError::Cancelled`].
pub fn generate(
    model: &LoadedModel,
    session: &mut dyn Session,
    request: &GenerateRequest,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generated, GenerateError> {
    let mut sampler = Sampler::new(&request.sampling)?;
    let prompt_tokens = request.prompt_tokens.len();
    let context = model.engine.info().context_length;
    if prompt_tokens == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt_tokens >= context {
        return Err(GenerateError::PromptTooLong { prompt: prompt_tokens, context });
    }
    let limit = request.max_tokens.unwrap_or(usize::MAX).min(context - prompt_tokens);

    let started = Instant::now();
    // The last token goes through the layers in any case: the answer begins with its logits.
    let cached_tokens = session.resume(&request.prompt_tokens[..prompt_tokens - 1]);
    let mut logits = session.forward(&request.prompt_tokens[cached_tokens..], 1, &request.cancel)?;
    let prefilled = Instant::now();

    let mut answer = Answer { decoder: StreamDecoder::default(), stop: StopMatcher::new(&request.stop), on_text };
    let mut completion_tokens = 0;
    let finish = loop {
        if completion_tokens == limit {
            break Finish::Length;
        }
        if request.cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let token = sampler.sample(logits)?;
        if model.tokenizer.is_end(token) {
            break Finish::Stop;
        }
        completion_tokens += 1;
        if answer.push(model, token)? == Turn::Stopped {
            break Finish::Stop;
        }
        if completion_tokens < limit {
            logits = session.forward(&[token], 1, &request.cancel)?;
        }
    };
    answer.finish()?;
    Ok(Generated {
        finish,
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        prompt_time: prefilled - started,
        predict_time: prefilled.elapsed(),
    })
}

#[derive(PartialEq)]
enum Turn {
    Continues,
    Stopped,
}

/// The way of the answer's text: tokens, whole characters, without stop sequences, to the receiver.
struct Answer<'a> {
    decoder: StreamDecoder,
    stop: StopMatcher,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Answer<'_> {
    fn push(&mut self, model: &LoadedModel, token: u32) -> Result<Turn, GenerateError> {
        let mut text = String::new();
        self.decoder.push(&model.tokenizer, token, &mut text);
        self.text(&text)
    }

    /// Hands out what was held back.
    fn finish(&mut self) -> Result<(), GenerateError> {
        let mut text = String::new();
        self.decoder.finish(&mut text);
        if self.text(&text)? == Turn::Continues {
            let held = self.stop.finish();
            emit(self.on_text, &held)?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Turn, GenerateError> {
        let released = self.stop.push(text);
        emit(self.on_text, &released)?;
        Ok(if self.stop.is_stopped() { Turn::Stopped } else { Turn::Continues })
    }
}

fn emit(on_text: &mut dyn FnMut(&str) -> ControlFlow<()>, text: &str) -> Result<(), GenerateError> {
    if !text.is_empty() && on_text(text).is_break() {
        return Err(GenerateError::Cancelled);
    }
    Ok(())
}
