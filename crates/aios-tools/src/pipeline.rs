//! The way of a call: schema → identity → capability → rate → taint → approval → ledger → inverse → sandbox → ledger.
//!
//! Each stage hands on what the next one needs, and [`Confinement`] takes the proof of the entry in the ledger; so there
//! is no other way to a tool.

mod below;
mod confine;
mod form;
pub(crate) mod identity;
mod inverse;
mod record;
mod refusal;
mod rollback;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use aios_policy::{
    Decision, Grants, Origin, Policy, RateLimiter, Reason, Request, Risk, Taint, Timestamp, Verifier, decide,
};
use serde_json::{Value, json};

pub use self::{
    confine::{ConfineError, Confinement, JournalView, Work},
    identity::Caller,
    record::{Recorded, Recorder},
    refusal::{Refusal, Stage},
    rollback::{RollbackError, RolledBack},
    turns::Turn,
};
use self::{
    form::{Formed, form},
    inverse::Prepared,
    record::{Records, recorded_refusal, shortened, trace},
    turns::Turns,
};
use crate::{
    approvals::{self, ApprovalError, Approvals, Question, Verdict},
    catalogue,
    error::{Code, ToolError},
    facts::Facts,
    host::Host,
    job::{Answer, Job},
    journal::{self, Journal, Record},
    sessions::{self, Sessions},
    tool::Serial,
};

/// Longest arguments, in bytes of JSON.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// Longest goal, in bytes.
pub const GOAL_MAX: usize = 64 << 10;

/// A call, as it comes.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Id that the caller chose; empty: one is made.
    pub id: String,
    /// Name of the tool.
    pub tool: String,
    /// JSON.
    pub arguments: String,
    /// The conversation that it is part of; empty: none.
    pub session: String,
    /// What the user said, word for word.
    pub goal: String,
    /// Narrows what the caller may do; empty: all that it may.
    pub token: String,
    /// Whether it waits for a human where one must agree, or is refused at once.
    pub wait: bool,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It ran.
    Result(Value),
    /// The tool failed: as it ran, or before that, as it looked for what undoes the call.
    Failure(ToolError),
    /// It did not run.
    Refused(Refusal),
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its id.
    pub call_id: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Number of the decision, or of the refusal, in the ledger; `None` where it could not be recorded.
    pub seq: Option<u64>,
    /// Whether a rollback undoes it.
    pub reversible: bool,
    /// The tool's.
    pub origin: Option<crate::tool::Origin>,
    /// From the request to here.
    pub duration: Duration,
}

/// What a pipeline is made of.
pub struct Parts {
    /// Who may do what.
    pub policy: Policy,
    /// What was granted before.
    pub grants: Grants,
    /// What the fleet calls this device.
    pub device: String,
    /// Checks tokens.
    pub verifier: Verifier,
    /// The ledger.
    pub recorder: Arc<dyn Recorder>,
    /// The sandbox.
    pub confinement: Arc<dyn Confinement>,
    /// What undoes calls.
    pub journal: Journal,
}

/// The one door.
pub struct Pipeline {
    policy: RwLock<Arc<Policy>>,
    grants: Mutex<Grants>,
    limiter: Mutex<RateLimiter>,
    verifier: Verifier,
    sessions: Sessions,
    approvals: Approvals,
    records: Records,
    confinement: Arc<dyn Confinement>,
    journal: Journal,
    turns: Turns,
}

/// A call that may run as far as rules go.
struct Allowed {
    agent: String,
    /// Who issued its token, whose rights it goes by.
    issuer: Option<String>,
    taint: Taint,
    reasons: Vec<Reason>,
}

