//! What decides whether a call of a tool runs: capabilities, the policy, grants, tokens, rate limits and taint.
//!
//! Pure: no files, no clock, no randomness. The caller reads `policy.toml`, tells the time and gives the bytes of keys.

#![forbid(unsafe_code)]

pub mod capability;
pub mod decide;
pub mod policy;
pub mod taint;
pub mod time;
pub mod token;

pub use capability::Capability;
pub use decide::{Decision, Denial, Reason, Request, Risk, Stage};
pub use taint::{Origin, Taint, TaintedSink};
pub use time::Timestamp;
