//! Why a unit is not running: the stage that failed and the reason, in words for the operator.

use std::fmt;

/// The step at which a unit failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The unit file could not be read or is wrong.
    UnitFile,
    /// A unit that this one requires has failed, is missing or is part of a cycle.
    Dependency,
    /// The process could not be created.
    Fork,
    /// The user, its groups or the session could not be set.
    User,
    /// A runtime or state directory could not be made.
    Directories,
    /// A credential could not be handed over.
    Credentials,
    /// The control group or one of its limits could not be set.
    Cgroup,
    /// A resource limit of the process could not be set.
    Limits,
    /// The capability sets could not be set.
    Capabilities,
    /// Standard input, output or error could not be connected.
    Output,
    /// What the unit can reach could not be confined.
    Confine,
    /// The program could not be executed.
    Exec,
    /// The unit did not say that it is ready in time.
    Readiness,
    /// The process ended before it was ready.
    ExitedBeforeReady,
    /// The process ended while it was Ready.
    Running,
    /// Processes of the unit are left that SIGKILL does not end.
    Stop,
}

impl Stage {
    const ALL: [Stage; 16] = [
        Stage::UnitFile,
        Stage::Dependency,
        Stage::Fork,
        Stage::User,
        Stage::Directories,
        Stage::Credentials,
        Stage::Cgroup,
        Stage::Limits,
        Stage::Capabilities,
        Stage::Output,
        Stage::Confine,
        Stage::Exec,
        Stage::Readiness,
        Stage::ExitedBeforeReady,
        Stage::Running,
        Stage::Stop,
    ];

    /// The stage as one byte, for the pipe between a starting child and PID 1.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The stage that [`Stage::code`] made; `None` for a byte that none has.
    pub fn from_code(code: u8) -> Option<Stage> {
        Stage::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::UnitFile => "unit file",
            Stage::Dependency => "dependency",
            Stage::Fork => "fork",
            Stage::User => "user",
            Stage::Directories => "directories",
            Stage::Credentials => "credentials",
            Stage::Cgroup => "cgroup",
            Stage::Limits => "limits",
            Stage::Capabilities => "capabilities",
            Stage::Output => "output",
            Stage::Confine => "confine",
            Stage::Exec => "exec",
            Stage::Readiness => "readiness timeout",
            Stage::ExitedBeforeReady => "exited before ready",
            Stage::Running => "running",
            Stage::Stop => "stop",
        })
    }
}

/// A failed stage with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub reason: String,
}

impl Failure {
    pub fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Failure { stage, reason: reason.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;

    #[test]
    fn every_stage_survives_its_code() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_code(stage.code()), Some(stage));
        }
        assert_eq!(Stage::from_code(Stage::ALL.len() as u8), None);
    }
}
