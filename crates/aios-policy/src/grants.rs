//! Grants: capabilities given to an agent at run time, for a while.
//!
//! A grant is worth what its giver may do by the policy at the moment of use: when the policy takes a right from the
//! giver, it takes it from those the giver gave it to.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    capability::Capability,
    policy::{MAX_NAME_BYTES, Policy},
    time::Timestamp,
    token::Authority,
};

/// Grants that may be in force at once.
pub const MAX_GRANTS: usize = 1024;

/// Number of a grant; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub u64);

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    /// Its number.
    pub id: GrantId,
    /// The agent that may use it.
    pub subject: String,
    /// What the agent may do.
    pub capability: Capability,
    /// The agent that gave it.
    pub granted_by: String,
    /// Since when.
    pub granted_at: Timestamp,
    /// The first second at which it no longer holds.
    pub expires: Timestamp,
}

/// All grants, as they are kept across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grants {
    last_id: u64,
    grants: BTreeMap<GrantId, Grant>,
}

/// Why a grant, or a token, can't be given or taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The policy knows no such agent.
    #[error("there is no agent {0:?} in the policy: its sections [agents.NAME] are all there are")]
    UnknownAgent(String),
    /// Nobody gives to themselves.
    #[error("agent {0:?} can't grant to itself; ask another one that holds the capability")]
    SelfGrant(String),
    /// The giver has it not.
    #[error("agent {granter:?} does not hold {capability} by the policy, so it can't hand it on")]
    NotHeld {
        /// Who wanted to give it.
        granter: String,
        /// What.
        capability: Capability,
    },
    /// The giver may not give.
    #[error("agent {granter:?} may not do this: it needs {needed}")]
    MayNot {
        /// Who wanted to do it.
        granter: String,
        /// The capability for it.
        needed: Capability,
    },
    /// The policy denies it to the subject.
    #[error("the policy denies {denied} to agent {subject:?} whatever it is granted")]
    Denied {
        /// To whom it was to be given.
        subject: String,
        /// The line of `deny`.
        denied: Capability,
    },
    /// For no time at all, or for too long.
    #[error("can't be given for {} s: use 1 s to {} s (grants.max-duration)", asked.as_secs(), longest.as_secs())]
    Duration {
        /// For how long it was to be.
        asked: Duration,
        /// The longest that the policy allows.
        longest: Duration,
    },
    /// [`MAX_GRANTS`] are in force.
    #[error("{MAX_GRANTS} grants are in force, which is the most there can be; revoke one first")]
    TooMany,
    /// No such grant.
    #[error("there is no grant {0}; it may have expired")]
    NoGrant(GrantId),
}

impl Grants {
    /// Gives `capability` to `subject` for `duration`.
    ///
    /// The giver has to hold it by the policy (what was granted isn't handed on), and `policy:grant:SUBJECT` as well.
    pub fn add(
        &mut self,
        policy: &Policy,
        granter: &str,
        subject: &str,
        capability: Capability,
        duration: Duration,
        now: Timestamp,
    ) -> Result<&Grant, GrantError> {
        self.expire(now);
        if granter == subject {
            return Err(GrantError::SelfGrant(subject.into()));
        }
        let given = [&capability];
        check(policy, Step { verb: "grant", granter, subject }, &given, duration)?;
        if self.grants.len() >= MAX_GRANTS {
            return Err(GrantError::TooMany);
        }
        self.last_id += 1;
        let id = GrantId(self.last_id);
        let grant = Grant {
            id,
            subject: subject.into(),
            capability,
            granted_by: granter.into(),
            granted_at: now,
            expires: now.after(duration),
        };
        Ok(self.grants.entry(id).or_insert(grant))
    }

    /// Takes a grant back, with effect on the next call. Its giver and its subject may, and who holds
    /// `policy:revoke:SUBJECT`.
    pub fn revoke(&mut self, policy: &Policy, revoker: &str, id: GrantId) -> Result<Grant, GrantError> {
        let grant = self.grants.get(&id).ok_or(GrantError::NoGrant(id))?;
        if revoker != grant.granted_by && revoker != grant.subject {
            may(policy, "revoke", revoker, &grant.subject)?;
        }
        self.grants.remove(&id).ok_or(GrantError::NoGrant(id))
    }

