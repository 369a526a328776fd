//! What decides whether a call of a tool runs: capabilities, the policy, grants, tokens, rate limits and taint.
//!
//! Pure: no files, no clock, no randomness. The caller reads `policy.toml`, tells the time and gives the bytes of keys.

#![forbid(unsafe_code)]

pub mod capability;
pub mod decide;
mod explain;
pub mod grants;
pub mod policy;
pub mod rate;
pub mod reach;
pub mod taint;
pub mod time;
pub mod token;

pub use capability::Capability;
pub use decide::{Decision, Denial, Reason, Request, Risk, Stage, decide};
pub use grants::{Grant, GrantId, Grants};
pub use policy::{Peer, Policy};
pub use rate::RateLimiter;
pub use reach::could_call;
pub use taint::{Origin, Taint, TaintedSink};
pub use time::Timestamp;
pub use token::{Token, Verified, Verifier};
