//! Continuous batching: what several sessions want at the same time goes through the layers together.
//!
//! There is no thread for it. Of the sessions that wait, one leads: it takes what all of them want, as much as fits into a
//! batch, runs it, and hands out the results; then another one does. A session that was part of a batch will most likely
//! want its next token soon; so the leader gives those that are not back yet a moment to join the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Weights;
use super::pass::{BATCH, Context, Pass};
use crate::engine::EngineError;

/// Tokens of an answer rather than of a prompt: one, or what a grammar or a draft foresees.
const FEW: usize = 16;
/// Tokens of prompts that go beside tokens of answers: so many hold up the answers for about as long as reading the
/// weights once takes.
const BESIDE: usize = 32;
/// The longest that a batch waits for those who were in the last one, also as a part of the time that that one took.
const GRACE: Duration = Duration::from_millis(2);
const GRACE_PART: u32 = 4;

/// Sessions of one model and what they wait for.
#[derive(Default)]
pub(super) struct Batcher {
    state: Mutex<State>,
    /// A batch has ended.
    ended: Condvar,
    /// All who were in the last batch are back.
    complete: Condvar,
}

#[derive(Default)]
struct State {
    /// First come first.
    waiting: Vec<Context>,
    finished: Vec<(Context, Result<(), EngineError>)>,
    next_call: u64,
    /// Whether somebody leads.
    led: bool,
    /// Memory of whoever leads, while nobody does.
    pass: Option<Box<Pass>>,
    /// Memory for the list of a batch, while nobody leads.
    running: Vec<Context>,
    /// Number of the last batch.
    batch: u64,
    /// Those who have what they wanted of it, and have not come back.
    absent: usize,
    /// When they are waited for no longer.
    grace: Option<Instant>,
}

impl Batcher {
    /// Runs all tokens of `context` through the layers, together with what others want meanwhile.
    pub(super) fn run(&self, weights: &Weights, mut context: Context) -> (Context, Result<(), EngineError>) {
        let mut state = self.state();
        let call = state.next_call;
        state.next_call += 1;
        if context.batch == state.batch && state.absent > 0 {
            state.absent -= 1;
            if state.absent == 0 {
                self.complete.notify_one();
            }
        }
        context.call = call;
        state.waiting.push(context);
        loop {
            if let Some(index) = state.finished.iter().position(|(context, _)| context.call == call) {
                return state.finished.swap_remove(index);
            }
            if state.led {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                self.lead(weights, state);
                state = self.state();
            }
        }
    }

    fn lead(&self, weights: &Weights, mut state: MutexGuard<'_, State>) {
        state.led = true;
        let mut state = self.gather(state);
        let mut contexts = std::mem::take(&mut state.running);
        state.choose(&mut contexts);
        let pass = state.pass.take();
        drop(state);
        let mut pass = pass.unwrap_or_else(|| Box::new(Pass::new(weights)));
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| pass.run(weights, &mut contexts)));
        let result =
            result.unwrap_or_else(|_| Err(EngineError::Compute("a defect; the log has the reason".to_owned())));
        let ended = Instant::now();

        let mut state = self.state();
        state.grace = Some(ended + GRACE.min((ended - started) / GRACE_PART));
        state.conclude(&mut contexts, &result);
        (state.running, state.pass, state.led) = (contexts, Some(pass), false);
        drop(state);
        self.ended.notify_all();
    }

    /// Waits until all who were in the last batch are back, or for as long as that is worth while.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.absent > 0 {
            let left = state.grace.and_then(|grace| grace.checked_duration_since(Instant::now()));
            let Some(left) = left else { break };
            (state, _) = self.complete.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.absent = 0;
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes those who wait into a batch, as far as it goes: first who wants few tokens, then who wants many, of which
    /// some go; both in the order of their coming.
    fn choose(&mut self, batch: &mut Vec<Context>) {
        let cancelled = self.waiting.extract_if(.., |context| context.cancel.is_cancelled());
        self.finished.extend(cancelled.map(|context| (context, Err(EngineError::Cancelled))));
        let mut room = BATCH;
        for few in [true, false] {
            if !few && !batch.is_empty() {
                room = room.min(BESIDE);
            }
            batch.extend(self.waiting.extract_if(.., |context| {
                let left = context.left();
                context.step = left.min(room);
                let fits = if few { left <= FEW && left <= room } else { left > FEW && room > 0 };
                if fits {
                    room -= context.step;
                }
                fits
            }));
        }
    }

    /// Gives back the contexts of a batch that has ended, those that are not through to the waiting.
    fn conclude(&mut self, batch: &mut Vec<Context>, result: &Result<(), EngineError>) {
        self.batch += 1;
        for mut context in batch.drain(..) {
            context.batch = self.batch;
            let outcome = match result {
                _ if context.cancel.is_cancelled() => Err(EngineError::Cancelled),
                Err(error) => Err(EngineError::Compute(error.to_string())),
                Ok(()) => Ok(()),
            };
            context.done += context.step;
            if outcome.is_ok() && context.left() > 0 {
                self.waiting.push(context);
            } else {
                self.absent += 1;
                self.finished.push((context, outcome));
            }
        }
        self.waiting.sort_by_key(|context| context.call);
    }
}
