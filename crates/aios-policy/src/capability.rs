//! Capabilities: `namespace:action:resource`, for example `fs:write:/var/log/**`.
//!
//! A capability is a pattern. What an agent holds and what a call needs are both written this way; a call's needs have
//! no wildcard as a rule ([`Capability::exact`]), and where they do, all that they match has to be covered.

mod matching;
mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use parse::{CapabilityError, Fault};

/// Longest capability in bytes: the longest path of Linux, with room for the names before it.
pub const MAX_BYTES: usize = 4096 + 128;

/// Longest namespace or action in bytes.
pub const MAX_NAME_BYTES: usize = 32;

/// What may be done to what.
///
/// The namespace and the action are names (`a-z`, `0-9`, `_`, `-`) or `*` for any. In the resource, `*` stands for any
/// number of characters other than `/`, `**` for any number of any characters, and `\` takes the meaning from a `*` or
/// `\` behind it. A resource that begins with `/` is a path: absolute and normalised. In the namespace `fs` all are, or
/// `**`. In no resource is a segment `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability {
    namespace: Name,
    action: Name,
    resource: Vec<Symbol>,
}

/// A namespace or an action.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Name {
    /// `*`
    Any,
    Is(String),
}

/// One place in a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Symbol {
    /// This character.
    Char(char),
    /// `*`: any characters but `/`.
    Segment,
    /// `**`: any characters.
    Any,
}

impl Capability {
    /// The capability for exactly this resource: `*` and `\` in it mean themselves.
    ///
    /// Call this with a path that the caller chose; [`str::parse`] would read a `*` in it as a wildcard.
    pub fn exact(namespace: &str, action: &str, resource: &str) -> Result<Capability, CapabilityError> {
        parse::exact(namespace, action, resource)
    }

    /// The capability `namespace:action:resource` without wildcards: what stands behind the second colon means itself.
    pub fn literal(text: &str) -> Result<Capability, CapabilityError> {
        match text.splitn(3, ':').collect::<Vec<_>>()[..] {
            [namespace, action, resource] => parse::exact(namespace, action, resource),
            _ => text.parse(),
        }
    }

    /// All that is below the folder `path`, at any depth; the folder itself is not. What walks through folders needs
    /// this beside the folder's own capability.
    pub fn below(namespace: &str, action: &str, path: &str) -> Result<Capability, CapabilityError> {
        let mut capability = parse::exact(namespace, action, path)?;
        if capability.resource != [Symbol::Char('/')] {
            capability.resource.push(Symbol::Char('/'));
        }
        capability.resource.push(Symbol::Any);
        Ok(capability)
    }

    /// Whether all that `narrower` allows is allowed by `self` too.
    ///
    /// Never true wrongly. It may be false where `self` covers `narrower` only for reasons beyond the wildcards, for
    /// example because no path has an empty segment.
    pub fn covers(&self, narrower: &Capability) -> bool {
        self.namespace.covers(&narrower.namespace)
            && self.action.covers(&narrower.action)
            && matching::includes(&self.resource, &narrower.resource)
    }

    /// Whether there is anything that both allow. Never false wrongly: a refusal goes by this.
    pub fn overlaps(&self, other: &Capability) -> bool {
        self.namespace.overlaps(&other.namespace)
            && self.action.overlaps(&other.action)
            && matching::intersect(&self.resource, &other.resource)
    }

    /// Whether it has no wildcard.
    pub fn is_exact(&self) -> bool {
        !matches!((&self.namespace, &self.action), (Name::Any, _) | (_, Name::Any))
            && self.resource.iter().all(|symbol| matches!(symbol, Symbol::Char(_)))
    }

    /// The namespace; `*` for any.
    pub fn namespace(&self) -> &str {
        self.namespace.as_str()
    }

    /// The action; `*` for any.
    pub fn action(&self) -> &str {
        self.action.as_str()
    }

    /// The resource as it is written, with wildcards and backslashes.
    pub fn resource(&self) -> String {
        Resource(&self.resource).to_string()
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        parse::capability(text)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.namespace(), self.action(), Resource(&self.resource))
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Name {
    fn covers(&self, narrower: &Name) -> bool {
        *self == Name::Any || self == narrower
    }

    fn overlaps(&self, other: &Name) -> bool {
        self.covers(other) || *other == Name::Any
    }

    fn as_str(&self) -> &str {
        match self {
            Name::Any => "*",
            Name::Is(name) => name,
        }
    }
}

struct Resource<'a>(&'a [Symbol]);

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|symbol| match symbol {
            Symbol::Char(c @ ('*' | '\\')) => write!(f, "\\{c}"),
            Symbol::Char(c) => write!(f, "{c}"),
            Symbol::Segment => f.write_str("*"),
            Symbol::Any => f.write_str("**"),
        })
    }
}
