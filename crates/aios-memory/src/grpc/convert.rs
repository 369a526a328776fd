//! Between what is kept and what goes over the wire.

use std::collections::BTreeSet;

use aios_api::memory::v1 as wire;
use aios_policy::Origin;
use tonic::Status;

use super::caller::Caller;
use crate::{
    error::StoreError,
    item::{self, Body, Content, Item, Metric, Provenance},
    kind::{Kind, Tier},
    limits::ORIGINS,
    store::{KindTotal, State},
};

/// The status that says an error over the wire.
pub(super) fn status(error: StoreError) -> Status {
    let text = error.to_string();
    match error {
        StoreError::NotFound { .. } | StoreError::NoSuch { .. } => Status::not_found(text),
        StoreError::Invalid(_) => Status::invalid_argument(text),
        StoreError::Ended(_) => Status::failed_precondition(text),
        StoreError::Full { .. } | StoreError::Room { .. } | StoreError::Busy(_) | StoreError::Many { .. } => {
            Status::resource_exhausted(text)
        }
        StoreError::Unwiped { .. } | StoreError::Storage { .. } | StoreError::Closed => Status::unavailable(text),
        StoreError::Damaged { .. } => Status::data_loss(text),
        StoreError::NoIndex => Status::unimplemented(text),
        StoreError::Newer { .. } | StoreError::Foreign { .. } => Status::failed_precondition(text),
    }
}

/// A part of a request that has to be there.
pub(super) fn needed<T>(part: Option<T>, name: &str) -> Result<T, Status> {
    part.ok_or_else(|| Status::invalid_argument(format!("{name} is missing")))
}

/// Whence a caller says its words are.
pub(super) fn provenance(caller: &Caller, given: Option<wire::Provenance>) -> Result<Provenance, Status> {
    let wire::Provenance { agent, source, origins } = given.unwrap_or_default();
    if !agent.is_empty() {
        return Err(Status::invalid_argument("provenance.agent is set by the service: leave it empty"));
    }
    Ok(Provenance { agent: caller.agent.clone(), source, origins: self::origins(caller, &origins)? })
}

/// Origins that the caller may state.
pub(super) fn origins(caller: &Caller, texts: &[String]) -> Result<BTreeSet<Origin>, Status> {
    if texts.len() > ORIGINS {
        let text = format!("provenance.origins has {} entries; the most is {ORIGINS}", texts.len());
        return Err(Status::invalid_argument(text));
    }
    let mut origins = BTreeSet::new();
    for text in texts {
        let origin: Origin = text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        caller.check_origin(&origin)?;
        origins.insert(origin);
    }
    Ok(origins)
}

/// A new item's content.
pub(super) fn content(caller: &Caller, provenance: Option<wire::Provenance>, body: Body) -> Result<Content, Status> {
    Ok(Content { provenance: self::provenance(caller, provenance)?, body })
}

/// The kind with this number.
pub(super) fn kind(number: i32) -> Result<Kind, Status> {
    let found = u8::try_from(number).ok().and_then(Kind::from_byte);
    found.ok_or_else(|| Status::invalid_argument(format!("{number} is no kind of item")))
}

/// A severity; `None` where it is not set.
pub(super) fn severity(number: i32) -> Result<Option<item::Severity>, Status> {
    use item::Severity;
    Ok(match wire::Severity::try_from(number) {
        Ok(wire::Severity::Unspecified) => None,
        Ok(wire::Severity::Debug) => Some(Severity::Debug),
        Ok(wire::Severity::Info) => Some(Severity::Info),
        Ok(wire::Severity::Warning) => Some(Severity::Warning),
        Ok(wire::Severity::Error) => Some(Severity::Error),
        Ok(wire::Severity::Critical) => Some(Severity::Critical),
        Err(_) => return Err(Status::invalid_argument(format!("{number} is no severity"))),
    })
}

/// A status; `None` where it is not set.
pub(super) fn progress_status(number: i32) -> Result<Option<item::Status>, Status> {
    use item::Status as Progress;
    Ok(match wire::Status::try_from(number) {
        Ok(wire::Status::Unspecified) => None,
        Ok(wire::Status::Pending) => Some(Progress::Pending),
        Ok(wire::Status::Active) => Some(Progress::Active),
        Ok(wire::Status::Completed) => Some(Progress::Completed),
        Ok(wire::Status::Failed) => Some(Progress::Failed),
        Ok(wire::Status::Cancelled) => Some(Progress::Cancelled),
        Err(_) => return Err(Status::invalid_argument(format!("{number} is no status"))),
    })
}

