//! The border: what runs a job where it sees only what the call may touch.

use std::{path::PathBuf, time::Duration};

use crate::{
    access::Access,
    job::{Answer, Job},
    pipeline::Recorded,
};

/// One step of a call, to be done inside.
#[derive(Debug)]
pub struct Work<'a> {
    /// What it may touch.
    pub access: &'a Access,
    /// The call's part of the journal, where the step needs it.
    pub journal: Option<JournalView>,
    /// What is to be done.
    pub job: &'a Job,
    /// It is ended after this long.
    pub timeout: Duration,
}

/// A call's part of the journal, as a step sees it.
#[derive(Clone, Debug)]
pub struct JournalView {
    /// Where it lies.
    pub folder: PathBuf,
    /// Whether the step may write there.
    pub writable: bool,
}

/// Why a step has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfineError {
    /// It could not be confined, so it was not begun. What would help may be said, too.
    Refused {
        /// What happened.
        message: String,
        /// What would help.
        hint: String,
    },
    /// It was begun, and ended without an answer: too long, too large, killed.
    Broken(crate::error::ToolError),
}

/// Runs jobs confined. Takes the proof that the call's decision is recorded, so nothing runs without.
pub trait Confinement: Send + Sync {
    /// Does a step.
    fn perform(&self, recorded: &Recorded, work: &Work<'_>) -> Result<Answer, ConfineError>;
}
