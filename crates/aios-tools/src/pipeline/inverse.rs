//! What undoes a call, found out and kept in the journal before it runs.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use super::{ConfineError, JournalView, Pipeline, Recorded, Refusal, Stage, Work, form::Formed, time_text};
use crate::{
    error::ToolError,
    job::{Answer, Job, Saved},
    journal::{Record, State},
    tool::Inverse,
};

/// Time for finding out and keeping what undoes a call.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of a call's inverse before it runs.
pub(super) enum Prepared {
    /// It is kept.
    Kept(Box<Record>),
    /// There is nothing to undo.
    Nothing,
    /// The tool itself failed over it, so it is not run.
    Failed(ToolError),
}

impl Prepared {
    pub fn record(&self) -> Option<&Record> {
        match self {
            Prepared::Kept(record) => Some(record),
            Prepared::Nothing | Prepared::Failed(_) => None,
        }
    }
}

fn refused(message: String) -> Refusal {
    Refusal::new(Stage::Inverse, message, "nothing was changed; a call that can't be undone is not made")
}

impl Pipeline {
    /// Keeps what undoes the call.
    pub(super) fn prepare(
        &self,
        recorded: &Recorded,
        call_id: &str,
        agent: &str,
        formed: &Formed,
        shown: Value,
    ) -> Result<Prepared, Refusal> {
        let spec = formed.tool.spec;
        if !spec.reversible {
            return Ok(Prepared::Nothing);
        }
        let folder = self.journal.begin(call_id).map_err(|error| refused(error.to_string()))?;
        let kept = self.keep(recorded, call_id, agent, formed, shown, folder);
        if !matches!(kept, Ok(Prepared::Kept(_))) {
            let _ = self.journal.forget(call_id);
        }
        kept
    }

    fn keep(
        &self,
        recorded: &Recorded,
        call_id: &str,
        agent: &str,
        formed: &Formed,
        shown: Value,
        folder: PathBuf,
    ) -> Result<Prepared, Refusal> {
        let spec = formed.tool.spec;
        let job = Job::Prepare { tool: spec.name.to_owned(), arguments: formed.arguments.clone() };
        let journal = Some(JournalView { folder, writable: true });
        let work = Work { access: &formed.access, journal, job: &job, timeout: PREPARE_TIMEOUT };
        let (inverse, saved) = match self.confinement.perform(recorded, &work) {
            Ok(Answer::Prepared { inverse: Inverse::Nothing, .. }) => return Ok(Prepared::Nothing),
            Ok(Answer::Prepared { inverse, saved }) => (inverse, saved),
            Ok(Answer::Failed { error, .. }) | Err(ConfineError::Broken(error)) => return Ok(Prepared::Failed(error)),
            Ok(Answer::NotKept { error }) => {
                return Err(refused(format!("what would undo it can't be kept: {}", error.message)));
            }
            Ok(other) => return Err(refused(format!("the sandbox answered something else: {other:?}"))),
            Err(ConfineError::Refused { message, hint }) => return Err(Refusal::new(Stage::Sandbox, message, hint)),
        };
        let record = Record {
            call_id: call_id.to_owned(),
            tool: spec.name.to_owned(),
            agent: agent.to_owned(),
            arguments: shown,
            time: time_text(),
            state: State::Prepared,
            inverse,
            access: formed.access.clone(),
            saved,
            after: None,
        };
        self.journal.write(&record).map_err(|error| refused(error.to_string()))?;
        Ok(Prepared::Kept(Box::new(record)))
    }

    /// Notes in the journal that the call ran. A failure is only told: the rollback is right without the note.
    pub(super) fn done(&self, record: &Record, after: Option<Vec<Saved>>) {
        // What is the same for each path was not looked at, or something could not be.
        let after = after.filter(|after| after.len() == record.saved.len());
        let record = Record { state: State::Done, after, ..record.clone() };
        if let Err(error) = self.journal.write(&record) {
            tracing::warn!(%error, call_id = record.call_id, "end of a call not noted in the journal");
        }
    }
}
