//! The policy: who is who, and who may do what (docs/formats/policy.md).

mod layers;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use aios_core::quantity::HumanDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use aios_core::config::{ConfigError as PolicyError, Layer};

use crate::{capability::Capability, decide::Risk, rate::Rate, taint::Origin};

/// The policy that came with the image.
pub const IMAGE_POLICY: &str = "/etc/aios/policy.toml";
/// The policy of this device; it wins, key by key.
pub const DEVICE_POLICY: &str = "/var/lib/aios/config/policy.toml";
/// Longest name of an agent or a tool in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// The policy in force. One without agents allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// What nobody may do, whatever they hold.
    pub deny: Vec<Capability>,
    /// What holds for an agent that doesn't say otherwise.
    pub defaults: Defaults,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// Tools by name, as far as the policy has something to say about them.
    pub tools: BTreeMap<String, ToolRule>,
    /// Which arguments are to be trusted.
    pub taint: TaintRules,
    /// How approval is given.
    pub approvals: Approvals,
    /// Grants at run time.
    pub grants: GrantRules,
}

/// `[defaults]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Defaults {
    /// The highest risk at which a call runs without approval; not critical.
    pub max_risk_without_approval: Risk,
    /// All calls of an agent.
    pub rate: Rate,
    /// An agent's calls of one tool.
    pub tool_rate: Rate,
}

/// `[agents.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Agent {
    /// User ids whose processes are this agent.
    pub uids: Vec<u32>,
    /// Names of such users, for those whose number is not fixed.
    pub users: Vec<String>,
    /// Client certificates that are this agent's.
    pub certificates: Vec<Fingerprint>,
    /// Keys whose signed answers to approvals are this agent's.
    pub keys: Vec<Fingerprint>,
    /// What it may do.
    pub capabilities: Vec<Capability>,
    /// What it may not do even so, grants and tokens included.
    pub deny: Vec<Capability>,
    /// In place of the default.
    pub max_risk_without_approval: Option<Risk>,
    /// Trusted origins that it may state for its arguments. Any other origin is taken from everybody.
    pub vouches: BTreeSet<Origin>,
    /// In place of the default.
    pub rate: Option<Rate>,
    /// Its calls of one tool, in place of the default.
    pub tool_rate: Option<Rate>,
    /// Its calls of these tools, in place of any other rate.
    pub tool_rates: BTreeMap<String, Rate>,
}

/// `[tools."NAME"]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolRule {
    /// A risk at least as high as this one.
    pub risk: Option<Risk>,
    /// When a call waits for approval.
    pub approval: Approval,
    /// In place of the default, for the calls of each agent.
    pub rate: Option<Rate>,
    /// Dangerous arguments (JSON pointers) beside those of the tool's specification.
    pub sinks: Vec<String>,
}

/// When a call of a tool waits for approval because of what the tool is. Critical risk and tainted arguments make it wait
/// whatever is said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Where its risk is above what the agent may do by itself.
    #[default]
    ByRisk,
    /// At every call.
    Always,
    /// Not even at high risk.
    Never,
}

/// `[taint]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaintRules {
    /// Origins that are trusted where the agent vouches for them.
    pub trusted: BTreeSet<Origin>,
    /// What becomes of others in a dangerous argument. The first rule that fits counts; where none does, approval is asked.
    pub rules: Vec<TaintRule>,
}

/// `[[taint.rules]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaintRule {
    /// Tools: a name, `namespace.*` or `*`.
    pub tools: Vec<String>,
    /// Origins; absent or empty: each.
    #[serde(default)]
    pub origins: BTreeSet<Origin>,
    /// What becomes of the call.
    pub action: TaintAction,
}

/// What a tainted argument does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaintAction {
    /// Nothing: the value is as good as a trusted one.
    Allow,
    /// Somebody has to see it.
    Approve,
    /// It does not run.
    Deny,
}

/// `[approvals]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approvals {
    /// After so long without an answer the answer is no.
    pub timeout: HumanDuration,
    /// Agents whose users may answer.
    pub approvers: BTreeSet<String>,
}

/// `[grants]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrantRules {
    /// Longest time that a grant or a token may be given for.
    pub max_duration: HumanDuration,
}

/// SHA-256 of a certificate (DER), or of the two public keys of a signer of notes. Written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the fingerprint of a certificate or key: write \"sha256:\" and 64 of 0-9 and a-f")]
pub struct FingerprintError(String);

