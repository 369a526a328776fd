//! Tokens: capabilities that one agent handed to another, narrower with each hand they pass through.

use std::{collections::BTreeSet, fmt};

use crate::{capability::Capability, time::Timestamp};

/// Names a token, or what was made of it by narrowing, for revocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

/// What a token says whose signatures were checked.
///
/// It gives no right that its issuer has not got when it is used ([`crate::decide`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) not_after: Timestamp,
    pub(crate) ids: Vec<TokenId>,
    /// Of each block that narrows capabilities: one of them has to cover a need.
    pub(crate) capabilities: Vec<Vec<Capability>>,
    /// Of each block that narrows tools: the only ones.
    pub(crate) tools: Vec<BTreeSet<String>>,
}

impl Verified {
    /// The agent whose rights are handed on.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The agent that may use the token.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The last second at which it is good.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What the token and each narrowing of it is revoked by; the revocation of one is that of all behind it.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Whether each block lets `need` through.
    pub fn covers(&self, need: &Capability) -> bool {
        self.capabilities.iter().all(|block| block.iter().any(|capability| capability.covers(need)))
    }

    /// Whether each block lets the tool through.
    pub fn allows_tool(&self, tool: &str) -> bool {
        self.tools.iter().all(|block| block.contains(tool))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
