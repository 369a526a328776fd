//! Approvals: what waits, as it comes and goes, and answers that were signed elsewhere.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aios_api::tools::v1::{
    ApprovalClosed, SignedAnswer, WatchApprovalsResponse, watch_approvals_response::Event as WireEvent,
};
use aios_policy::Capability;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Service, convert};
use crate::{
    approvals::{ApprovalError, Approvals, Open, answer::Signed},
    pipeline::{Pipeline, now},
};

/// What an agent needs for seeing the questions of others without answering them: who carries them elsewhere.
const READ_APPROVALS: &str = "approvals:read:calls";
/// Events that wait for a slow reader; then its stream waits for it.
const AHEAD: usize = 16;
/// Refused answers that are recorded in a minute. A flood of forgeries must not fill the ledger.
const REFUSALS: u32 = 30;
/// The minute.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// The stream of `WatchApprovals`.
pub type Events = ReceiverStream<Result<WatchApprovalsResponse, Status>>;

/// How many refused answers were recorded lately.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    since: Option<Instant>,
    recorded: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more is recorded, and then how many were left out since the last one that was.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.since.is_none_or(|since| now.duration_since(since) >= REFUSALS_EVERY) {
            counted.since = Some(now);
            counted.recorded = 0;
        }
        if counted.recorded >= REFUSALS {
            counted.left_out += 1;
            return None;
        }
        counted.recorded += 1;
        Some(std::mem::take(&mut counted.left_out))
    }
}

impl Service {
    /// Whether the agent sees everybody's questions, or its own alone.
    pub fn sees_all_approvals(&self, agent: &str) -> bool {
        let need: Capability = READ_APPROVALS.parse().expect("invariant: a capability");
        let policy = self.pipeline.policy();
        policy.may_approve(agent) || self.pipeline.grants().hold(&policy, agent, &need, now())
    }

    /// What waits for an answer: `agent`'s own, or all.
    pub fn open_approvals(&self, agent: &str, all: bool) -> Vec<Open> {
        seen_by(self.pipeline.approvals(), agent, all)
    }

    /// Tells `agent` of its own questions, or of all, until it listens no more or the service ends.
    pub fn watch(&self, agent: String, all: bool) -> Events {
        let (events, stream) = mpsc::channel(AHEAD);
        let (pipeline, mut stopping) = (self.pipeline.clone(), self.stopping.clone());
        tokio::spawn(async move {
            let mut changes = pipeline.approvals().changes();
            let telling = async {
                let mut told = BTreeMap::new();
                loop {
                    let open = seen_by(pipeline.approvals(), &agent, all);
                    for event in news(&mut told, open) {
                        if events.send(Ok(event)).await.is_err() {
                            return;
                        }
                    }
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = telling => {}
                () = events.closed() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
        ReceiverStream::new(stream)
    }

    /// Takes an answer that `courier` brings. What was signed is recorded first, and counts then.
    pub async fn take_signed(&self, courier: String, signed: SignedAnswer) -> Result<(), Status> {
        let SignedAnswer { note, key } = signed;
        let refusals = self.refusals.clone();
        let done = self.work(move |pipeline| {
            let taken = take(pipeline, &Signed { note, key });
            if let Err(error) = &taken {
                tracing::warn!(courier, %error, "signed answer refused");
                if let Some(left_out) = refusals.take(Instant::now()) {
                    let body = json!({ "reason": error.to_string(), "not-recorded-before": left_out });
                    if let Err(reason) = pipeline.note("answer-refused", &courier, &body) {
                        tracing::error!(reason, "refused answer not recorded");
                    }
                }
            }
            taken
        });
        done.await?.map_err(|error| match error {
            Refused::Answer(error) => convert::approval_status(&error),
            Refused::Ledger(reason) => Status::unavailable(format!("the answer can't be recorded: {reason}")),
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Answer(#[from] ApprovalError),
    #[error("the answer can't be recorded: {0}")]
    Ledger(String),
}

fn take(pipeline: &Pipeline, signed: &Signed) -> Result<(), Refused> {
    let approvals = pipeline.approvals();
    let checked = approvals.check(&pipeline.policy(), signed, now())?;
    let answer = checked.answer();
    let body =
        json!({ "call": answer.call_id, "approve": answer.approve, "key": answer.approver, "note": signed.note });
    pipeline.note("answer", checked.by(), &body).map_err(Refused::Ledger)?;
    Ok(approvals.answer_checked(&checked)?)
}

fn seen_by(approvals: &Approvals, agent: &str, all: bool) -> Vec<Open> {
    approvals.list().into_iter().filter(|open| all || open.question.agent == agent).collect()
}

/// What has changed since `told`: calls by id, with the question's text, for an id may be asked about again.
fn news(told: &mut BTreeMap<String, String>, open: Vec<Open>) -> Vec<WatchApprovalsResponse> {
    let still = |id: &str, text: &str| open.iter().any(|open| open.question.call_id == id && open.text == text);
    let gone: Vec<String> = told.iter().filter(|(id, text)| !still(id, text)).map(|(id, _)| id.clone()).collect();
    let mut events = Vec::new();
    for call_id in gone {
        told.remove(&call_id);
        events.push(WireEvent::Closed(ApprovalClosed { call_id }));
    }
    for open in open {
        if told.insert(open.question.call_id.clone(), open.text.clone()).is_none() {
            events.push(WireEvent::Opened(convert::approval(open)));
        }
    }
    events.into_iter().map(|event| WatchApprovalsResponse { event: Some(event) }).collect()
}

/// Tells watchers that the service ends.
pub type Stopping = watch::Receiver<bool>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_forgeries_does_not_fill_the_ledger() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let recorded = (0..1000).filter(|_| refusals.take(start).is_some()).count();
        assert_eq!(recorded, REFUSALS as usize);
        assert_eq!(refusals.take(start + REFUSALS_EVERY), Some(1000 - u64::from(REFUSALS)));
        assert_eq!(refusals.take(start + REFUSALS_EVERY), Some(0));
    }
}
