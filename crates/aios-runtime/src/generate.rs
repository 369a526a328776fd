//! From a prompt to an answer: prefill, sampling, end of turn, stop sequences, the bounds of the context.
//!
//! A pass through the layers carries all tokens that are known: the one chosen last, those that the answer's form forces
//! behind it, and a draft of what may follow. Drafts change the time that an answer takes, never its tokens: each is chosen
//! by its own logits, and a draft that differs from the choice is taken back.

mod answer;
mod guide;
mod logprobs;
mod lookup;
mod stop;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::constraint::DeadEnd;
use crate::engine::{self, Cancel, EngineError, Session};
use crate::model::LoadedModel;
use crate::sampling::{NoFiniteLogit, Sampler, Sampling, SamplingError};
use answer::{Answer, Turn};
use guide::{Allowed, Guide};
use lookup::Lookup;

pub use answer::Piece;
pub use guide::Guidance;
pub use logprobs::TokenLogprob;

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
    /// The form that the answer must have.
    pub guidance: Option<Guidance>,
    /// Asks for the probability of each token, and of so many likeliest others in its place.
    pub logprobs: Option<usize>,
    /// How many tokens of the prompt's beginning are to be known for longer than others, after a restart too.
    pub pin: usize,
    /// Whether drafts are looked up in prompt and answer.
    pub lookup: bool,
    /// Looked at before every token and inside the prefill.
    pub cancel: Cancel,
}

