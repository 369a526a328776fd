//! A unit as the tools show it.

use aios_core::control::{UnitState, UnitStatus};
use schemars::JsonSchema;
use serde::Serialize;

use crate::text::{plain, tenths};

/// Longest text of a unit's own that is shown, in characters.
const TEXT_MAX: usize = 400;

/// State of one unit.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Unit {
    /// Name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// `stopped`, `waiting`, `starting`, `ready`, `stopping`, `backoff` (starts again after a delay) or `failed`.
    pub state: &'static str,
    /// Seconds in this state.
    pub since_s: f64,
    /// Main process, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Restarts since boot that nobody asked for.
    pub restarts: u32,
    /// What it last said about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Memory of all its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl From<UnitStatus> for Unit {
    fn from(unit: UnitStatus) -> Self {
        let text = |text: String| plain(&text, TEXT_MAX);
        Unit {
            state: word(unit.state),
            name: unit.name,
            description: text(unit.description),
            since_s: tenths(unit.since_s),
            pid: unit.pid,
            restarts: unit.restarts,
            status: unit.status.map(text),
            failure: unit.failure.map(text),
            memory_bytes: unit.memory_bytes,
        }
    }
}

fn word(state: UnitState) -> &'static str {
    match state {
        UnitState::Stopped => "stopped",
        UnitState::Waiting => "waiting",
        UnitState::Starting => "starting",
        UnitState::Ready => "ready",
        UnitState::Stopping => "stopping",
        UnitState::Backoff => "backoff",
        UnitState::Failed => "failed",
    }
}

/// Whether somebody wants the unit to run: what a start would not change.
pub fn is_wanted(state: UnitState) -> bool {
    !matches!(state, UnitState::Stopped | UnitState::Stopping | UnitState::Failed)
}
