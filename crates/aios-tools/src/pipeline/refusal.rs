//! Why a call did not run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stages of a call, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// There is no such tool, or these are not its arguments.
    Schema,
    /// Nobody knows who calls, or the token is not good.
    Identity,
    /// A capability is missing.
    Capability,
    /// Too many calls.
    Rate,
    /// An argument comes from where it must not.
    Taint,
    /// A human said no, or nobody answered.
    Approval,
    /// The decision could not be recorded.
    Ledger,
    /// What would undo it could not be kept.
    Inverse,
    /// It could not be confined.
    Sandbox,
}

/// A call that did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stage that refused it.
    pub stage: Stage,
    /// What happened.
    pub message: String,
    /// What would allow it; may be empty.
    pub hint: String,
}

impl Refusal {
    /// A refusal at `stage`.
    pub fn new(stage: Stage, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { stage, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Schema => "schema",
            Stage::Identity => "identity",
            Stage::Capability => "capability",
            Stage::Rate => "rate",
            Stage::Taint => "taint",
            Stage::Approval => "approval",
            Stage::Ledger => "ledger",
            Stage::Inverse => "inverse",
            Stage::Sandbox => "sandbox",
        })
    }
}

impl From<aios_policy::Stage> for Stage {
    fn from(stage: aios_policy::Stage) -> Stage {
        match stage {
            aios_policy::Stage::Identity => Stage::Identity,
            aios_policy::Stage::Capability => Stage::Capability,
            aios_policy::Stage::Rate => Stage::Rate,
            aios_policy::Stage::Taint => Stage::Taint,
        }
    }
}
