//! Plugins as their makers write them, and as attackers do.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod files;
mod hostile;
mod modules;
mod support;
mod useful;
