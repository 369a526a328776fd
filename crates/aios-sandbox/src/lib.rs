//! Runs one function call in a process that sees and reaches only what its [`Profile`] names.
//!
//! A program that runs tools calls [`serve_if_asked`] first of all in `main`, then [`Sandbox::start`] once, and
//! [`Sandbox::run`] for each call, from any thread:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use aios_sandbox::{Options, Profile, Sandbox};
//!
//! fn handler(input: &[u8]) -> Vec<u8> {
//!     input.iter().rev().copied().collect()
//! }
//!
//! fn main() -> Result<(), aios_sandbox::Error> {
//!     aios_sandbox::serve_if_asked(handler);
//!     let sandbox = Sandbox::start(Options::default())?;
//!     let outcome = sandbox.run(&Profile::default(), b"abc", Duration::from_secs(5))?;
//!     assert_eq!(outcome.output, b"cba");
//!     Ok(())
//! }
//! ```
//!
//! `start` executes the same program again as a fork server, which has one thread and none of the daemon's memory. Each
//! call is a child of that server, so a call can't read the daemon's keys and tokens even before it is confined. What
//! each layer keeps out is told in `docs/sandbox.md`.

mod child;
mod error;
mod groups;
mod layers;
mod outcome;
mod plan;
mod profile;
mod sandbox;
mod server;
mod sys;
mod wire;

pub use error::Error;
#[cfg(feature = "mutation")]
pub use layers::Layer;
pub use outcome::{Exit, Outcome, STDERR_TAIL, Usage};
pub use profile::{Capability, ExtraMount, Identity, Limits, Network, Processes, Profile};
pub use sandbox::{Enforcement, Options, Sandbox};
pub use server::{Handler, serve_if_asked};
