//! Who calls, and what they could be allowed.

use aios_policy::{Capability, Peer, Policy, Timestamp, Token, Verified, could_call};

use super::{Pipeline, Refusal, Stage, now};
use crate::tool::ToolSpec;

/// Who calls. Whoever makes one has made sure of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process on this device, as the kernel says.
    User {
        /// User id of the process.
        uid: u32,
        /// Name of that user, where there is one.
        name: Option<String>,
    },
    /// Whoever has this token, wherever they are: the agent that the token is for, with the token's rights alone. The
    /// token is checked at every call.
    Bearer(Token),
}

impl Pipeline {
    /// The agent that a caller is.
    pub fn identify(&self, caller: &Caller) -> Result<String, Refusal> {
        self.agent(&self.policy(), caller)
    }

    /// What a token says that is good now, and whose agent there is.
    pub fn bearer(&self, token: &Token) -> Result<Verified, Refusal> {
        let verified = self.verified(token.as_str(), now())?;
        self.identify(&Caller::Bearer(token.clone())).map(|_| verified)
    }

    /// Whether the caller could be allowed a call of this tool, with some arguments, now.
    pub fn could_call(&self, caller: &Caller, token: &str, tool: &ToolSpec) -> Result<bool, Refusal> {
        let (policy, now) = (self.policy(), now());
        let agent = self.agent(&policy, caller)?;
        let token = self.token(caller, token, now)?;
        let patterns: Vec<Capability> = tool.needs.iter().filter_map(|need| pattern(need)).collect();
        Ok(could_call(&policy, &self.grants(), &agent, token.as_ref(), tool.name, &patterns, now))
    }

    pub(super) fn agent(&self, policy: &Policy, caller: &Caller) -> Result<String, Refusal> {
        match caller {
            Caller::User { uid, name } => {
                let peer = Peer::User { uid: *uid, name: name.as_deref() };
                policy.identify(peer).map(|(name, _)| name.to_owned()).ok_or_else(|| {
                    let who = name.clone().unwrap_or_else(|| uid.to_string());
                    let policy = aios_policy::policy::DEVICE_POLICY;
                    let hint = format!("name the user in an agent's `users` or `uids` in {policy}");
                    Refusal::new(Stage::Identity, format!("user {who} is no agent"), hint)
                })
            }
            Caller::Bearer(token) => {
                let subject = self.verified(token.as_str(), now())?.subject().to_owned();
                if policy.agents.contains_key(&subject) {
                    return Ok(subject);
                }
                let hint = format!("it needs a section in {}", aios_policy::policy::DEVICE_POLICY);
                Err(Refusal::new(Stage::Identity, format!("the token is for {subject}, who is no agent"), hint))
            }
        }
    }

    /// The token that a call goes by: the one that came with it, or the one that its caller is known by.
    pub(super) fn token(&self, caller: &Caller, given: &str, now: Timestamp) -> Result<Option<Verified>, Refusal> {
        match caller {
            Caller::User { .. } if given.is_empty() => Ok(None),
            Caller::User { .. } => self.verified(given, now).map(Some),
            Caller::Bearer(own) if given.is_empty() => self.verified(own.as_str(), now).map(Some),
            Caller::Bearer(_) => {
                let text = "the call carries a token beside the one that says who calls";
                Err(Refusal::new(Stage::Identity, text, "narrow that one, and use the narrower one alone"))
            }
        }
    }

    fn verified(&self, token: &str, now: Timestamp) -> Result<Verified, Refusal> {
        let verified = self.verifier.verify(token, now);
        verified.map_err(|error| Refusal::new(Stage::Identity, error.to_string(), "ask its issuer for a new one"))
    }
}

/// All capabilities that `need` can stand for: `fs:read:**` for `fs:read:{path}`.
pub(crate) fn pattern(need: &str) -> Option<Capability> {
    let mut parts = need.split('{');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        text.push_str("**");
        text.push_str(part.split_once('}')?.1);
    }
    text.parse().ok()
}

/// How the ledger names a caller that is no agent.
pub(super) fn stranger(caller: &Caller) -> String {
    match caller {
        Caller::User { uid, .. } => format!("uid:{uid}"),
        Caller::Bearer(_) => "bearer".to_owned(),
    }
}
