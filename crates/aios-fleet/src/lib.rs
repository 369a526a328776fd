//! This device as part of a fleet: what it tells an MQTT 5 broker, and what it takes from there.
//!
//! The broker is not trusted. What arrives by it counts by its own signature, which others than this process check; so
//! this process has no rights that whoever takes it over could use.

pub mod access;
mod board;
mod courier;
pub mod daemon;
mod mirror;
pub mod operator;
mod session;
pub mod topics;