    /// Drops what has expired, and returns it. Decisions don't wait for this: they go by the time.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Grant> {
        let expired = |grant: &Grant| grant.expires <= now;
        let dropped = self.grants.values().filter(|grant| expired(grant)).cloned().collect();
        self.grants.retain(|_, grant| !expired(grant));
        dropped
    }

    /// The grants to an agent whose time is now.
    ///
    /// That of one which was given later than `now` isn't: the clock was set back, and it may have expired.
    pub fn of(&self, subject: &str, now: Timestamp) -> impl Iterator<Item = &Grant> {
        let is_of = move |grant: &&Grant| grant.subject == subject && grant.granted_by != subject;
        self.grants.values().filter(is_of).filter(move |grant| grant.granted_at <= now && now < grant.expires)
    }

    /// All grants, oldest first, those that hold no longer included.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// Whether an agent may do this by the policy, or by a grant whose giver may do it by the policy.
    pub fn hold(&self, policy: &Policy, agent: &str, need: &Capability, now: Timestamp) -> bool {
        policy.denied(agent, need).is_none() && self.give(policy, agent, need, now)
    }

    /// The same, whatever is denied to the agent itself.
    pub(crate) fn give(&self, policy: &Policy, agent: &str, need: &Capability, now: Timestamp) -> bool {
        let holds = |grant: &Grant| grant.capability.covers(need) && policy.holds(&grant.granted_by, need);
        let granted = || policy.agents.contains_key(agent) && self.of(agent, now).any(holds);
        policy.lists(agent, need) || granted()
    }
}

/// Whether the token may be made: its issuer has to hold its capabilities by the policy, and `policy:delegate:SUBJECT`.
///
/// This only spares the issuer a useless token. A token gives nothing that its issuer does not hold at its use.
pub fn check_delegation(policy: &Policy, authority: &Authority, now: Timestamp) -> Result<(), GrantError> {
    let step = Step { verb: "delegate", granter: &authority.issuer, subject: &authority.subject };
    let given: Vec<&Capability> = authority.capabilities.iter().collect();
    let duration = Duration::from_secs(authority.not_after.0.saturating_sub(now.0));
    check(policy, step, &given, duration)
}

/// Who gives to whom.
#[derive(Clone, Copy)]
struct Step<'a> {
    verb: &'static str,
    granter: &'a str,
    subject: &'a str,
}

fn check(policy: &Policy, step: Step<'_>, given: &[&Capability], asked: Duration) -> Result<(), GrantError> {
    let Step { verb, granter, subject } = step;
    if let Some(stranger) = [granter, subject].into_iter().find(|name| !policy.agents.contains_key(*name)) {
        return Err(GrantError::UnknownAgent(stranger.chars().take(MAX_NAME_BYTES).collect()));
    }
    may(policy, verb, granter, subject)?;
    for &capability in given {
        // What is denied to the giver in part only is so at each use.
        let useless = |agent: &str| policy.denials(agent).find(|denied| denied.covers(capability));
        if !policy.lists(granter, capability) || useless(granter).is_some() {
            return Err(GrantError::NotHeld { granter: granter.into(), capability: capability.clone() });
        }
        if let Some(denied) = useless(subject) {
            return Err(GrantError::Denied { subject: subject.into(), denied: denied.clone() });
        }
    }
    let longest = policy.grants.max_duration.0;
    match (Duration::from_secs(1)..=longest).contains(&asked) {
        true => Ok(()),
        false => Err(GrantError::Duration { asked, longest }),
    }
}

/// Whether `granter` holds `policy:VERB:SUBJECT`.
fn may(policy: &Policy, verb: &str, granter: &str, subject: &str) -> Result<(), GrantError> {
    let unknown = |_| GrantError::UnknownAgent(subject.into());
    let needed = Capability::exact("policy", verb, subject).map_err(unknown)?;
    match policy.holds(granter, &needed) {
        true => Ok(()),
        false => Err(GrantError::MayNot { granter: granter.into(), needed }),
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
