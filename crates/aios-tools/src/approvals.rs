//! Calls that wait for a human.
//!
//! What is approved is what runs: an answer names the digest of what was shown, and the call that waits compares it with
//! its own.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aios_policy::{Reason, Risk};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

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
}

/// The calls that wait.
#[derive(Debug, Default)]
pub struct Approvals {
    waiting: Mutex<BTreeMap<String, Waiting>>,
    answered: Condvar,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    until: Instant,
    verdict: Option<Verdict>,
}

/// The digest of a call: SHA-256 over the tool's name, its version and the arguments in canonical form.
pub fn digest(tool: &str, version: u32, arguments: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(b"aios tool call 1\n");
    hash.update(format!("{tool}\n{version}\n"));
    hash.update(canonical(arguments));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
    /// Asks, and waits for an answer for at most `limit`.
    pub fn ask(&self, question: Question, limit: Duration) -> Result<Verdict, ApprovalError> {
        let until = Instant::now() + limit;
        let id = question.call_id.clone();
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            return Err(ApprovalError::Full);
        }
        if waiting.contains_key(&id) {
            return Err(ApprovalError::Taken(id));
        }
        waiting.insert(id.clone(), Waiting { question, until, verdict: None });
        loop {
            let own = waiting.get(&id).expect("invariant: only this function removes its question");
            let left = until.saturating_duration_since(Instant::now());
            if own.verdict.is_some() || left.is_zero() {
                let own = waiting.remove(&id).expect("invariant: it was there a line ago, under the same lock");
                return Ok(own.verdict.unwrap_or(Verdict::TimedOut));
            }
            waiting = self.answered.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers a question whose digest is `digest`, as the agent `by`.
    pub fn answer(&self, call_id: &str, digest: &str, approve: bool, by: &str) -> Result<(), ApprovalError> {
        let mut waiting = self.lock();
        let unknown = || ApprovalError::Unknown(call_id.to_owned());
        let call = waiting.get_mut(call_id).filter(|call| call.verdict.is_none()).ok_or_else(unknown)?;
        if call.until <= Instant::now() {
            return Err(unknown());
        }
        if call.question.digest != digest {
            return Err(ApprovalError::Digest(call_id.to_owned()));
        }
        call.verdict = Some(if approve { Verdict::Approved(by.to_owned()) } else { Verdict::Denied(by.to_owned()) });
        self.answered.notify_all();
        Ok(())
    }

    /// What waits, with the time that is left.
    pub fn list(&self) -> Vec<(Question, Duration)> {
        let now = Instant::now();
        let open = |call: &&Waiting| call.verdict.is_none() && call.until > now;
        let left = |call: &Waiting| (call.question.clone(), call.until.saturating_duration_since(now));
        self.lock().values().filter(open).map(left).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use serde_json::json;

    use super::*;

    fn question(id: &str, arguments: &Value) -> Question {
        Question {
            call_id: id.into(),
            tool: "self.reboot".into(),
            version: 1,
            risk: Risk::Critical,
            agent: "maintenance".into(),
            arguments: arguments.clone(),
            reasons: vec![Reason::Risk(Risk::Critical)],
            digest: digest("self.reboot", 1, arguments),
        }
    }

    fn asked(approvals: &Arc<Approvals>, id: &'static str) -> thread::JoinHandle<Result<Verdict, ApprovalError>> {
        let (of_thread, before) = (approvals.clone(), approvals.list().len());
        let asking = thread::spawn(move || of_thread.ask(question(id, &json!({})), Duration::from_secs(60)));
        while approvals.list().len() == before {
            thread::yield_now();
        }
        asking
    }

    #[test]
    fn an_answer_reaches_the_call_that_it_names_and_counts_once() {
        let approvals = Arc::new(Approvals::default());
        let (a, b) = (asked(&approvals, "a"), asked(&approvals, "b"));
        let digest = digest("self.reboot", 1, &json!({}));
        approvals.answer("b", &digest, false, "operator").expect("b waits");
        assert_eq!(b.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
        approvals.answer("a", &digest, true, "operator").expect("a waits");
        assert_eq!(a.join().expect("thread"), Ok(Verdict::Approved("operator".into())));
        assert_eq!(approvals.answer("a", &digest, true, "operator"), Err(ApprovalError::Unknown("a".into())));
        assert!(approvals.list().is_empty());
    }

    #[test]
    fn an_answer_to_something_else_is_not_taken() {
        let approvals = Arc::new(Approvals::default());
        let asking = asked(&approvals, "a");
        let other = digest("self.reboot", 1, &json!({"delay_s": 1}));
        assert_eq!(approvals.answer("a", &other, true, "operator"), Err(ApprovalError::Digest("a".into())));
        approvals.answer("a", &digest("self.reboot", 1, &json!({})), false, "operator").expect("a still waits");
        assert_eq!(asking.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
    }

    #[test]
    fn no_answer_is_a_no() {
        let approvals = Approvals::default();
        let verdict = approvals.ask(question("a", &json!({})), Duration::from_millis(1));
        assert_eq!(verdict, Ok(Verdict::TimedOut));
        assert!(approvals.list().is_empty());
    }

    #[test]
    fn a_flood_of_questions_is_refused() {
        let approvals = Arc::new(Approvals::default());
        let ids: Vec<String> = (0..WAITING_MAX).map(|n| format!("c{n}")).collect();
        let asking: Vec<_> = ids.into_iter().map(|id| asked(&approvals, id.leak())).collect();
        assert_eq!(approvals.ask(question("more", &json!({})), Duration::from_secs(1)), Err(ApprovalError::Full));
        for (question, _) in approvals.list() {
            approvals.answer(&question.call_id, &question.digest, false, "operator").expect("waits");
        }
        asking.into_iter().for_each(|call| assert!(call.join().expect("thread").is_ok()));
    }

    #[test]
    fn the_digest_is_of_the_meaning_and_not_of_the_spelling() {
        let text = r#"{"b": [1, {"y": "\u00e4", "x": null}], "a": "x"}"#;
        let same = r#"{"a":"x","b":[1,{"x":null,"y":"ä"}]}"#;
        let of = |text: &str| digest("t.t", 1, &serde_json::from_str(text).expect("JSON"));
        assert_eq!(of(text), of(same));
        let others =
            [r#"{"a":"x","b":[1,{"x":null,"y":"a"}]}"#, r#"{"a":"x","b":[{"x":null,"y":"ä"},1]}"#, r#"{"a":"x"}"#];
        others.iter().for_each(|other| assert_ne!(of(text), of(other)));
        assert_ne!(digest("t.t", 1, &json!({})), digest("t.t", 2, &json!({})));
    }
}