pub(super) fn event(given: wire::Event) -> Result<Body, Status> {
    let wire::Event { category, severity, message, data } = given;
    let severity = self::severity(severity)?.unwrap_or_default();
    Ok(Body::Event(item::Event { category, severity, message, data }))
}

pub(super) fn goal(given: wire::Goal) -> Result<Body, Status> {
    let wire::Goal { text, status, priority, progress, result } = given;
    let status = progress_status(status)?.unwrap_or_default();
    Ok(Body::Goal(item::Goal { text, status, priority, progress, result }))
}

pub(super) fn task(given: wire::Task) -> Result<Body, Status> {
    let wire::Task { goal, description, status, assigned, after, result } = given;
    let status = progress_status(status)?.unwrap_or_default();
    Ok(Body::Task(item::Task { goal, description, status, assigned, after, result }))
}

pub(super) fn tool_call(given: wire::ToolCall) -> Body {
    let wire::ToolCall { goal, task, tool, arguments, result, success, duration_ms, ledger_seq } = given;
    Body::ToolCall(item::ToolCall { goal, task, tool, arguments, result, success, duration_ms, ledger_seq })
}

pub(super) fn decision(given: wire::Decision) -> Body {
    let wire::Decision { goal, task, question, options, chosen, reason, level } = given;
    Body::Decision(item::Decision { goal, task, question, options, chosen, reason, level })
}

pub(super) fn pattern(given: wire::Pattern) -> Body {
    let wire::Pattern { goal, steps, successes, failures, last_used_ms } = given;
    let step = |step: wire::pattern::Step| item::Step { tool: step.tool, arguments: step.arguments };
    let steps = steps.into_iter().map(step).collect();
    Body::Pattern(item::Pattern { goal, steps, successes, failures, last_used: last_used_ms })
}

pub(super) fn procedure(given: wire::Procedure) -> Body {
    let wire::Procedure { name, description, steps } = given;
    Body::Procedure(item::Procedure { name, description, steps })
}

pub(super) fn incident(given: wire::Incident) -> Result<Body, Status> {
    let wire::Incident { title, description, severity, cause, resolution } = given;
    let severity = self::severity(severity)?.unwrap_or_default();
    Ok(Body::Incident(item::Incident { title, description, severity, cause, resolution }))
}

pub(super) fn config_change(given: wire::ConfigChange) -> Body {
    let wire::ConfigChange { subject, before, after, reason } = given;
    Body::ConfigChange(item::ConfigChange { subject, before, after, reason })
}

pub(super) fn knowledge(given: wire::Knowledge) -> Body {
    let wire::Knowledge { title, text, tags } = given;
    Body::Knowledge(item::Knowledge { title, text, tags })
}

/// What an item says, in words, for whoever got it from the service; empty where it says nothing that is known here.
pub fn told(item: &wire::Item) -> String {
    use wire::item::Body as Wire;
    let Some(given) = item.body.clone() else { return String::new() };
    let body = match given {
        Wire::Event(given) => event(given),
        Wire::Goal(given) => goal(given),
        Wire::Task(given) => task(given),
        Wire::ToolCall(given) => Ok(tool_call(given)),
        Wire::Decision(given) => Ok(decision(given)),
        Wire::Pattern(given) => Ok(pattern(given)),
        Wire::AgentState(wire::AgentState { agent, key, value }) => {
            Ok(Body::AgentState(item::AgentState { agent, key, value }))
        }
        Wire::Procedure(given) => Ok(procedure(given)),
        Wire::Incident(given) => incident(given),
        Wire::ConfigChange(given) => Ok(config_change(given)),
        Wire::Knowledge(given) => Ok(knowledge(given)),
    };
    body.map(|body| body.told()).unwrap_or_default()
}

/// An item for the wire.
pub(super) fn to_wire(item: Item) -> wire::Item {
    let Item { id, tier, created, updated, content } = item;
    wire::Item {
        id,
        kind: i32::from(content.body.kind() as u8),
        tier: i32::from(tier as u8),
        created_ms: created,
        updated_ms: updated,
        provenance: Some(provenance_to_wire(content.provenance)),
        body: Some(body_to_wire(content.body)),
    }
}

/// A metric for the wire.
pub(super) fn metric_to_wire(metric: Metric) -> wire::Metric {
    let Metric { name, value, unit, updated, provenance } = metric;
    wire::Metric { name, value, unit, updated_ms: updated, provenance: Some(provenance_to_wire(provenance)) }
}