/// Whom a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// A process on this device, by its socket's peer credentials.
    User {
        /// Its effective user id.
        uid: u32,
        /// The name of that user, where there is one.
        name: Option<&'a str>,
    },
    /// A holder of this certificate's key.
    Certificate(&'a Fingerprint),
    /// Whoever signed with this key.
    Key(&'a Fingerprint),
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            max_risk_without_approval: Risk::Medium,
            rate: Rate::per_minute(120),
            tool_rate: Rate::per_minute(60),
        }
    }
}

impl Default for TaintRules {
    fn default() -> Self {
        TaintRules { trusted: BTreeSet::from([Origin::User, Origin::Operator]), rules: Vec::new() }
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Approvals { timeout: HumanDuration(Duration::from_secs(120)), approvers: BTreeSet::new() }
    }
}

impl Default for GrantRules {
    fn default() -> Self {
        GrantRules { max_duration: HumanDuration(Duration::from_secs(24 * 3600)) }
    }
}

impl Policy {
    /// Merges layers in order, key by key, and checks the result. An error names file, line and key.
    pub fn from_layers(layers: &[Layer]) -> Result<Policy, PolicyError> {
        layers::from_layers(layers)
    }

    /// The agent that a connection comes from. Where the user's number and name say different agents, it is none.
    pub fn identify(&self, peer: Peer<'_>) -> Option<(&str, &Agent)> {
        let is_peer = |agent: &Agent| match peer {
            Peer::User { uid, name } => {
                agent.uids.contains(&uid) || name.is_some_and(|name| agent.users.iter().any(|user| user == name))
            }
            Peer::Certificate(fingerprint) => agent.certificates.contains(fingerprint),
            Peer::Key(fingerprint) => agent.keys.contains(fingerprint),
        };
        let mut found = self.agents.iter().filter(|(_, agent)| is_peer(agent));
        let (name, agent) = found.next()?;
        found.next().is_none().then_some((name, agent))
    }

    /// Whether users of this agent may approve calls.
    pub fn may_approve(&self, agent: &str) -> bool {
        self.approvals.approvers.contains(agent)
    }

    /// Whether the policy itself lets the agent do this, grants and tokens aside.
    pub fn holds(&self, agent: &str, need: &Capability) -> bool {
        self.lists(agent, need) && self.denied(agent, need).is_none()
    }

    /// Whether a line of the agent's capabilities covers `capability`, whatever is denied.
    pub(crate) fn lists(&self, agent: &str, capability: &Capability) -> bool {
        let agent = self.agents.get(agent);
        agent.is_some_and(|agent| agent.capabilities.iter().any(|line| line.covers(capability)))
    }

    /// The line of `deny`, of all agents or of this one, that a need touches.
    pub fn denied(&self, agent: &str, need: &Capability) -> Option<&Capability> {
        self.denials(agent).find(|denied| denied.overlaps(need))
    }

    /// The lines of `deny` that are about an agent.
    pub fn denials(&self, agent: &str) -> impl Iterator<Item = &Capability> {
        let own = self.agents.get(agent).map(|agent| agent.deny.as_slice()).unwrap_or_default();
        self.deny.iter().chain(own)
    }

    /// How many calls an agent may make, of all tools and of this one.
    pub fn rates(&self, agent: &str, tool: &str) -> (Rate, Rate) {
        let agent = self.agents.get(agent);
        let of_agent = agent.and_then(|agent| agent.rate).unwrap_or(self.defaults.rate);
        let of_tool = agent
            .and_then(|agent| agent.tool_rates.get(tool).copied())
            .or_else(|| self.tools.get(tool).and_then(|rule| rule.rate))
            .or_else(|| agent.and_then(|agent| agent.tool_rate))
            .unwrap_or(self.defaults.tool_rate);
        (of_agent, of_tool)
    }
}

impl TaintRule {
    /// Whether the rule is about this origin in an argument of this tool.
    pub fn fits(&self, tool: &str, origin: &Origin) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => tool.starts_with(prefix),
            None => pattern == tool,
        };
        self.tools.iter().any(named) && (self.origins.is_empty() || self.origins.contains(origin))
    }
}

/// Whether `name` can be a tool's: lower-case words of letters, digits, `_` and `-`, joined by dots.
pub fn is_tool_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_agent_name)
}

/// Whether `name` can be an agent's: lower-case letters, digits, `_` and `-`, a letter first.
pub fn is_agent_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError(text.chars().take(80).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?;
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let nibbles: Option<Vec<u8>> = digits.bytes().map(nibble).collect();
        let bytes: Vec<u8> =
            nibbles.ok_or_else(error)?.chunks(2).map(|pair| pair.iter().fold(0, |a, b| a << 4 | b)).collect();
        (digits.len() == 64).then_some(bytes).and_then(|bytes| bytes.try_into().ok()).map(Fingerprint).ok_or_else(error)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
