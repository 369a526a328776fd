//! The sandbox, as the pipeline uses it.

use aios_sandbox::{Error, Exit, Outcome, Sandbox};

use crate::{
    error::{Code, ToolError},
    job::Answer,
    pipeline::{ConfineError, Confinement, Recorded, Work},
    profile::{self, Blank},
};

/// Runs each step in a process of its own.
pub struct Confined {
    sandbox: Sandbox,
    blank: Blank,
}

impl Confined {
    /// Steps run in `sandbox`, where `blank` is shown in place of what is hidden.
    pub fn new(sandbox: Sandbox, blank: Blank) -> Confined {
        Confined { sandbox, blank }
    }
}

impl Confinement for Confined {
    fn perform(&self, _recorded: &Recorded, work: &Work<'_>) -> Result<Answer, ConfineError> {
        let refused = |message: String| ConfineError::Refused { message, hint: String::new() };
        let profile = profile::of(work.access, work.journal.as_ref(), work.timeout, &self.blank)
            .map_err(|error| refused(error.to_string()))?;
        let input = serde_json::to_vec(work.job).expect("invariant: a job's keys are texts, so it is JSON");
        match self.sandbox.run(&profile, &input, work.timeout) {
            Ok(outcome) => answer(&outcome, work),
            Err(error @ Error::ServerDied { .. }) => {
                Err(ConfineError::Broken(ToolError::new(Code::Failed, error.to_string())))
            }
            // The path is the caller's or the tool's: what the system says of it is what a tool would say.
            Err(Error::Path { path, source }) => Err(ConfineError::Broken(ToolError::io(&path, &source))),
            Err(error) => Err(refused(error.to_string())),
        }
    }
}

fn answer(outcome: &Outcome, work: &Work<'_>) -> Result<Answer, ConfineError> {
    let broken = |code, message: String| Err(ConfineError::Broken(ToolError::new(code, message)));
    match outcome.exit {
        Exit::Returned => match serde_json::from_slice(&outcome.output) {
            Ok(answer) => Ok(answer),
            Err(error) => broken(Code::Failed, format!("the tool's answer can't be read: {error}")),
        },
        Exit::TimedOut => {
            let text = format!("it took longer than {} s, and was ended", work.timeout.as_secs_f32());
            broken(Code::TimedOut, text)
        }
        Exit::OutOfMemory => broken(Code::TooLarge, "it needed more memory than a tool gets, and was ended".into()),
        Exit::OutOfCpuTime => {
            broken(Code::TimedOut, "it needed more processor time than a tool gets, and was ended".into())
        }
        Exit::OutputTooLarge => broken(Code::TooLarge, "its result is larger than a result may be".into()),
        Exit::Exited(code) => {
            tracing::warn!(code, stderr = outcome.stderr, "tool ended early");
            broken(
                Code::Failed,
                format!("the tool's process ended by itself with status {code}; `aios log tools` says more"),
            )
        }
        Exit::Signalled(signal) => {
            tracing::warn!(signal, stderr = outcome.stderr, "tool was killed");
            broken(Code::Failed, format!("the tool's process was ended by signal {signal}; `aios log tools` says more"))
        }
    }
}
