//! The real `aios-init` as PID 1 of a namespace of its own, with small services. Each test waits for what it expects on
//! the console, on the control socket or in a file; none sleeps and hopes.
//!
//! Needs root, or a kernel that lets users make user namespaces.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod control;
mod faults;
mod harness;
mod identity;
mod lifecycle;
mod logs;
mod order;
mod service;
