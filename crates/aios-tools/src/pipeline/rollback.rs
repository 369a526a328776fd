//! Bringing back what was before a call.

use std::time::Duration;

use aios_policy::{Decision, Origin, Request, Risk, Taint, decide};
use serde_json::{Value, json};

use super::{
    Answered, Call, Caller, ConfineError, JournalView, Outcome, Pipeline, Recorded, Refusal, Stage, Turn, Work, new_id,
    now, record, unrecorded, uptime,
};
use crate::{
    access::{Access, Privilege},
    approvals, catalogue,
    error::{Code, ToolError},
    job::{self, Answer, Job},
    journal::{JournalError, Record, State},
    tool::Inverse,
};

/// Time for bringing back what was kept.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// Paths, or the call that did it.
    pub restored: Vec<String>,
    /// Number of the decision in the ledger.
    pub seq: u64,
}

/// Why nothing, or not all, was brought back.
#[derive(Clone, Debug, PartialEq)]
pub enum RollbackError {
    /// There is nothing to undo.
    Unknown(String),
    /// It did not run.
    Refused(Refusal),
    /// It ran, and failed. It can be tried again.
    Failed(ToolError),
}

impl Pipeline {
    /// Undoes a call. The caller needs the capabilities that the call needed, and is the one who made it or may approve
    /// calls. Unless `force` is set, what was changed after the call is not overwritten.
    pub fn rollback(&self, caller: &Caller, call_id: &str, force: bool) -> Result<RolledBack, RollbackError> {
        let record = self.journal.read(call_id).map_err(|error| match error {
            JournalError::Unknown(_) | JournalError::Id(_) => RollbackError::Unknown(error.to_string()),
            other => RollbackError::Failed(ToolError::new(Code::Failed, other.to_string())),
        })?;
        self.whose(caller, &record).map_err(RollbackError::Refused)?;
        if record.state == State::RolledBack {
            let text = format!("call {call_id} was rolled back already");
            return Err(RollbackError::Failed(ToolError::new(Code::FailedPrecondition, text)));
        }
        match record.inverse.clone() {
            Inverse::Nothing => Err(RollbackError::Unknown(format!("call {call_id} changed nothing"))),
            Inverse::Call { tool, arguments } => self.call_back(caller, &record, &tool, &arguments),
            Inverse::Paths { .. } => {
                let agent = self.may_roll_back(caller, &record).map_err(RollbackError::Refused)?;
                let _turn = self.turn_of(&record);
                let recorded = self.record_rollback(&agent, &record).map_err(RollbackError::Refused)?;
                self.restore(&agent, &recorded, &record, force)
            }
        }
    }

    /// Completes rollbacks that a power cut or a kill interrupted. Called once, before the first call.
    pub fn complete_rollbacks(&self) {
        let records = self.journal.list(usize::MAX).unwrap_or_default();
        for record in records.iter().filter(|record| record.state == State::RollingBack) {
            let _turn = self.turn_of(record);
            let completed = self
                .record_rollback(&record.agent, record)
                .map_err(RollbackError::Refused)
                .and_then(|recorded| self.restore(&record.agent, &recorded, record, true));
            match completed {
                Ok(_) => tracing::info!(call_id = record.call_id, "interrupted rollback completed"),
                Err(error) => tracing::error!(?error, call_id = record.call_id, "interrupted rollback not completed"),
            }
        }
    }

