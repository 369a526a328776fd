//! What a refusal tells people: what was wrong, and what would allow the call.

#[cfg(test)]
mod tests;

use std::time::Duration;

use aios_core::quantity::HumanDuration;

use crate::{
    capability::Capability,
    decide::Request,
    policy::{DEVICE_POLICY, Policy, is_agent_name},
    rate::Rate,
    taint::Origin,
    token::Verified,
};

/// Missing capabilities that are explained one by one; a call with more of them gets the number of the rest.
const EXPLAINED: usize = 8;

pub(crate) fn unknown_agent(name: &str) -> String {
    if is_agent_name(name) {
        format!("the policy knows no agent {name:?}: add a section [agents.{name}] to {DEVICE_POLICY}")
    } else {
        format!("the policy knows no agent {:?}, and can't: that is no name of one", shortened(name))
    }
}

pub(crate) fn foreign_token(agent: &str, token: &Verified) -> String {
    format!("the token was made for agent {:?}, and {agent:?} sent it: ask for one of its own", token.subject())
}

pub(crate) fn expired_token(token: &Verified) -> String {
    format!("the token was good until {}: ask {:?} for a new one", token.not_after(), token.issuer())
}

pub(crate) fn no_needs(tool: &str) -> String {
    format!("the tool {tool:?} names no capability that it needs: that is a fault of the tool, and nothing allows it")
}

pub(crate) fn tool_not_in_token(tool: &str) -> String {
    format!("the token does not allow the tool {tool:?}: ask for one that does")
}

/// What would let each missing capability pass.
pub(crate) fn missing(policy: &Policy, request: &Request<'_>, missing: &[Capability]) -> String {
    let mut sentences: Vec<String> =
        missing.iter().take(EXPLAINED).map(|need| one_missing(policy, request, need)).collect();
    if missing.len() > EXPLAINED {
        sentences.push(format!("{} more capabilities are missing", missing.len() - EXPLAINED));
    }
    sentences.join("; ")
}

fn one_missing(policy: &Policy, request: &Request<'_>, need: &Capability) -> String {
    let looked_through = request.through.contains(need);
    let denied = |agent: &str| {
        let line = policy.denied(agent, need).filter(|line| !looked_through || line.covers(need))?;
        let section = if policy.deny.contains(line) { "deny".to_owned() } else { format!("agents.{agent}.deny") };
        Some(format!("{need} is refused by the line {line} of {section} in the policy; no grant changes that"))
    };
    let Some(token) = request.token else {
        return denied(request.agent).unwrap_or_else(|| lacks(policy, request.agent, need));
    };
    if let Some(denied) = denied(request.agent).or_else(|| denied(token.issuer())) {
        return denied;
    }
    if !token.covers(need) {
        return format!("the token does not hand on {need}: ask {:?} for one that does", token.issuer());
    }
    format!("the token hands on what its issuer has not got: {}", lacks(policy, token.issuer(), need))
}

fn lacks(policy: &Policy, agent: &str, need: &Capability) -> String {
    let line = format!("the line {:?} in agents.{agent}.capabilities of {DEVICE_POLICY}", need.to_string());
    // Nobody grants what is denied to anybody in part.
    if policy.denied(agent, need).is_some() {
        return format!("agent {agent:?} lacks {need}: allow it by {line}; what is denied of it stays hidden");
    }
    let command = grant_command(agent, need);
    format!("agent {agent:?} lacks {need}: allow it for an hour with `{command}`, or for good by {line}")
}

/// The command that allows it for an hour, as a shell takes it.
fn grant_command(agent: &str, need: &Capability) -> String {
    format!("aios tool grant {agent} {} --for 1h", quoted(&need.to_string()))
}

pub(crate) fn too_often(agent: &str, of_agent: Rate, tool: &str, of_tool: Rate, wait: Duration) -> String {
    // Rounded up, so that who waits as long as this says is let through.
    let wait =
        HumanDuration(Duration::from_secs(wait.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX)));
    format!(
        "agent {agent:?} may make {of_agent} calls, and {of_tool} of the tool {tool:?}: try again in {wait}, or raise agents.{agent}.rate or agents.{agent}.tool-rate in {DEVICE_POLICY}"
    )
}

pub(crate) fn tainted(tool: &str, pointer: &str, origin: &Origin) -> String {
    format!(
        "the argument {pointer:?} of {tool:?} comes from {origin}, which a rule in taint.rules of the policy refuses: state the value yourself, or change the rule's action to \"approve\" in {DEVICE_POLICY}"
    )
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/._-,+@%=".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}
