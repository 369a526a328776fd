//! Calls that wait for a human.
//!
//! What is approved is what runs: an answer names the digest of what was shown, and the call that waits compares it with
//! its own. An answer from elsewhere is a signed [`answer`], which names the text of the whole question too.

pub mod answer;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aios_policy::{Policy, Reason, Risk, Timestamp, policy::Peer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::answer::{Answer, AnswerError, Signed, question_hash};

/// Calls that may wait at once; one more is refused.
pub const WAITING_MAX: usize = 64;

/// What a human is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Id of the call.
    pub call_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Its version.
    pub version: u32,
    /// Its risk.
    pub risk: Risk,
    /// Agent that calls.
    pub agent: String,
    /// Exactly what will run, secrets redacted.
    pub arguments: Value,
    /// Why somebody is asked.
    pub reasons: Vec<Reason>,
    /// Over tool, version and the arguments as they will run.
    pub digest: String,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, by this agent.
    Approved(String),
    /// No, by this agent.
    Denied(String),
    /// Nobody answered in time.
    TimedOut,
}

/// Why an answer is not taken, or a question not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// No such call waits.
    #[error("no call {0} waits for approval: it was answered, its time is over, or it never was there")]
    Unknown(String),
    /// The answer is about something else.
    #[error("call {0} is not the one that was shown to you: look at it again, then answer")]
    Digest(String),
    /// Too many wait.
    #[error("{WAITING_MAX} calls wait for approval already: answer some of them first (aios tool approvals)")]
    Full,
    /// The id is taken.
    #[error("a call {0} waits for approval already")]
    Taken(String),
    /// The answer is no signed answer.
    #[error(transparent)]
    Signed(#[from] AnswerError),
    /// The key is nobody's who may answer.
    #[error(
        "the key {name:?} ({fingerprint}) is not one of an approver: the policy names keys in `agents.NAME.keys`, and who \
         may answer in `approvals.approvers`"
    )]
    Key {
        /// What the key calls itself.
        name: String,
        /// Which key it is.
        fingerprint: String,
    },
    /// The answer is for another device.
    #[error("the answer is for the device {0:?}")]
    Device(String),
    /// The answer's time is over.
    #[error("the answer counted until {0} by this device's clock")]
    Expired(Timestamp),
    /// Nobody approves their own calls from elsewhere.
    #[error("the call is one of {0:?} itself: somebody else has to answer")]
    Own(String),
}

/// The calls that wait.
#[derive(Debug)]
pub struct Approvals {
    device: String,
    waiting: Mutex<BTreeMap<String, Waiting>>,
    answered: Condvar,
    /// Counts the changes of what is open.
    changes: watch::Sender<u64>,
}

/// A question that nobody answered yet.
#[derive(Clone, Debug)]
pub struct Open {
    /// What is asked.
    pub question: Question,
    /// All of it as one text, for who answers elsewhere (docs/formats/approval.md).
    pub text: String,
    /// Time that is left.
    pub left: Duration,
}

/// A signed answer by somebody who may give it, and to a question that is open; or was when this was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    answer: Answer,
    by: String,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    text: String,
    until: Instant,
    verdict: Option<Verdict>,
}

impl Checked {
    /// What it says.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The agent that gives it.
    pub fn by(&self) -> &str {
        &self.by
    }
}

impl Question {
    /// All of it as one text. `nonce` makes it this question's alone.
    fn text(&self, device: &str, nonce: &str, asked: Timestamp, until: Timestamp) -> String {
        let tainted = self.reasons.iter().filter_map(|reason| match reason {
            Reason::Tainted(sink) => {
                let origins: Vec<String> = sink.origins.iter().map(ToString::to_string).collect();
                Some(json!({ "argument": sink.pointer, "origins": origins }))
            }
            Reason::Risk(_) | Reason::Tool => None,
        });
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        json!({
            "format": 1,
            "device": device,
            "call": self.call_id,
            "nonce": nonce,
            "tool": self.tool,
            "tool-version": self.version,
            "risk": self.risk,
            "agent": self.agent,
            "arguments": self.arguments,
            "reasons": reasons,
            "tainted": tainted.collect::<Vec<_>>(),
            "digest": self.digest,
            "asked": asked,
            "until": until,
        })
        .to_string()
    }
}

/// The digest of a call: SHA-256 over the tool's name, its version and the arguments in canonical form.
pub fn digest(tool: &str, version: u32, arguments: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(b"aios tool call 1\n");
    hash.update(format!("{tool}\n{version}\n"));
    hash.update(canonical(arguments));
    aios_keys::hex::encode(&hash.finalize())
}