    /// The turn of what the call of `record` changed. Where the inverse is a call, that takes its own.
    fn turn_of(&self, record: &Record) -> Option<Turn<'_>> {
        catalogue::find(&record.tool)?.spec.serial.map(|serial| self.turns.take(serial))
    }

    /// Nobody undoes what others have done: it may have been done against them.
    fn whose(&self, caller: &Caller, record: &Record) -> Result<(), Refusal> {
        let policy = self.policy();
        let agent = self.agent(&policy, caller)?;
        if record.agent == agent || policy.may_approve(&agent) {
            return Ok(());
        }
        let message = format!("call {} is not {agent}'s", record.call_id);
        Err(Refusal::new(
            Stage::Capability,
            message,
            "the agent that made it can undo it, or one that may approve calls",
        ))
    }

    fn may_roll_back(&self, caller: &Caller, record: &Record) -> Result<String, Refusal> {
        let policy = self.policy();
        let agent = self.agent(&policy, caller)?;
        let token = self.token(caller, "", now())?;
        let needs = record.access.wanted().map_err(|error| Refusal::new(Stage::Schema, format!("{error}"), ""))?;
        let taint = Taint::of(Origin::Operator);
        let request = Request {
            agent: &agent,
            tool: &record.tool,
            risk: Risk::Medium,
            needs: &needs,
            through: &[],
            sinks: &[],
            taint: &taint,
            token: token.as_ref(),
            now: now(),
            uptime: uptime(),
        };
        let mut limiter = self.limiter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match decide(&policy, &self.grants(), &mut limiter, &request) {
            // What was before is no new risk: whoever may do it may undo it.
            Decision::Allow | Decision::NeedsApproval(_) => Ok(agent),
            Decision::Deny(denial) => {
                let message = format!("{agent} may not undo a call of {}", record.tool);
                Err(Refusal::new(denial.stage.into(), message, denial.hint))
            }
        }
    }

    fn record_rollback(&self, agent: &str, record: &Record) -> Result<Recorded, Refusal> {
        let needs = record.access.wanted().unwrap_or_default();
        let arguments = json!({ "call": record.call_id });
        let decision = record::Decision {
            call: &new_id(),
            tool: &record.tool,
            version: 0,
            digest: &approvals::digest("rollback", 0, &arguments),
            arguments,
            session: "",
            needs: &needs,
            through: &[],
            taint: &Taint::of(Origin::Operator),
            reasons: &[],
            approved_by: None,
            undoes: Some(&record.call_id),
        };
        self.records.decide(agent, &decision).map_err(|reason| unrecorded(&reason))
    }

    fn restore(
        &self,
        agent: &str,
        recorded: &Recorded,
        record: &Record,
        force: bool,
    ) -> Result<RolledBack, RollbackError> {
        let journal = |error: JournalError| RollbackError::Failed(ToolError::new(Code::Failed, error.to_string()));
        // One that was interrupted has overwritten some of it: what is there is its own doing.
        let after = if force || record.state == State::RollingBack { None } else { record.after.clone() };
        let folder = self.journal.blobs(&record.call_id).map_err(journal)?;
        let mut access = Access { capabilities: Vec::new(), ..record.access.clone() };
        access.write.extend(job::folders(&record.saved));
        access.privileges.extend([Privilege::FileOwner, Privilege::WriteAll]);
        let job = Job::Restore { saved: record.saved.clone(), after };
        let view = JournalView { folder, writable: false };
        let work = Work { access: &access, journal: Some(view), job: &job, timeout: RESTORE_TIMEOUT };
        let rolling = Record { state: State::RollingBack, ..record.clone() };
        self.journal.write(&rolling).map_err(journal)?;
        let result = match self.confinement.perform(recorded, &work) {
            Ok(Answer::Restored) => Ok(()),
            Ok(Answer::Failed { error, .. }) | Err(ConfineError::Broken(error)) => Err(RollbackError::Failed(error)),
            Ok(other) => {
                let text = format!("the sandbox answered something else: {other:?}");
                Err(RollbackError::Failed(ToolError::new(Code::Failed, text)))
            }
            Err(ConfineError::Refused { message, hint }) => {
                Err(RollbackError::Refused(Refusal::new(Stage::Sandbox, message, hint)))
            }
        };
        let refused = matches!(&result, Err(RollbackError::Failed(error)) if error.code == Code::FailedPrecondition);
        let state = match &result {
            Ok(()) => State::RolledBack,
            // Nothing was touched.
            Err(RollbackError::Refused(_)) => record.state,
            Err(_) if refused => record.state,
            Err(_) => State::RollingBack,
        };
        self.journal.write(&Record { state, ..record.clone() }).map_err(journal)?;
        self.note_rollback(agent, recorded, record, result.is_ok());
        let restored = record.saved.iter().map(|saved| saved.path.to_string()).collect();
        result.map(|()| RolledBack { restored, seq: recorded.seq() })
    }

    fn call_back(
        &self,
        caller: &Caller,
        record: &Record,
        tool: &str,
        arguments: &Value,
    ) -> Result<RolledBack, RollbackError> {
        let call = Call { tool: tool.to_owned(), arguments: arguments.to_string(), wait: true, ..Call::default() };
        let mut answered = Answered {
            call_id: new_id(),
            outcome: Outcome::Result(Value::Null),
            seq: None,
            reversible: false,
            origin: None,
            duration: Duration::ZERO,
        };
        self.steps(caller, &call, Some(&record.call_id), &mut answered).map_err(RollbackError::Refused)?;
        match answered.outcome {
            Outcome::Result(_) => {
                let done = Record { state: State::RolledBack, ..record.clone() };
                self.journal
                    .write(&done)
                    .map_err(|error| RollbackError::Failed(ToolError::new(Code::Failed, error.to_string())))?;
                let seq = answered.seq.expect("invariant: a call that ran is recorded");
                Ok(RolledBack { restored: vec![format!("{tool} {arguments}")], seq })
            }
            Outcome::Failure(error) => Err(RollbackError::Failed(error)),
            Outcome::Refused(refusal) => Err(RollbackError::Refused(refusal)),
        }
    }

    fn note_rollback(&self, agent: &str, recorded: &Recorded, record: &Record, ok: bool) {
        let body =
            json!({ "call": record.call_id, "tool": record.tool, "decision": recorded.seq(), "rolled_back": ok });
        if let Err(reason) = self.records.note("rollback", agent, &body) {
            tracing::error!(reason, call_id = record.call_id, "rollback not recorded");
        }
    }
}
