//! Rules that tie the policy's values together and that its types can't express.

use std::{collections::BTreeMap, time::Duration};

use super::{Agent, Policy, is_agent_name, is_tool_name};
use crate::{decide::Risk, taint::is_pointer};

/// A broken rule.
pub(super) struct Violation {
    /// The key, with its sections.
    pub(super) key: Vec<String>,
    pub(super) reason: String,
}

const NO_TOOL: &str = "use a tool's name, for example \"fs.read\"";
const NO_AGENT: &str = "use lower-case letters, digits, _ and -, a letter first, at most 64";
const CRITICAL: &str = "use low, medium or high: critical calls always wait for somebody";

/// The first rule that the policy breaks.
pub(super) fn violation(policy: &Policy) -> Result<(), Violation> {
    if policy.defaults.max_risk_without_approval == Risk::Critical {
        return broken(["defaults", "max-risk-without-approval"], CRITICAL);
    }
    for (name, agent) in &policy.agents {
        one_agent(name, agent)?;
    }
    identities(&policy.agents)?;
    for (name, rule) in &policy.tools {
        if !is_tool_name(name) {
            return broken(["tools", name], NO_TOOL);
        }
        if let Some(sink) = rule.sinks.iter().find(|sink| !is_pointer(sink)) {
            let reason = format!("{sink:?} is no JSON pointer: use \"/\" and the argument's name");
            return broken(["tools", name, "sinks"], &reason);
        }
    }
    for rule in &policy.taint.rules {
        if let Some(tool) = rule.tools.iter().find(|tool| !is_tool_pattern(tool)) {
            return broken(["taint", "rules"], &format!("{tool:?} is no tool: use a name, \"fs.*\" or \"*\""));
        }
        if rule.tools.is_empty() {
            return broken(["taint", "rules"], "a rule without tools fits nothing: use \"*\" for all of them");
        }
    }
    between(policy.approvals.timeout.0, 1, 3600)
        .or_else(|_| broken(["approvals", "timeout"], "use \"1s\" to \"1h\""))?;
    if let Some(stranger) = policy.approvals.approvers.iter().find(|name| !policy.agents.contains_key(*name)) {
        return broken(["approvals", "approvers"], &format!("there is no agent {stranger:?}"));
    }
    between(policy.grants.max_duration.0, 1, 366 * 86_400)
        .or_else(|_| broken(["grants", "max-duration"], "use \"1s\" to \"366d\""))
}

fn one_agent(name: &str, agent: &Agent) -> Result<(), Violation> {
    if !is_agent_name(name) {
        return broken(["agents", name], NO_AGENT);
    }
    if agent.max_risk_without_approval == Some(Risk::Critical) {
        return broken(["agents", name, "max-risk-without-approval"], CRITICAL);
    }
    match agent.tool_rates.keys().find(|tool| !is_tool_name(tool)) {
        Some(tool) => broken(["agents", name, "tool-rates", tool], NO_TOOL),
        None => Ok(()),
    }
}

/// No user, no certificate and no key may be two agents.
fn identities(agents: &BTreeMap<String, Agent>) -> Result<(), Violation> {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, agent) in agents {
        let uids = agent.uids.iter().map(|uid| ("uids", format!("user id {uid}")));
        let users = agent.users.iter().map(|user| ("users", format!("user {user:?}")));
        let certificates = agent.certificates.iter().map(|print| ("certificates", format!("certificate {print}")));
        let keys = agent.keys.iter().map(|print| ("keys", format!("key {print}")));
        for (key, identity) in uids.chain(users).chain(certificates).chain(keys) {
            match owners.get(&identity) {
                Some(owner) if owner != name => {
                    let reason = format!("{identity} is agent {owner:?} already: each belongs to one agent");
                    return broken(["agents", name, key], &reason);
                }
                _ => owners.insert(identity, name),
            };
        }
    }
    Ok(())
}

fn is_tool_pattern(pattern: &str) -> bool {
    pattern == "*" || is_tool_name(pattern.strip_suffix(".*").unwrap_or(pattern))
}

fn between(duration: Duration, least: u64, most: u64) -> Result<(), ()> {
    (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&duration).then_some(()).ok_or(())
}

fn broken<const N: usize>(key: [&str; N], reason: &str) -> Result<(), Violation> {
    Err(Violation { key: key.map(str::to_owned).to_vec(), reason: reason.into() })
}
