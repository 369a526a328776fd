//! Whether a call may run.
//!
//! The steps, in order: identity, capability, rate, taint, approval. The first that refuses ends it, and a call that was
//! refused before its rate was looked at is not counted.

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    capability::Capability,
    explain,
    grants::Grants,
    policy::{Agent, Approval, Policy, TaintAction},
    rate::RateLimiter,
    taint::{Origin, Taint, TaintedSink, tainted_sinks},
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
    /// What the call looks through: all that is below a folder. Each has to be covered as a need has; but where a part of it
    /// is denied, that refuses nothing: whoever runs the call hides the part.
    pub through: &'a [Capability],
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

/// Whether a call may run, by what the policy says, what was granted, and how many calls there were.
///
/// A token is taken as checked for this very call ([`crate::token::Verifier::verify`]); only that is when its
/// revocation takes effect. With a token, the call goes by the rights of the token's issuer as far as the token hands
/// them on: each need must be covered by the token and held by the issuer. What is denied to either agent stays denied.
pub fn decide(policy: &Policy, grants: &Grants, limiter: &mut RateLimiter, request: &Request<'_>) -> Decision {
    match steps(policy, grants, limiter, request) {
        Err(denial) => Decision::Deny(denial),
        Ok(reasons) if reasons.is_empty() => Decision::Allow,
        Ok(reasons) => Decision::NeedsApproval(reasons),
    }
}

fn steps(
    policy: &Policy,
    grants: &Grants,
    limiter: &mut RateLimiter,
    request: &Request<'_>,
) -> Result<Vec<Reason>, Denial> {
    let parties = identity(policy, request)?;
    capability(policy, grants, request)?;
    rate(policy, limiter, request)?;
    let tainted = taint(policy, &parties, request)?;
    Ok(approval(policy, &parties, request, tainted))
}

/// The agents that a call concerns.
struct Parties<'a> {
    caller: &'a Agent,
    /// Whose rights a token hands on.
    issuer: Option<&'a Agent>,
}

fn identity<'a>(policy: &'a Policy, request: &Request<'_>) -> Result<Parties<'a>, Denial> {
    let refused = |hint| Denial { stage: Stage::Identity, missing: Vec::new(), retry_after: None, hint };
    let agent = |name: &str| policy.agents.get(name).ok_or_else(|| refused(explain::unknown_agent(name)));
    let caller = agent(request.agent)?;
    let Some(token) = request.token else { return Ok(Parties { caller, issuer: None }) };
    if token.subject() != request.agent {
        return Err(refused(explain::foreign_token(request.agent, token)));
    }
    if token.not_after() < request.now {
        return Err(refused(explain::expired_token(token)));
    }
    Ok(Parties { caller, issuer: Some(agent(token.issuer())?) })
}

fn capability(policy: &Policy, grants: &Grants, request: &Request<'_>) -> Result<(), Denial> {
    let refused = |missing, hint| Err(Denial { stage: Stage::Capability, missing, retry_after: None, hint });
    if request.needs.is_empty() {
        return refused(Vec::new(), explain::no_needs(request.tool));
    }
    if request.token.is_some_and(|token| !token.allows_tool(request.tool)) {
        return refused(Vec::new(), explain::tool_not_in_token(request.tool));
    }
    let holder = request.token.map_or(request.agent, Verified::issuer);
    let covered = |need: &Capability| {
        request.token.is_none_or(|token| token.covers(need)) && grants.give(policy, holder, need, request.now)
    };
    let denied = |need: &Capability| [request.agent, holder].iter().any(|agent| policy.denied(agent, need).is_some());
    let needs = request.needs.iter().filter(|need| !covered(need) || denied(need));
    let through = request.through.iter().filter(|need| !covered(need));
    let missing: Vec<Capability> = needs.chain(through).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hint = explain::missing(policy, request, &missing);
    refused(missing, hint)
}

fn rate(policy: &Policy, limiter: &mut RateLimiter, request: &Request<'_>) -> Result<(), Denial> {
    let Request { agent, tool, .. } = *request;
    let (of_agent, of_tool) = policy.rates(agent, tool);
    limiter.take(agent, of_agent, tool, of_tool, request.uptime).map_err(|wait| Denial {
        stage: Stage::Rate,
        missing: Vec::new(),
        retry_after: Some(wait),
        hint: explain::too_often(agent, of_agent, tool, of_tool, wait),
    })
}

/// The dangerous arguments that somebody has to see.
fn taint(policy: &Policy, parties: &Parties<'_>, request: &Request<'_>) -> Result<Vec<TaintedSink>, Denial> {
    let Request { tool, sinks, .. } = *request;
    let trusted = policy.taint.trusted.intersection(&parties.caller.vouches).cloned().collect();
    let mut pointers: Vec<&str> = sinks.to_vec();
    pointers.extend(policy.tools.get(tool).iter().flat_map(|rule| &rule.sinks).map(String::as_str));
    pointers.sort_unstable();
    pointers.dedup();
    let mut tainted = tainted_sinks(&pointers, request.taint, &trusted);
    let action = |origin: &Origin| {
        let rule = policy.taint.rules.iter().find(|rule| rule.fits(tool, origin));
        rule.map_or(TaintAction::Approve, |rule| rule.action)
    };
    for sink in &mut tainted {
        if let Some(origin) = sink.origins.iter().find(|origin| action(origin) == TaintAction::Deny) {
            let hint = explain::tainted(tool, &sink.pointer, origin);
            return Err(Denial { stage: Stage::Taint, missing: Vec::new(), retry_after: None, hint });
        }
        sink.origins.retain(|origin| action(origin) == TaintAction::Approve);
    }
    tainted.retain(|sink| !sink.origins.is_empty());
    Ok(tainted)
}

/// Why somebody has to say yes; nothing where nobody has to.
fn approval(policy: &Policy, parties: &Parties<'_>, request: &Request<'_>, tainted: Vec<TaintedSink>) -> Vec<Reason> {
    let rule = policy.tools.get(request.tool);
    let risk = rule.and_then(|rule| rule.risk).map_or(request.risk, |least| least.max(request.risk));
    let limit = |agent: &Agent| agent.max_risk_without_approval.unwrap_or(policy.defaults.max_risk_without_approval);
    let limit = parties.issuer.map_or(Risk::Critical, limit).min(limit(parties.caller));
    let approval = rule.map_or(Approval::ByRisk, |rule| rule.approval);
    let mut reasons = Vec::new();
    if risk == Risk::Critical || (approval != Approval::Never && risk > limit) {
        reasons.push(Reason::Risk(risk));
    }
    if approval == Approval::Always {
        reasons.push(Reason::Tool);
    }
    reasons.extend(tainted.into_iter().map(Reason::Tainted));
    reasons
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
