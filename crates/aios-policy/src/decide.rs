//! Whether a call may run.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    capability::Capability,
    taint::{Taint, TaintedSink},
    time::Timestamp,
    token::Verified,
};

/// How much harm a tool can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// It only looks.
    Low,
    /// What it changes is small, or undone with ease.
    Medium,
    /// What it changes can stop a service or lose data.
    High,
    /// It can cut the device off, or hand it to somebody else.
    Critical,
}

/// A call that wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Name of the agent that calls, by [`crate::policy::Policy::identify`] or the subject of the token.
    pub agent: &'a str,
    /// Name of the tool.
    pub tool: &'a str,
    /// Its risk, as its specification says.
    pub risk: Risk,
    /// What the call needs with these arguments. None at all is refused: every tool needs something.
    pub needs: &'a [Capability],
    /// JSON pointers of the tool's dangerous arguments.
    pub sinks: &'a [&'a str],
    /// Where the arguments come from.
    pub taint: &'a Taint,
    /// The token that came with the call: then it goes by the token's rights, and not by the agent's own.
    pub token: Option<&'a Verified>,
    /// The time of day, which grants and tokens expire by.
    pub now: Timestamp,
    /// A clock that is never set, which rates are measured by; for example the time since boot.
    pub uptime: Duration,
}

/// The step of a call's way that refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The policy knows no such agent, or the token is not its.
    Identity,
    /// A capability is missing.
    Capability,
    /// Too many calls.
    Rate,
    /// An argument comes from where it must not.
    Taint,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It runs.
    Allow,
    /// It runs once somebody has seen it and said yes.
    NeedsApproval(Vec<Reason>),
    /// It does not run.
    Deny(Denial),
}

/// Why somebody has to say yes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The tool's risk is above what the agent may do by itself.
    Risk(Risk),
    /// The policy asks for it at every call of this tool.
    Tool,
    /// A dangerous argument comes from where it can't be trusted.
    Tainted(TaintedSink),
}

/// Why a call does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Denial {
    /// What refused.
    pub stage: Stage,
    /// Those of the call's needs that nothing covers.
    pub missing: Vec<Capability>,
    /// When the same call may be tried again, where waiting helps.
    pub retry_after: Option<Duration>,
    /// What was wrong and what would do, in a sentence for people.
    pub hint: String,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
            Risk::Critical => "critical",
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Identity => "identity",
            Stage::Capability => "capability",
            Stage::Rate => "rate",
            Stage::Taint => "taint",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Risk(risk) => write!(f, "its risk is {risk}"),
            Reason::Tool => f.write_str("the policy asks for approval of each call of this tool"),
            Reason::Tainted(sink) => {
                let origins: Vec<String> = sink.origins.iter().map(ToString::to_string).collect();
                write!(f, "the argument {} comes from {}", sink.pointer, origins.join(", "))
            }
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}: {}", self.stage, self.hint)
    }
}
