//! One slot: takes the next request, runs it in its session, survives whatever the engine does.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc::{Sender, error::TrySendError},
    time::timeout,
};

use super::{Completed, Event, FailedRun, Job, Shared};
use crate::{
    engine::Session,
    generate::{GenerateError, GenerateRequest, Generated, Piece, generate},
    registry::{Resident, millis},
};

/// A session outlives its request, so that the next one on the same model finds its memory ready.
struct Held {
    session: Box<dyn Session>,
    /// Dropped after the session: its end says that all of the model's memory is free.
    model: Arc<Resident>,
}

/// Runs requests until the scheduler closes.
pub(super) fn work(shared: &Shared, slot: usize) {
    let mut held: Option<Held> = None;
    while let Some(job) = next_job(shared, slot, &mut held) {
        run(shared, job, &mut held);
        // A request that waited while its model was unloaded comes after the release, and none may come after it.
        held = held.filter(|held| !held.model.is_unloaded());
        shared.state().running[slot] = None;
    }
}

/// Waits for a request. Drops the session where that is asked for.
fn next_job(shared: &Shared, slot: usize, held: &mut Option<Held>) -> Option<Job> {
    let mut state = shared.state();
    loop {
        if state.closed {
            return None;
        }
        if std::mem::take(&mut state.release[slot]) {
            drop(state);
            *held = None;
            state = shared.state();
        } else if let Some(job) = state.queue.pop_front() {
            state.running[slot] = Some(job.request.cancel.clone());
            return Some(job);
        } else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run(shared: &Shared, job: Job, held: &mut Option<Held>) {
    let Job { name, model, request, events, last, queued, permit, .. } = job;
    let queue_time = queued.elapsed();
    let mut receiver = Receiver { shared, events, given_up: false };
    let result = catch_unwind(AssertUnwindSafe(|| answer(&model, &request, held, &mut receiver)));
    if result.is_err() {
        *held = None;
    }
    let outcome = result.unwrap_or(Outcome::Failed(FailedRun::Panicked));
    log(&name, &model.id, queue_time, &outcome);
    // The place is free before the receiver hears of the end: its next request must not find the queue full of itself.
    drop(permit);
    last.send(match outcome {
        Outcome::Done(generated) => Event::Done(Completed { generated, queue_time }),
        Outcome::Failed(reason) => Event::Failed(reason),
        Outcome::Cancelled => Event::Failed(FailedRun::Cancelled),
    });
}

enum Outcome {
    Done(Generated),
    Failed(FailedRun),
    Cancelled,
}

fn answer(
    model: &Arc<Resident>,
    request: &GenerateRequest,
    held: &mut Option<Held>,
    receiver: &mut Receiver<'_>,
) -> Outcome {
    if request.cancel.is_cancelled() {
        return Outcome::Cancelled;
    }
    // The memory of another model's context is given back before this one's is taken.
    if held.as_ref().is_some_and(|held| !Arc::ptr_eq(&held.model, model)) {
        *held = None;
    }
    let Held { session, .. } = match held {
        Some(held) => held,
        None => match model.engine.session() {
            Ok(session) => held.insert(Held { model: model.clone(), session }),
            Err(error) => return Outcome::Failed(FailedRun::Engine(error.to_string())),
        },
    };
    let mut on_piece = |piece: Piece| receiver.send(Event::Piece(piece));
    match generate(model, session.as_mut(), request, &mut on_piece) {
        Ok(generated) => Outcome::Done(generated),
        Err(GenerateError::Cancelled) if receiver.given_up => {
            Outcome::Failed(FailedRun::SlowReceiver(receiver.shared.receiver_timeout))
        }
        Err(GenerateError::Cancelled) => Outcome::Cancelled,
        Err(GenerateError::Form(error)) => Outcome::Failed(FailedRun::Form(error.to_string())),
        Err(error) => {
            *held = None;
            Outcome::Failed(FailedRun::Engine(error.to_string()))
        }
    }
}

/// The other end of a request, which may be slow or gone.
struct Receiver<'a> {
    shared: &'a Shared,
    events: Sender<Event>,
    /// Whether it was waited for in vain.
    given_up: bool,
}

impl Receiver<'_> {
    fn send(&mut self, event: Event) -> ControlFlow<()> {
        let event = match self.events.try_send(event) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(TrySendError::Closed(_)) => return ControlFlow::Break(()),
            Err(TrySendError::Full(event)) => event,
        };
        let sent =
            self.shared.handle.block_on(async { timeout(self.shared.receiver_timeout, self.events.send(event)).await });
        match sent {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(_)) => ControlFlow::Break(()),
            Err(_) => {
                self.given_up = true;
                ControlFlow::Break(())
            }
        }
    }
}

fn log(request_id: &str, model: &str, queue_time: Duration, outcome: &Outcome) {
    let queue_ms = millis(queue_time);
    match outcome {
        Outcome::Done(generated) => tracing::info!(
            request_id,
            model,
            prompt_tokens = generated.prompt_tokens,
            cached_tokens = generated.cached_tokens,
            completion_tokens = generated.completion_tokens,
            queue_ms,
            prompt_ms = millis(generated.prompt_time),
            predicted_ms = millis(generated.predict_time),
            "request finished"
        ),
        Outcome::Cancelled => tracing::info!(request_id, model, queue_ms, "request cancelled"),
        Outcome::Failed(reason @ (FailedRun::SlowReceiver(_) | FailedRun::Form(_))) => {
            tracing::warn!(request_id, model, %reason, "request given up");
        }
        Outcome::Failed(reason) => tracing::error!(request_id, model, %reason, "request failed"),
    }
}
