//! A chain of tools that succeeded for a goal, found again for the same goal in other words.
//!
//! A chain that is used without a model must not be used for something else, so whatever is not clear is refused, and
//! costs a call of the model instead of a wrong action. Embeddings alone can't tell: "enable the firewall" and "disable
//! the firewall" are near neighbours. So a goal has to agree with the pattern's in what is to be done, to what, under
//! which conditions and limits, before likeness is looked at ([`Refusal`] says how they differ).
//!
//! Values that differ (a unit, a path, a number) are filled in where the chain's arguments show plainly where they belong:
//! an argument that is the value, or the value with a unit's suffix. A chain that has the value elsewhere too, or names
//! paths and addresses that the goal does not name, may depend on the value in ways that can't be seen: it is used again
//! with the same value only.

mod find;
mod goal;
mod lexicon;
mod reliability;
mod slots;

use serde_json::{Map, Value};

pub use self::{find::find, reliability::reliability};

/// A call of a tool in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the tool.
    pub tool: String,
    /// What it was called with.
    pub arguments: Map<String, Value>,
}

/// A chain that succeeded for a goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Number of the pattern.
    pub id: u64,
    /// The goal as it was stated.
    pub goal: String,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// How often it succeeded, the first time included.
    pub successes: u32,
    /// How often it failed.
    pub failures: u32,
}

/// Limits of what is offered. [`Options::default`] has the documented values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Least likeness of two goals, from 0 to 1.
    pub likeness: f64,
    /// How much better the best has to be than the next one with another chain.
    pub margin: f64,
    /// Least [`reliability()`] of a pattern.
    pub reliability: f64,
}

impl Default for Options {
    fn default() -> Options {
        Options { likeness: 0.7, margin: 0.03, reliability: 0.2 }
    }
}

/// A pattern that may be used for a goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Number of the pattern.
    pub id: u64,
    /// What to do, with the goal's own values in it.
    pub steps: Vec<Step>,
    /// How alike the goals are: 1 for the same words.
    pub likeness: f64,
    /// Values of the pattern's goal and what stands in their place, in the order of the goal. Empty where the chain is
    /// used as it was.
    pub replaced: Vec<(String, String)>,
}

/// What was found for a goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The pattern to use, if one is clear.
    pub best: Option<Match>,
    /// Why the others are not used, by number of the pattern.
    pub refused: Vec<(u64, Refusal)>,
}

/// Why a pattern is not used for a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Something else is to be done, or in another order.
    Action,
    /// A negation, a condition or a limit differs: not, only, all, without, before, outgoing.
    Limit,
    /// It is to be done to another kind of thing.
    Object,
    /// A word differs that may matter.
    Word,
    /// A value differs, and it is not clear where it belongs in the chain.
    Value,
    /// The goals are not alike enough.
    Unlike,
    /// Another pattern is about as good, and does something else.
    Ambiguous,
    /// It failed too often.
    Unreliable,
    /// Another one is better.
    Worse,
}
