//! Follows the form of an answer beside its generation: what is forced, what is allowed, which drafts are possible.

mod helper;

use super::GenerateError;
use crate::{
    constraint::{Constraint, DeadEnd, TokenSet},
    model::LoadedModel,
};
use helper::Helper;

/// The form of an answer, and from where on it has it.
#[derive(Clone, Debug)]
pub struct Guidance {
    /// The form.
    pub constraint: Constraint,
    /// Text with which the form begins. Until it comes up, the answer is free; `None` from the beginning on.
    pub marker: Option<String>,
}

/// Where an answer stands in its form.
pub(super) struct Guide {
    state: State,
    helper: Option<Helper>,
}

enum State {
    /// The marker has not come up.
    Free(Box<Free>),
    /// The form decides.
    Bound(Box<Bound>),
    /// The form is with the helper.
    Away,
}

struct Free {
    constraint: Constraint,
    tail: Tail,
    guesses: Vec<u32>,
}

/// The last tokens of a free answer, as many as may hold a beginning of the marker, with their bytes.
#[derive(Clone)]
struct Tail {
    marker: Vec<u8>,
    tokens: Vec<(u32, Vec<u8>)>,
}

struct Bound {
    constraint: Constraint,
    /// Tokens that were taken for the case that the model chooses the first of each.
    guesses: Vec<Vec<u32>>,
}

/// What may come next at the end of what is decided, and behind each guess; `None` where the answer is free.
pub(super) type Allowed = Vec<Option<TokenSet>>;

impl Guide {
    pub(super) fn new(guidance: &Guidance) -> Self {
        let constraint = guidance.constraint.clone();
        let state = match &guidance.marker {
            None => State::Bound(Box::new(Bound { constraint, guesses: Vec::new() })),
            Some(marker) => {
                let marker = marker.clone().into_bytes();
                State::Free(Box::new(Free {
                    constraint,
                    tail: Tail { marker, tokens: Vec::new() },
                    guesses: Vec::new(),
                }))
            }
        };
        Self { state, helper: None }
    }

    /// The tokens that are forced before anything was chosen.
    pub(super) fn begin(&mut self) -> Vec<u32> {
        match &mut self.state {
            State::Bound(bound) => bound.constraint.accept_forced(),
            _ => Vec::new(),
        }
    }

    /// Goes on by a token that was chosen; returns the ones that are forced behind it.
    pub(super) fn accept(&mut self, model: &LoadedModel, token: u32) -> Result<Vec<u32>, DeadEnd> {
        match &mut self.state {
            State::Bound(bound) => {
                bound.constraint.accept(token)?;
                Ok(bound.constraint.accept_forced())
            }
            State::Free(free) => {
                if !free.tail.push(model, token) {
                    return Ok(Vec::new());
                }
                let mut constraint = free.constraint.clone();
                let begun = std::mem::take(&mut free.tail.tokens);
                // Where a token brings more than the form allows before or behind the marker, the model meant something else.
                if begun.iter().any(|(token, _)| constraint.accept(*token).is_err()) {
                    return Ok(Vec::new());
                }
                let forced = constraint.accept_forced();
                self.state = State::Bound(Box::new(Bound { constraint, guesses: Vec::new() }));
                Ok(forced)
            }
            State::Away => Err(DeadEnd::lost()),
        }
    }

    /// Supposes that `token` comes next: the tokens forced behind it, or `None` where it can't come or would be the last.
    pub(super) fn suppose(&mut self, model: &LoadedModel, token: u32) -> Result<Option<Vec<u32>>, DeadEnd> {
        match &mut self.state {
            State::Bound(bound) => bound.suppose(token),
            State::Free(free) => Ok(free.suppose(model, token).then(Vec::new)),
            State::Away => Err(DeadEnd::lost()),
        }
    }

    /// Takes back what was supposed last.
    pub(super) fn withdraw(&mut self) -> Result<(), DeadEnd> {
        match &mut self.state {
            State::Bound(bound) => {
                let guess = bound.guesses.pop().unwrap_or_default();
                bound.constraint.take_back(guess.len())
            }
            State::Free(free) => {
                free.guesses.pop();
                Ok(())
            }
            State::Away => Err(DeadEnd::lost()),
        }
    }

