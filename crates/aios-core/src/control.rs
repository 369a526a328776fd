//! The control protocol of PID 1: one JSON object a line, over the Unix socket [`crate::paths::INIT_SOCKET`].
//!
//! A connection carries one request and its answer: a single [`Response`], or for [`Request::Log`] a [`Response::Log`] per
//! line until the log's end (or, when following, until the client hangs up). Only uid 0 may do more than ask for status.

use serde::{Deserialize, Serialize};

/// What a client asks of PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// All units, or one. Answered by [`Response::Status`].
    Status {
        /// Name of a unit; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Starts a unit and what it requires. Answered when it is Ready or has failed.
    Start {
        /// Name of the unit.
        unit: String,
    },
    /// Stops a unit and what requires it. Answered when it is Stopped.
    Stop {
        /// Name of the unit.
        unit: String,
    },
    /// Stops a unit and starts it again; also forgives its earlier failures. Answered when it is Ready or has failed.
    Restart {
        /// Name of the unit.
        unit: String,
    },
    /// The unit's captured output.
    Log {
        /// Name of the unit.
        unit: String,
        /// Go on with new lines as they come.
        #[serde(default)]
        follow: bool,
        /// Begin with only the last so many lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<usize>,
    },
    /// Stops all units in order and switches the machine off.
    PowerOff,
    /// Stops all units in order and starts the machine again.
    Reboot,
}

/// What PID 1 answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// The request was carried out.
    Done,
    /// State of the system.
    Status(SystemStatus),
    /// One line of a unit's log.
    Log(LogLine),
    /// The request could not be carried out.
    Error {
        /// What happened and what to do.
        message: String,
    },
}

/// State of the whole system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemStatus {
    /// Version of aiOS.
    pub version: String,
    /// Host name in force.
    pub hostname: String,
    /// Seconds since the kernel started.
    pub uptime_s: f64,
    /// Boot stages that failed or had nothing to work with, with their reasons; empty after a clean boot.
    pub boot_failures: Vec<String>,
    /// The units asked for, by name.
    pub units: Vec<UnitStatus>,
}

/// State of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Name: the unit file's name without `.toml`.
    pub name: String,
    /// One line from the unit file.
    pub description: String,
    /// State now.
    pub state: UnitState,
    /// Main process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Seconds in this state.
    pub since_s: f64,
    /// Restarts since boot that nobody asked for.
    pub restarts: u32,
    /// Last `STATUS=` the unit reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed last, with the stage: `readiness: no READY=1 within 90s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Memory of its control group in bytes, where the kernel counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// States of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnitState {
    /// Not running, and nobody wants it to.
    Stopped,
    /// Wanted; something it comes after is not Ready yet.
    Waiting,
    /// Its process runs and has not reported that it is ready.
    Starting,
    /// Running and ready, or a one-shot that ended well.
    Ready,
    /// Told to end, and not ended yet.
    Stopping,
    /// Ended by itself; starts again after a delay.
    Backoff,
    /// Given up on. `restart` forgives.
    Failed,
}

/// One line that a unit wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Seconds since the kernel started.
    pub at_s: f64,
    /// The line without its end.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_an_operator_would_type_them() {
        let request: Request = serde_json::from_str(r#"{"request":"log","unit":"runtime","follow":true}"#).unwrap();
        assert_eq!(request, Request::Log { unit: "runtime".into(), follow: true, lines: None });
        let request: Request = serde_json::from_str(r#"{"request":"power-off"}"#).unwrap();
        assert_eq!(request, Request::PowerOff);
        assert!(serde_json::from_str::<Request>(r#"{"request":"stop","unit":"a","force":1}"#).is_err());
    }
}
