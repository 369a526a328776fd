//! What the ledger is told, and the proof that it was.

use std::sync::Arc;

use aios_policy::{Capability, Reason, Taint};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Refusal, Stage};

/// Texts longer than this are recorded by their hash.
const TEXT_MAX: usize = 4096;

/// Something that records, durably, before it returns.
pub trait Recorder: Send + Sync {
    /// Records an entry; its number is proof that it is there.
    fn record(&self, kind: &'static str, agent: &str, body: &Value) -> Result<u64, String>;

    /// Replaces secrets in `value`, which `pointers` name.
    fn redact(&self, value: &mut Value, pointers: &[&str]);
}

/// The proof that a decision to run a call is in the ledger. Nothing is confined, and so nothing runs, without one; and
/// only `Records::decide` makes one.
#[derive(Debug)]
pub struct Recorded {
    seq: u64,
}

impl Recorded {
    /// Number of the entry.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// What is recorded of a call that will run.
#[derive(Debug, Serialize)]
pub(super) struct Decision<'a> {
    pub call: &'a str,
    pub tool: &'a str,
    pub version: u32,
    /// Without secrets; long texts by their hash.
    pub arguments: Value,
    pub digest: &'a str,
    pub session: &'a str,
    pub needs: &'a [Capability],
    /// What it looks through.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub through: &'a [Capability],
    pub taint: &'a Taint,
    /// Why a human was asked.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub reasons: &'a [Reason],
    /// The agent that said yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<&'a str>,
    /// The call that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes: Option<&'a str>,
}

/// The ledger, as the pipeline writes it.
#[derive(Clone)]
pub(super) struct Records(pub Arc<dyn Recorder>);

impl Records {
    /// Records that a call will run.
    pub fn decide(&self, agent: &str, decision: &Decision<'_>) -> Result<Recorded, String> {
        let body = serde_json::to_value(decision).expect("invariant: a decision's keys are texts, so it is JSON");
        self.0.record("decision", agent, &body).map(|seq| Recorded { seq })
    }

    /// Records anything else about a call.
    pub fn note(&self, kind: &'static str, agent: &str, body: &Value) -> Result<u64, String> {
        self.0.record(kind, agent, body)
    }

    /// Arguments as the ledger holds them: `secrets` are the tool's pointers below `/arguments`.
    pub fn arguments(&self, arguments: &Value, secrets: &[&str]) -> Value {
        let pointers: Vec<&str> = secrets.iter().filter_map(|pointer| pointer.strip_prefix("/arguments")).collect();
        let mut arguments = arguments.clone();
        self.0.redact(&mut arguments, &pointers);
        arguments
    }
}

/// `value` with each long text replaced by its length and its hash.
pub(super) fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > TEXT_MAX => {
            json!({ "bytes": text.len(), "sha256": sha256(text.as_bytes()) })
        }
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, shortened(member))).collect(),
        other => other,
    }
}

/// What the ledger holds of a result: that there was this one, not what it says.
pub(super) fn trace(result: &Value) -> Value {
    let text = result.to_string();
    json!({ "bytes": text.len(), "sha256": sha256(text.as_bytes()) })
}

/// What the ledger holds of a refusal. What is wrong with arguments is told by quoting them, and their secrets have no
/// place yet where they could be taken out; what undoes a call is told by names of files: of both, the hash.
pub(super) fn recorded_refusal(refusal: &Refusal) -> Value {
    let mut recorded = serde_json::to_value(refusal).expect("invariant: a refusal's keys are texts, so it is JSON");
    if matches!(refusal.stage, Stage::Schema | Stage::Inverse) {
        recorded["message"] = trace(&Value::from(refusal.message.as_str()));
    }
    recorded
}

fn sha256(bytes: &[u8]) -> String {
    aios_keys::hex::encode(&Sha256::digest(bytes))
}