/// JSON with the members of objects in the order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members =
                names.into_iter().map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&members[name])));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

impl Approvals {
    /// Nobody waits yet. `device` is what the fleet calls this device.
    pub fn new(device: &str) -> Approvals {
        Approvals {
            device: device.to_owned(),
            waiting: Mutex::default(),
            answered: Condvar::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells of each change of what is open.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Asks, and waits for an answer for at most `limit`.
    pub fn ask(&self, question: Question, limit: Duration) -> Result<Verdict, ApprovalError> {
        let until = Instant::now() + limit;
        let asked = crate::pipeline::now();
        let text = question.text(&self.device, &crate::pipeline::new_id(), asked, asked.after(limit));
        let id = question.call_id.clone();
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            return Err(ApprovalError::Full);
        }
        if waiting.contains_key(&id) {
            return Err(ApprovalError::Taken(id));
        }
        waiting.insert(id.clone(), Waiting { question, text, until, verdict: None });
        self.changed();
        loop {
            let own = waiting.get(&id).expect("invariant: only this function removes its question");
            let left = until.saturating_duration_since(Instant::now());
            if own.verdict.is_some() || left.is_zero() {
                let own = waiting.remove(&id).expect("invariant: it was there a line ago, under the same lock");
                self.changed();
                return Ok(own.verdict.unwrap_or(Verdict::TimedOut));
            }
            waiting = self.answered.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers a question whose digest is `digest`, as the agent `by`.
    pub fn answer(&self, call_id: &str, digest: &str, approve: bool, by: &str) -> Result<(), ApprovalError> {
        let mut waiting = self.lock();
        let call = open_one(&mut waiting, call_id)?;
        if call.question.digest != digest {
            return Err(ApprovalError::Digest(call_id.to_owned()));
        }
        self.settle(call, approve, by);
        Ok(())
    }

    /// Whether a signed answer is one by an approver to a question that is open.
    pub fn check(&self, policy: &Policy, signed: &Signed, now: Timestamp) -> Result<Checked, ApprovalError> {
        let (key, fingerprint) = signed.key()?;
        let agent = policy.identify(Peer::Key(&fingerprint)).map(|(name, _)| name.to_owned());
        let Some(by) = agent.filter(|agent| policy.may_approve(agent)) else {
            return Err(ApprovalError::Key { name: key.name().to_owned(), fingerprint: fingerprint.to_string() });
        };
        let answer = signed.open(&key)?;
        if answer.device != self.device {
            return Err(ApprovalError::Device(answer.device));
        }
        if answer.until < now {
            return Err(ApprovalError::Expired(answer.until));
        }
        answers(open_one(&mut self.lock(), &answer.call_id)?, &answer, &by)?;
        Ok(Checked { answer, by })
    }

    /// Answers the question that was checked, if it is still open.
    pub fn answer_checked(&self, checked: &Checked) -> Result<(), ApprovalError> {
        let mut waiting = self.lock();
        let call = open_one(&mut waiting, &checked.answer.call_id)?;
        answers(call, &checked.answer, &checked.by)?;
        self.settle(call, checked.answer.approve, &checked.by);
        Ok(())
    }

    /// What waits, with the time that is left.
    pub fn list(&self) -> Vec<Open> {
        let now = Instant::now();
        let open = |call: &&Waiting| call.verdict.is_none() && call.until > now;
        let shown = |call: &Waiting| Open {
            question: call.question.clone(),
            text: call.text.clone(),
            left: call.until.saturating_duration_since(now),
        };
        self.lock().values().filter(open).map(shown).collect()
    }

    fn settle(&self, call: &mut Waiting, approve: bool, by: &str) {
        call.verdict = Some(if approve { Verdict::Approved(by.to_owned()) } else { Verdict::Denied(by.to_owned()) });
        self.answered.notify_all();
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open question of a call.
fn open_one<'w>(waiting: &'w mut BTreeMap<String, Waiting>, call_id: &str) -> Result<&'w mut Waiting, ApprovalError> {
    let open = |call: &&mut Waiting| call.verdict.is_none() && call.until > Instant::now();
    waiting.get_mut(call_id).filter(open).ok_or_else(|| ApprovalError::Unknown(call_id.to_owned()))
}

/// Whether the answer is to this very question, and by somebody else than who asks.
fn answers(call: &Waiting, answer: &Answer, by: &str) -> Result<(), ApprovalError> {
    if answer.digest != call.question.digest || answer.question != question_hash(&call.text) {
        return Err(ApprovalError::Digest(answer.call_id.clone()));
    }
    if call.question.agent == by {
        return Err(ApprovalError::Own(by.to_owned()));
    }
    Ok(())
}