/// Why the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn, the answer has its whole form, or a stop sequence came up.
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
    /// Of those, the ones that the answer's form left no choice about.
    pub forced_tokens: usize,
    /// Tokens of drafts, and how many of them were right.
    pub drafted_tokens: usize,
    /// Tokens of drafts that became part of the answer.
    pub accepted_tokens: usize,
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
    /// The answer's form can't be followed.
    #[error(transparent)]
    Form(#[from] DeadEnd),
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
/// `on_piece` receives the answer piece by piece; when it breaks, the result is [`GenerateError::Cancelled`].
pub fn generate(
    model: &LoadedModel,
    session: &mut dyn Session,
    request: &GenerateRequest,
    on_piece: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> Result<Generated, GenerateError> {
    let sampler = Sampler::new(&request.sampling)?;
    let prompt_tokens = request.prompt_tokens.len();
    let context = model.engine.info().context_length;
    if prompt_tokens == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt_tokens >= context {
        return Err(GenerateError::PromptTooLong { prompt: prompt_tokens, context });
    }
    let generation = Generation {
        model,
        request,
        sampler,
        guide: request.guidance.as_ref().map(Guide::new),
        lookup: (request.lookup && session.truncates_for_free()).then(|| Lookup::new(&request.prompt_tokens)),
        answer: Answer::new(model, request, on_piece),
        limit: request.max_tokens.unwrap_or(usize::MAX).min(context - prompt_tokens),
        idle_cpu: engine::leaves_cpus_idle(),
        count: Counts::default(),
    };
    let result = generation.run(session);
    if let (Err(GenerateError::Form(_)), Some(guidance)) = (&result, &request.guidance) {
        model.grammars.forget(&guidance.constraint);
    }
    result
}

/// A generation under way.
struct Generation<'a> {
    model: &'a LoadedModel,
    request: &'a GenerateRequest,
    sampler: Sampler,
    guide: Option<Guide>,
    lookup: Option<Lookup>,
    answer: Answer<'a>,
    /// Most tokens of the answer.
    limit: usize,
    idle_cpu: bool,
    count: Counts,
}

#[derive(Default)]
struct Counts {
    completion: usize,
    forced: usize,
    drafted: usize,
    accepted: usize,
}

/// The tokens of one pass through the layers.
#[derive(Default)]
struct Pass {
    /// What is certain: the prompt, or the token chosen last.
    known: Vec<u32>,
    /// What is certain behind it, as the answer's form leaves no choice.
    forced: Vec<u32>,
    /// Whether the end of the answer cuts `forced` short.
    cut: bool,
    /// Guesses, each a token that may be chosen and what is forced behind it.
    guesses: Vec<Vec<u32>>,
}

/// What came of a pass.
enum Outcome {
    /// A token that begins the next pass, behind so many right guesses.
    Chosen {
        token: u32,
        right: usize,
    },
    Finished(Finish),
}

impl Generation<'_> {
    fn run(mut self, session: &mut dyn Session) -> Result<Generated, GenerateError> {
        let started = Instant::now();
        // The last token goes through the layers in any case: the answer begins with its logits.
        let prompt = &self.request.prompt_tokens;
        let cached_tokens = session.resume(&prompt[..prompt.len() - 1]);
        let forced = self.guide.as_mut().map(Guide::begin).unwrap_or_default();
        let mut pass = self.pass(prompt[cached_tokens..].to_vec(), forced);
        let (mut prefilled, mut pin) = (None, self.request.pin);
        let finish = loop {
            if self.request.cancel.is_cancelled() {
                return Err(GenerateError::Cancelled);
            }
            if let Some(finish) = self.take_early(&pass)? {
                break finish;
            }
            // Nothing is gained by a draft behind the prompt: its pass is long, and there is no answer to learn from.
            if prefilled.is_some() {
                session.pin(std::mem::take(&mut pin));
                self.guess(session, &mut pass)?;
            }
            let before = session.len();
            let (logits, allowed) = self.forward(session, &pass)?;
            prefilled.get_or_insert_with(Instant::now);
            match self.choose(&pass, logits, &allowed)? {
                Outcome::Finished(finish) => break finish,
                Outcome::Chosen { token, right } => {
                    session.truncate(before + pass.len_with(right));
                    pass = self.follow(token, right, pass.guesses.len())?;
                }
            }
        };
        if prefilled.is_some() {
            session.pin(pin);
        }
        self.answer.finish()?;
        let prefilled = prefilled.unwrap_or_else(Instant::now);
        Ok(Generated {
            finish,
            prompt_tokens: prompt.len(),
            cached_tokens,
            completion_tokens: self.count.completion,
            forced_tokens: self.count.forced,
            drafted_tokens: self.count.drafted,
            accepted_tokens: self.count.accepted,
            prompt_time: prefilled - started,
            predict_time: prefilled.elapsed(),
        })
    }

    /// A pass without guesses.
    fn pass(&mut self, known: Vec<u32>, mut forced: Vec<u32>) -> Pass {
        let room = self.limit - self.count.completion;
        let cut = forced.len() > room;
        forced.truncate(room);
        if let Some(lookup) = &mut self.lookup {
            lookup.extend(&forced);
        }
        Pass { known, forced, cut, guesses: Vec::new() }
    }

    /// Takes forced tokens into the answer before the pass that carries them, unless their probability is asked for: then it
    /// is not known yet. Where the answer ends with them, the pass is not needed.
    fn take_early(&mut self, pass: &Pass) -> Result<Option<Finish>, GenerateError> {
        if self.request.logprobs.is_some() && !pass.forced.is_empty() {
            return Ok(None);
        }
        self.take_forced(&pass.forced, |_| None)?.map_or_else(|| Ok(self.ended(pass.cut)), |finish| Ok(Some(finish)))
    }

    /// Adds a draft of what may come behind the pass.
    fn guess(&mut self, session: &dyn Session, pass: &mut Pass) -> Result<(), GenerateError> {
        let Some(lookup) = &self.lookup else { return Ok(()) };
        let mut room = self.model.engine.info().context_length - session.len() - pass.len_with(0);
        let draft = lookup.draft().to_vec();
        let mut rest = &draft[..];
        while let Some((&token, after)) = rest.split_first() {
            if self.model.tokenizer.is_end(token) {
                break;
            }
            let forced = match &mut self.guide {
                None => Vec::new(),
                Some(guide) => match guide.suppose(self.model, token)? {
                    Some(forced) => forced,
                    None => break,
                },
            };
            let guess = [&[token], &forced[..]].concat();
            if guess.len() > room {
                self.guide.as_mut().map_or(Ok(()), Guide::withdraw)?;
                break;
            }
            room -= guess.len();
            pass.guesses.push(guess);
            // A draft that says otherwise than what is forced is wrong from there on.
            rest = after.strip_prefix(&forced[..]).unwrap_or_default();
        }
        self.count.drafted += pass.guesses.len();
        Ok(())
    }

    /// Computes the logits behind the pass and its guesses, and what may be chosen there.
    fn forward<'s>(
        &mut self,
        session: &'s mut dyn Session,
        pass: &Pass,
    ) -> Result<(&'s [f32], Allowed), GenerateError> {
        let tokens = [&pass.known, &pass.forced].into_iter().chain(&pass.guesses).flatten().copied();
        let tokens: Vec<u32> = tokens.collect();
        let outputs = tokens.len() + 1 - pass.known.len() - self.unasked(pass);
        let cancel = &self.request.cancel;
        let work = move || {
            let session = session;
            Ok(session.forward(&tokens, outputs, cancel)?)
        };
        match &mut self.guide {
            Some(guide) => guide.beside(self.idle_cpu, work),
            None => Ok((work()?, vec![None; pass.guesses.len() + 1])),
        }
    }

    /// Rows of logits in front of forced tokens that are not asked for.
    fn unasked(&self, pass: &Pass) -> usize {
        if self.request.logprobs.is_some() { 0 } else { pass.forced.len() }
    }

    /// Chooses tokens as long as they were guessed.
    fn choose(&mut self, pass: &Pass, logits: &[f32], allowed: &Allowed) -> Result<Outcome, GenerateError> {
        let mut rows = logits.chunks_exact(self.model.engine.info().vocabulary);
        if self.request.logprobs.is_some() && !pass.forced.is_empty() {
            let ended = self.take_forced(&pass.forced, |_| rows.next())?.or_else(|| self.ended(pass.cut));
            if let Some(finish) = ended {
                return Ok(Outcome::Finished(finish));
            }
        }
        for (right, allowed) in allowed.iter().enumerate() {
            let row = rows.next().ok_or(NoFiniteLogit)?;
            let token = self.sampler.sample(row, allowed.as_ref())?;
            if self.model.tokenizer.is_end(token) {
                return Ok(Outcome::Finished(Finish::Stop));
            }
            if self.take(token, Some(row))? == Turn::Stopped {
                return Ok(Outcome::Finished(Finish::Stop));
            }
            let guess = pass.guesses.get(right).filter(|guess| guess[0] == token);
            let Some(guess) = guess else { return Ok(Outcome::Chosen { token, right }) };
            self.count.accepted += 1;
            if let Some(lookup) = &mut self.lookup {
                lookup.extend(guess);
            }
            if let Some(finish) = self.take_forced(&guess[1..], |_| rows.next())? {
                return Ok(Outcome::Finished(finish));
            }
            if self.count.completion == self.limit {
                return Ok(Outcome::Finished(Finish::Length));
            }
        }
        unreachable!("invariant: behind the last guess there is none to be right")
    }

    /// The pass that follows a choice.
    fn follow(&mut self, token: u32, right: usize, guesses: usize) -> Result<Pass, GenerateError> {
        if let Some(lookup) = &mut self.lookup {
            lookup.extend(&[token]);
            if guesses > 0 {
                lookup.learn(guesses, right);
            }
        }
        let forced = match &mut self.guide {
            None => Vec::new(),
            Some(guide) => {
                guide.settle(self.model, right)?;
                guide.accept(self.model, token)?
            }
        };
        Ok(self.pass(vec![token], forced))
    }

    fn take_forced<'l>(
        &mut self,
        tokens: &[u32],
        mut row: impl FnMut(u32) -> Option<&'l [f32]>,
    ) -> Result<Option<Finish>, GenerateError> {
        for &token in tokens {
            if self.count.completion == self.limit {
                return Ok(Some(Finish::Length));
            }
            self.count.forced += 1;
            if self.take(token, row(token))? == Turn::Stopped {
                return Ok(Some(Finish::Stop));
            }
        }
        Ok(None)
    }

    /// Makes a token a part of the answer.
    fn take(&mut self, token: u32, row: Option<&[f32]>) -> Result<Turn, GenerateError> {
        self.count.completion += 1;
        let top = self.request.logprobs;
        let logprob = row.zip(top).map(|(row, top)| logprobs::logprob(row, token, top));
        self.answer.push(token, logprob)
    }

    /// Why the answer ends with the tokens taken so far, if it does.
    fn ended(&self, cut: bool) -> Option<Finish> {
        let complete = !cut && self.guide.as_ref().is_some_and(Guide::is_complete);
        let full = self.count.completion == self.limit;
        complete.then_some(Finish::Stop).or(full.then_some(Finish::Length))
    }
}

impl Pass {
    /// Tokens of the pass with its first `right` guesses.
    fn len_with(&self, right: usize) -> usize {
        self.known.len() + self.forced.len() + self.guesses[..right].iter().map(Vec::len).sum::<usize>()
    }
}
