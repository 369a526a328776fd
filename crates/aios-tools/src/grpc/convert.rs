//! Between the wire and the rest.

use std::time::Duration;

use aios_api::tools::v1::{
    self as wire, Approval, ExecuteResponse, Failure, Risk, Tool, Undoable, execute_response::Outcome as WireOutcome,
};
use aios_policy::{Grant, Reason, Timestamp, grants::GrantError};
use tonic::Status;

use crate::{
    approvals::{ApprovalError, Open},
    error::{Code, ToolError},
    journal::Record,
    pipeline::{Answered, Outcome, Refusal, RollbackError, Stage},
    tokens::TokensError,
    tool::Entry,
};

/// A serde name of a unit variant, as text.
fn name(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn risk(risk: aios_policy::Risk) -> Risk {
    match risk {
        aios_policy::Risk::Low => Risk::Low,
        aios_policy::Risk::Medium => Risk::Medium,
        aios_policy::Risk::High => Risk::High,
        aios_policy::Risk::Critical => Risk::Critical,
    }
}

pub fn tool(tool: &Entry, schemas: bool) -> Tool {
    let spec = tool.spec;
    let schema = |schema: fn(&Entry) -> schemars::Schema| {
        if schemas { schema(tool).as_value().to_string() } else { String::new() }
    };
    Tool {
        name: spec.name.into(),
        version: spec.version,
        description: spec.description.into(),
        risk: risk(spec.risk).into(),
        idempotent: spec.idempotent,
        reversible: spec.reversible,
        timeout_ms: milliseconds(spec.timeout),
        needs: spec.needs.iter().map(ToString::to_string).collect(),
        examples: spec
            .examples
            .iter()
            .map(|example| wire::Example { goal: example.goal.into(), arguments: example.arguments.into() })
            .collect(),
        input_schema: schema(Entry::input_schema),
        output_schema: schema(Entry::output_schema),
        origin: name(spec.origin),
    }
}

pub fn answered(answered: Answered) -> ExecuteResponse {
    let outcome = match answered.outcome {
        Outcome::Result(result) => WireOutcome::Result(result.to_string()),
        Outcome::Failure(ToolError { code, message }) => WireOutcome::Failure(Failure { code: name(code), message }),
        Outcome::Refused(Refusal { stage, message, hint }) => {
            WireOutcome::Refusal(wire::Refusal { stage: stage.to_string(), message, hint })
        }
    };
    ExecuteResponse {
        call_id: answered.call_id,
        outcome: Some(outcome),
        ledger_seq: answered.seq.unwrap_or_default(),
        reversible: answered.reversible,
        origin: answered.origin.map(name).unwrap_or_default(),
        duration_ms: milliseconds(answered.duration),
    }
}

pub fn undoable(record: Record) -> Undoable {
    Undoable {
        call_id: record.call_id,
        tool: record.tool,
        agent: record.agent,
        arguments: record.arguments.to_string(),
        time: record.time,
        state: name(record.state),
    }
}

pub fn approval(Open { question, text, left }: Open) -> Approval {
    let tainted = |reason: &Reason| match reason {
        Reason::Tainted(sink) => {
            let origins: Vec<String> = sink.origins.iter().map(ToString::to_string).collect();
            Some(format!("{}: {}", sink.pointer, origins.join(", ")))
        }
        Reason::Risk(_) | Reason::Tool => None,
    };
    let reasons: Vec<String> = question.reasons.iter().map(ToString::to_string).collect();
    Approval {
        tainted: question.reasons.iter().filter_map(tainted).collect(),
        reason: reasons.join("; "),
        call_id: question.call_id,
        tool: question.tool,
        risk: risk(question.risk).into(),
        agent: question.agent,
        arguments: question.arguments.to_string(),
        digest: question.digest,
        remaining_ms: milliseconds(left),
        question: text,
    }
}

pub fn grant(grant: &Grant) -> wire::Grant {
    wire::Grant {
        id: grant.id.0.to_string(),
        agent: grant.subject.clone(),
        capability: grant.capability.to_string(),
        granted_by: grant.granted_by.clone(),
        expires: time(grant.expires),
    }
}

pub fn time(Timestamp(seconds): Timestamp) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_else(|_| "never".into())
}

pub fn refusal_status(refusal: &Refusal) -> Status {
    let text = if refusal.hint.is_empty() {
        format!("{}: {}", refusal.stage, refusal.message)
    } else {
        format!("{}: {}; {}", refusal.stage, refusal.message, refusal.hint)
    };
    match refusal.stage {
        Stage::Schema => Status::invalid_argument(text),
        Stage::Identity | Stage::Capability | Stage::Taint => Status::permission_denied(text),
        Stage::Rate => Status::resource_exhausted(text),
        Stage::Approval | Stage::Inverse => Status::failed_precondition(text),
        Stage::Ledger | Stage::Sandbox => Status::unavailable(text),
    }
}

pub fn rollback_status(error: &RollbackError) -> Status {
    match error {
        RollbackError::Unknown(text) => Status::not_found(text),
        RollbackError::Refused(refusal) => refusal_status(refusal),
        RollbackError::Failed(ToolError { code: Code::FailedPrecondition, message }) => {
            Status::failed_precondition(message)
        }
        RollbackError::Failed(ToolError { message, .. }) => Status::internal(message),
    }
}

pub fn approval_status(error: &ApprovalError) -> Status {
    let text = error.to_string();
    match error {
        ApprovalError::Unknown(_) => Status::not_found(text),
        ApprovalError::Digest(_) => Status::failed_precondition(text),
        ApprovalError::Full => Status::resource_exhausted(text),
        ApprovalError::Taken(_) => Status::already_exists(text),
        ApprovalError::Signed(_) => Status::invalid_argument(text),
        ApprovalError::Key { .. } | ApprovalError::Device(_) | ApprovalError::Own(_) => Status::permission_denied(text),
        ApprovalError::Expired(_) => Status::failed_precondition(text),
    }
}

pub fn grant_status(error: &GrantError) -> Status {
    let text = error.to_string();
    match error {
        GrantError::UnknownAgent(_) | GrantError::NoGrant(_) => Status::not_found(text),
        GrantError::TooMany => Status::resource_exhausted(text),
        GrantError::Duration { .. } => Status::invalid_argument(text),
        _ => Status::permission_denied(text),
    }
}

pub fn tokens_status(error: &TokensError) -> Status {
    let text = error.to_string();
    match error {
        TokensError::Policy(error) => grant_status(error),
        TokensError::Token(_) | TokensError::Nothing | TokensError::Tool(_) => Status::invalid_argument(text),
        TokensError::TooMany => Status::resource_exhausted(text),
        TokensError::MayNot { .. } => Status::permission_denied(text),
        TokensError::Kept(_) | TokensError::Random(_) => Status::unavailable(text),
    }
}