    /// Keeps the first `right` of what was supposed, and forgets the rest.
    pub(super) fn settle(&mut self, model: &LoadedModel, right: usize) -> Result<(), DeadEnd> {
        match &mut self.state {
            State::Bound(bound) => {
                let wrong = bound.guesses.drain(right..).map(|guess| guess.len()).sum();
                bound.guesses.clear();
                bound.constraint.take_back(wrong)
            }
            State::Free(free) => {
                let guesses = std::mem::take(&mut free.guesses);
                for token in &guesses[..right] {
                    free.tail.push(model, *token);
                }
                Ok(())
            }
            State::Away => Err(DeadEnd::lost()),
        }
    }

    /// Whether the answer has its whole form, and nothing may follow.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.state, State::Bound(bound) if bound.constraint.is_complete())
    }

    /// Computes what may come next beside `work`, on a CPU that the work leaves idle, or else before it.
    pub(super) fn beside<T>(
        &mut self,
        idle_cpu: bool,
        work: impl FnOnce() -> Result<T, GenerateError>,
    ) -> Result<(T, Allowed), GenerateError> {
        let mut bound = match std::mem::replace(&mut self.state, State::Away) {
            State::Bound(bound) => bound,
            free => {
                let points = if let State::Free(free) = &free { free.guesses.len() + 1 } else { 1 };
                self.state = free;
                return Ok((work()?, vec![None; points]));
            }
        };
        if !idle_cpu {
            let allowed = bound.allowed();
            self.state = State::Bound(bound);
            let allowed = allowed?;
            return Ok((work()?, allowed));
        }
        let helper = match &mut self.helper {
            Some(helper) => helper,
            none => none.insert(Helper::start()?),
        };
        helper.begin(bound);
        let result = work();
        // Waited for also where the work failed: the form has to be at hand again.
        let (bound, allowed) = helper.end().ok_or_else(DeadEnd::lost)?;
        self.state = State::Bound(bound);
        Ok((result?, allowed?))
    }
}

impl Bound {
    fn suppose(&mut self, token: u32) -> Result<Option<Vec<u32>>, DeadEnd> {
        if !self.constraint.accept_if_allowed(token)? {
            return Ok(None);
        }
        let forced = self.constraint.accept_forced();
        if self.constraint.is_complete() {
            self.constraint.take_back(1 + forced.len())?;
            return Ok(None);
        }
        self.guesses.push([&[token], &forced[..]].concat());
        Ok(Some(forced))
    }

    fn allowed(&mut self) -> Result<Allowed, DeadEnd> {
        // Nothing comes next; only the probabilities of the last tokens are still asked for.
        if self.constraint.is_complete() {
            return Ok(vec![None]);
        }
        self.constraint.take_back(self.guesses.iter().map(Vec::len).sum())?;
        let mut allowed = vec![Some(self.constraint.allowed()?)];
        for guess in &self.guesses {
            for token in guess {
                self.constraint.accept(*token)?;
            }
            allowed.push(Some(self.constraint.allowed()?));
        }
        Ok(allowed)
    }
}

impl Free {
    /// Supposes that `token` comes next, unless it would bring the marker: then a form begins that is not known yet.
    fn suppose(&mut self, model: &LoadedModel, token: u32) -> bool {
        let mut supposed = self.tail.clone();
        let mut tokens = self.guesses.iter().copied().chain([token]);
        let possible = tokens.all(|token| !supposed.push(model, token));
        if possible {
            self.guesses.push(token);
        }
        possible
    }
}

impl Tail {
    /// Takes in a token; says whether the marker is there. Then the tail begins with the token in which the marker does.
    fn push(&mut self, model: &LoadedModel, token: u32) -> bool {
        self.tokens.push((token, model.tokenizer.token_bytes(token).to_vec()));
        let text: Vec<u8> = self.tokens.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        let found = text.windows(self.marker.len()).position(|window| window == self.marker);
        let keep_from = found.unwrap_or_else(|| {
            let beginning = |from: &usize| self.marker.starts_with(&text[*from..]);
            (0..text.len()).find(beginning).unwrap_or(text.len())
        });
        let mut end = 0;
        self.tokens.retain(|(_, bytes)| {
            end += bytes.len();
            end > keep_from
        });
        found.is_some()
    }
}