/// A count for the wire.
pub(super) fn total_to_wire(total: KindTotal) -> wire::stats_response::KindStats {
    let KindTotal { tier, kind, items, bytes } = total;
    wire::stats_response::KindStats { kind: i32::from(kind as u8), tier: i32::from(tier as u8), items, bytes }
}

/// The store's state, and why it is no better.
pub(super) fn state_to_wire(state: State) -> (wire::StoreState, String) {
    match state {
        State::Writable => (wire::StoreState::Writable, String::new()),
        State::ReadOnly(error @ StoreError::Full { .. }) => (wire::StoreState::Full, error.to_string()),
        State::ReadOnly(error) => (wire::StoreState::ReadOnly, error.to_string()),
        State::Unreadable(error) => (wire::StoreState::Unreadable, error.to_string()),
    }
}

fn provenance_to_wire(provenance: Provenance) -> wire::Provenance {
    let Provenance { agent, source, origins } = provenance;
    wire::Provenance { agent, source, origins: origins.iter().map(ToString::to_string).collect() }
}

fn severity_to_wire(severity: item::Severity) -> i32 {
    use item::Severity;
    let severity = match severity {
        Severity::Debug => wire::Severity::Debug,
        Severity::Info => wire::Severity::Info,
        Severity::Warning => wire::Severity::Warning,
        Severity::Error => wire::Severity::Error,
        Severity::Critical => wire::Severity::Critical,
    };
    severity.into()
}

fn status_to_wire(status: item::Status) -> i32 {
    use item::Status as Progress;
    let status = match status {
        Progress::Pending => wire::Status::Pending,
        Progress::Active => wire::Status::Active,
        Progress::Completed => wire::Status::Completed,
        Progress::Failed => wire::Status::Failed,
        Progress::Cancelled => wire::Status::Cancelled,
    };
    status.into()
}

fn body_to_wire(body: Body) -> wire::item::Body {
    use wire::item::Body as Wire;
    match body {
        Body::Event(item::Event { category, severity, message, data }) => {
            Wire::Event(wire::Event { category, severity: severity_to_wire(severity), message, data })
        }
        Body::Goal(item::Goal { text, status, priority, progress, result }) => {
            Wire::Goal(wire::Goal { text, status: status_to_wire(status), priority, progress, result })
        }
        Body::Task(item::Task { goal, description, status, assigned, after, result }) => {
            let status = status_to_wire(status);
            Wire::Task(wire::Task { goal, description, status, assigned, after, result })
        }
        Body::ToolCall(call) => {
            let item::ToolCall { goal, task, tool, arguments, result, success, duration_ms, ledger_seq } = call;
            Wire::ToolCall(wire::ToolCall { goal, task, tool, arguments, result, success, duration_ms, ledger_seq })
        }
        Body::Decision(item::Decision { goal, task, question, options, chosen, reason, level }) => {
            Wire::Decision(wire::Decision { goal, task, question, options, chosen, reason, level })
        }
        Body::Pattern(item::Pattern { goal, steps, successes, failures, last_used }) => {
            let step = |step: item::Step| wire::pattern::Step { tool: step.tool, arguments: step.arguments };
            let steps = steps.into_iter().map(step).collect();
            Wire::Pattern(wire::Pattern { goal, steps, successes, failures, last_used_ms: last_used })
        }
        Body::AgentState(item::AgentState { agent, key, value }) => {
            Wire::AgentState(wire::AgentState { agent, key, value })
        }
        Body::Procedure(item::Procedure { name, description, steps }) => {
            Wire::Procedure(wire::Procedure { name, description, steps })
        }
        Body::Incident(item::Incident { title, description, severity, cause, resolution }) => {
            let severity = severity_to_wire(severity);
            Wire::Incident(wire::Incident { title, description, severity, cause, resolution })
        }
        Body::ConfigChange(item::ConfigChange { subject, before, after, reason }) => {
            Wire::ConfigChange(wire::ConfigChange { subject, before, after, reason })
        }
        Body::Knowledge(item::Knowledge { title, text, tags }) => {
            Wire::Knowledge(wire::Knowledge { title, text, tags })
        }
    }
}

/// The tier with this number, for a command line that shows it.
pub fn tier_name(number: i32) -> String {
    let tier = u8::try_from(number).ok().and_then(Tier::from_byte);
    tier.map_or_else(|| number.to_string(), |tier| tier.to_string())
}

/// The kind with this number, for a command line that shows it.
pub fn kind_name(number: i32) -> String {
    let kind = u8::try_from(number).ok().and_then(Kind::from_byte);
    kind.map_or_else(|| number.to_string(), |kind| kind.to_string())
}
