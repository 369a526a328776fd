//! The ledger, as the pipeline uses it.

use aios_ledger::{Entry, Filter, Ledger, Order, ReadError, Redactor};
use aios_policy::Origin;
use serde_json::Value;

use crate::{pipeline::Recorder, sessions::Sessions};

/// Entries that are looked through at start for what sessions have read.
const LOOKED_THROUGH: u64 = 100_000;

/// A ledger that takes secrets out.
pub struct LedgerRecorder {
    ledger: Ledger,
    redactor: Redactor,
}

impl LedgerRecorder {
    /// Writes to `ledger`.
    pub fn new(ledger: Ledger, redactor: Redactor) -> LedgerRecorder {
        LedgerRecorder { ledger, redactor }
    }

    /// The ledger, to read from.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Tells `sessions` what was read in them before this process: a restart is no way to be trusted again.
    pub fn remember(&self, sessions: &Sessions) -> Result<(), ReadError> {
        let snapshot = self.ledger.snapshot()?;
        let from = snapshot.first().max(snapshot.size().saturating_sub(LOOKED_THROUGH));
        for found in snapshot.select(from..snapshot.size(), Order::OldestFirst, Filter::default())? {
            let record = found?;
            if !matches!(record.kind.as_str(), "result" | "refusal") {
                continue;
            }
            let session = record.body["session"].as_str().unwrap_or_default();
            let read = record.body["read"].as_str().and_then(|origin| origin.parse::<Origin>().ok());
            if let (false, Some(origin)) = (session.is_empty(), read) {
                sessions.note(&record.agent, session, origin);
            }
        }
        Ok(())
    }
}

impl Recorder for LedgerRecorder {
    fn record(&self, kind: &'static str, agent: &str, body: &Value) -> Result<u64, String> {
        let entry = Entry::new(kind, agent, body).map_err(|error| error.to_string())?;
        self.ledger.append(entry).map(|receipt| receipt.seq).map_err(|error| error.to_string())
    }

    fn redact(&self, value: &mut Value, pointers: &[&str]) {
        self.redactor.redact(value, pointers);
    }
}