impl Pipeline {
    /// A pipeline of these parts.
    pub fn new(parts: Parts) -> Pipeline {
        Pipeline {
            policy: RwLock::new(Arc::new(parts.policy)),
            grants: Mutex::new(parts.grants),
            limiter: Mutex::new(RateLimiter::default()),
            verifier: parts.verifier,
            sessions: Sessions::default(),
            approvals: Approvals::new(&parts.device),
            records: Records(parts.recorder),
            confinement: parts.confinement,
            journal: parts.journal,
            turns: Turns::default(),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The grants, to look at or to change. What is changed counts from the next call on.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What checks tokens. A revocation counts from the next call on.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The calls that wait for a human.
    pub fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// What sessions have read.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What undoes calls.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until no call changes what `serial` names, and keeps all others from it as long as the result lives.
    pub fn turn(&self, serial: Serial) -> Turn<'_> {
        self.turns.take(serial)
    }

    /// Records something about the service itself.
    pub fn note(&self, kind: &'static str, agent: &str, body: &Value) -> Result<u64, String> {
        self.records.note(kind, agent, body)
    }

    /// Takes a call through all stages. Blocks: for the tool's time, and where a human is asked for the policy's.
    pub fn execute(&self, caller: &Caller, call: &Call) -> Answered {
        let started = Instant::now();
        let given = !call.id.is_empty();
        let call_id = if given { call.id.clone() } else { new_id() };
        let mut answered = Answered {
            call_id,
            outcome: Outcome::Result(Value::Null),
            seq: None,
            reversible: false,
            origin: catalogue::find(&call.tool).map(|tool| tool.spec.origin),
            duration: Duration::ZERO,
        };
        if let Err(refusal) = self.steps(caller, call, None, &mut answered) {
            // Where the ledger is what refused, it may be back by now; where it is not, there is no more to be done.
            let agent = self.identify(caller).unwrap_or_else(|_| identity::stranger(caller));
            let tool: String = call.tool.chars().take(aios_policy::policy::MAX_NAME_BYTES).collect();
            let read = self.read_before_refusal(&agent, call, &refusal);
            let body = json!({
                "call": answered.call_id,
                "tool": tool,
                "session": session_name(call),
                "read": read,
                "refusal": recorded_refusal(&refusal),
            });
            answered.seq = self.records.note("refusal", &agent, &shortened(body)).ok().or(answered.seq);
            answered.outcome = Outcome::Refused(refusal);
        }
        answered.duration = started.elapsed();
        answered
    }

    fn steps(
        &self,
        caller: &Caller,
        call: &Call,
        undoes: Option<&str>,
        answered: &mut Answered,
    ) -> Result<(), Refusal> {
        if !journal::is_call_id(&answered.call_id) {
            let message = journal::JournalError::Id(std::mem::replace(&mut answered.call_id, new_id())).to_string();
            return Err(Refusal::new(Stage::Schema, message, ""));
        }
        let mut formed = form(call)?;
        let allowed = self.allow(caller, call, &formed)?;
        let spec = formed.tool.spec;
        let digest = approvals::digest(spec.name, spec.version, &formed.arguments);
        let approved_by = self.approve(call, &answered.call_id, &formed, &allowed, &digest)?;
        // After somebody has agreed, who may take their time; before the entry, so that the ledger has them in their order.
        let _turn = spec.serial.map(|serial| self.turns.take(serial));
        let parties: Vec<&str> =
            [Some(&allowed.agent), allowed.issuer.as_ref()].into_iter().flatten().map(String::as_str).collect();
        below::hide(&self.policy(), &parties, &mut formed.access)?;
        let shown = self.records.arguments(&formed.arguments, spec.secrets);
        let decision = record::Decision {
            call: &answered.call_id,
            tool: spec.name,
            version: spec.version,
            arguments: shortened(shown.clone()),
            digest: &digest,
            session: &call.session,
            needs: &formed.needs,
            through: &formed.through,
            taint: &allowed.taint,
            reasons: &allowed.reasons,
            approved_by: approved_by.as_deref(),
            undoes,
        };
        let recorded = self.records.decide(&allowed.agent, &decision).map_err(|reason| unrecorded(&reason))?;
        answered.seq = Some(recorded.seq());
        let prepared = self.prepare(&recorded, &answered.call_id, &allowed.agent, &formed, shown)?;
        answered.reversible = prepared.record().is_some();
        answered.outcome = match prepared {
            Prepared::Failed(error) => Outcome::Failure(error),
            prepared => self.run(&recorded, &formed, prepared.record())?,
        };
        self.conclude(&recorded, call, &allowed.agent, &formed, answered);
        Ok(())
    }

    /// Identity, capability, rate, taint.
    fn allow(&self, caller: &Caller, call: &Call, formed: &Formed) -> Result<Allowed, Refusal> {
        let policy = self.policy();
        let agent = self.agent(&policy, caller)?;
        let now = now();
        let token = self.token(caller, &call.token, now)?;
        let spec = formed.tool.spec;
        let human = policy.agents.get(&agent).is_some_and(|agent| agent.vouches.contains(&Origin::Operator));
        let alone = if human { Origin::Operator } else { Origin::Model };
        let mut sinks: Vec<&str> = spec.sinks.to_vec();
        sinks.extend(policy.tools.get(spec.name).iter().flat_map(|rule| &rule.sinks).map(String::as_str));
        let raised = policy.tools.get(spec.name).and_then(|rule| rule.risk).unwrap_or(spec.risk);
        // To name a thing is not to say what is to be done with it: "why does nginx fail" does not stop nginx.
        let goal = if raised.max(spec.risk) < Risk::High { &*call.goal } else { "" };
        let taint = self.sessions.taint(&agent, &call.session, goal, &formed.arguments, &sinks, alone);
        let request = Request {
            agent: &agent,
            tool: spec.name,
            risk: spec.risk,
            needs: &formed.needs,
            through: &formed.through,
            sinks: spec.sinks,
            taint: &taint,
            token: token.as_ref(),
            now,
            uptime: uptime(),
        };
        let issuer = token.as_ref().map(|token| token.issuer().to_owned());
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match decide(&policy, &self.grants(), &mut limiter, &request) {
            Decision::Allow => Ok(Allowed { agent, issuer, taint, reasons: Vec::new() }),
            Decision::NeedsApproval(reasons) => Ok(Allowed { agent, issuer, taint, reasons }),
            Decision::Deny(denial) => {
                let message = format!("{agent} may not call {} like this", spec.name);
                Err(Refusal::new(denial.stage.into(), message, denial.hint))
            }
        }
    }

    /// What the session has read by a refusal: looking for what undoes a call, names of files are found and told.
    fn read_before_refusal(&self, agent: &str, call: &Call, refusal: &Refusal) -> Option<Origin> {
        let tool = catalogue::find(&call.tool).filter(|_| refusal.stage == Stage::Inverse)?;
        let origin = sessions::origin_of(tool.spec).unwrap_or_else(|| Origin::Tool(tool.spec.name.to_owned()));
        if !call.session.is_empty() {
            self.sessions.note(agent, &call.session, origin.clone());
        }
        Some(origin)
    }

    /// Asks a human where one must agree; returns who did.
    fn approve(
        &self,
        call: &Call,
        call_id: &str,
        formed: &Formed,
        allowed: &Allowed,
        digest: &str,
    ) -> Result<Option<String>, Refusal> {
        if allowed.reasons.is_empty() {
            return Ok(None);
        }
        let spec = formed.tool.spec;
        let reasons: Vec<String> = allowed.reasons.iter().map(ToString::to_string).collect();
        let refused = |message: String| {
            let hint = format!("a human has to approve it: {}", reasons.join("; "));
            Refusal::new(Stage::Approval, message, hint)
        };
        if !call.wait {
            return Err(refused(format!("{} needs approval, and the call does not wait for it", spec.name)));
        }
        let limit = self.policy().approvals.timeout.0;
        let question = Question {
            call_id: call_id.to_owned(),
            tool: spec.name.to_owned(),
            version: spec.version,
            risk: spec.risk,
            agent: allowed.agent.clone(),
            arguments: self.records.arguments(&formed.arguments, spec.secrets),
            reasons: allowed.reasons.clone(),
            digest: digest.to_owned(),
        };
        tracing::info!(call_id, tool = spec.name, agent = allowed.agent, "call waits for approval");
        match self.approvals.ask(question, limit) {
            Ok(Verdict::Approved(by)) => Ok(Some(by)),
            Ok(Verdict::Denied(by)) => Err(refused(format!("{by} said no"))),
            Ok(Verdict::TimedOut) => Err(refused(format!("nobody approved it within {} s", limit.as_secs()))),
            Err(error @ (ApprovalError::Full | ApprovalError::Taken(_))) => Err(refused(error.to_string())),
            Err(error) => Err(refused(format!("it could not be asked: {error}"))),
        }
    }

    /// Runs the tool.
    fn run(&self, recorded: &Recorded, formed: &Formed, undo: Option<&Record>) -> Result<Outcome, Refusal> {
        let spec = formed.tool.spec;
        let watch =
            undo.map(|record| record.saved.iter().map(|saved| saved.path.clone()).collect()).unwrap_or_default();
        let facts = Facts::look_up(&formed.access.facts, &Host::device());
        let job = Job::Run { tool: spec.name.to_owned(), arguments: formed.arguments.clone(), watch, facts };
        let work = Work { access: &formed.access, journal: None, job: &job, timeout: spec.timeout };
        let (outcome, after) = match self.confinement.perform(recorded, &work) {
            Ok(Answer::Ran { result, after }) => (Outcome::Result(result), Some(after)),
            Ok(Answer::Failed { error, after }) => (Outcome::Failure(error), Some(after)),
            Ok(other) => {
                let text = format!("the sandbox answered something else: {other:?}");
                (Outcome::Failure(ToolError::new(Code::Failed, text)), None)
            }
            Err(ConfineError::Broken(error)) => (Outcome::Failure(error), None),
            Err(ConfineError::Refused { message, hint }) => {
                if let Some(record) = undo {
                    let _ = self.journal.forget(&record.call_id);
                }
                return Err(Refusal::new(Stage::Sandbox, message, hint));
            }
        };
        if let Some(record) = undo {
            self.done(record, after);
        }
        Ok(outcome)
    }

    /// Records what came of the call, and what its session has read now.
    fn conclude(&self, recorded: &Recorded, call: &Call, agent: &str, formed: &Formed, answered: &mut Answered) {
        let spec = formed.tool.spec;
        // What went wrong may be told with the names that were found, and those were given by whoever made the files.
        let names = matches!(answered.outcome, Outcome::Failure(_)) && formed.access.looks_around();
        let origin = sessions::origin_of(spec).or_else(|| names.then(|| Origin::Tool(spec.name.to_owned())));
        if let (Some(origin), false) = (&origin, call.session.is_empty()) {
            self.sessions.note(agent, &call.session, origin.clone());
        }
        let mut body = json!({
            "call": answered.call_id,
            "tool": spec.name,
            "decision": recorded.seq(),
            "session": call.session,
            "read": origin,
        });
        match &answered.outcome {
            Outcome::Result(result) => body["result"] = trace(result),
            Outcome::Failure(error) => {
                body["failure"] = json!({ "code": error.code, "message": trace(&Value::from(error.message.as_str())) });
            }
            Outcome::Refused(_) => {}
        }
        if let Err(reason) = self.records.note("result", agent, &body) {
            tracing::error!(reason, call_id = answered.call_id, "result not recorded");
            let text = format!(
                "{} was called (decision {} in the ledger), but what came of it could not be recorded: {reason}",
                spec.name,
                recorded.seq()
            );
            answered.outcome = Outcome::Failure(ToolError::new(Code::Failed, text));
        }
    }
}

fn unrecorded(reason: &str) -> Refusal {
    let message = format!("the decision could not be recorded, so nothing was run: {reason}");
    Refusal::new(Stage::Ledger, message, "see `aios log tools` and `aios ledger verify`")
}

/// The name of a session as far as it can be recorded.
fn session_name(call: &Call) -> String {
    call.session.chars().filter(|c| !c.is_control()).take(sessions::NAME_MAX).collect()
}

/// A new id: 128 random bits.
pub(crate) fn new_id() -> String {
    aios_keys::hex::encode(&random::<16>())
}

/// Random bytes; at most 256.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("invariant: up to 256 bytes are given at once, once the kernel has started its generator");
    bytes
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_secs())
}

/// Time since boot, suspension included: nobody sets it.
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The time of day as RFC 3339.
fn time_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
