//! What undoes calls: a folder for each call that can be undone, written before it runs.
//!
//! ```text
//! journal/<call id>/record.json   the call, what undoes it, and how far it came
//! journal/<call id>/blobs/<hash>  copies of files
//! ```
//!
//! A record is replaced by rename, and on disk before the next step begins. So whatever a power cut interrupts, the
//! record says at most less than was done, and a rollback from there is right: it sets the state from before.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{access::Access, job::Saved, tool::Inverse};

/// How far a call, or its rollback, came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// What undoes it is kept; it may have run, wholly or in part.
    Prepared,
    /// It ran to its end, well or not.
    Done,
    /// A rollback began.
    RollingBack,
    /// It is undone.
    RolledBack,
}

/// One call that can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the call.
    pub call_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Agent that called.
    pub agent: String,
    /// Its arguments, without secrets.
    pub arguments: Value,
    /// When it was called, RFC 3339.
    pub time: String,
    /// How far it came.
    pub state: State,
    /// What undoes it.
    pub inverse: Inverse,
    /// What the call touches; a rollback needs the same capabilities.
    pub access: Access,
    /// What was there before.
    pub saved: Vec<Saved>,
    /// What was there after; absent where that is not known.
    pub after: Option<Vec<Saved>>,
}

/// Why the journal can't be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A record that is none.
    #[error("{}: is no record of a call ({reason})", path.display())]
    Record {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No such call.
    #[error("there is nothing to undo for call {0}: it did not run, changed nothing, or is too long ago")]
    Unknown(String),
    /// An id that can't be a folder's name.
    #[error("{0:?} is no id of a call: 1 to 64 letters, digits, \"-\" or \"_\"")]
    Id(String),
}

impl JournalError {
    /// Whether room is all that is missing.
    pub fn is_full(&self) -> bool {
        matches!(self, JournalError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Whether `id` can name a call.
pub fn is_call_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// How long, and how much, the journal keeps.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Oldest call that can be undone.
    pub age: Duration,
    /// Bytes of all copies together; the oldest calls go first.
    pub bytes: u64,
}

/// The journal: one process writes it.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// The journal in `folder`, which is made where it is missing, for its owner alone.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Journal, JournalError> {
        let folder = folder.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed(&folder))?;
        Ok(Journal { folder })
    }

    /// Makes the folder for the copies of a call; an id that was used is refused.
    pub fn begin(&self, call_id: &str) -> Result<PathBuf, JournalError> {
        let folder = self.call(call_id)?;
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed(&folder))?;
        let blobs = folder.join("blobs");
        DirBuilder::new().mode(0o700).create(&blobs).map_err(failed(&blobs))?;
        Ok(blobs)
    }

    /// The folder of a call's copies.
    pub fn blobs(&self, call_id: &str) -> Result<PathBuf, JournalError> {
        Ok(self.call(call_id)?.join("blobs"))
    }

    /// Writes a record in place of the one there is. It is on disk when this returns.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        let folder = self.call(&record.call_id)?;
        let (path, new) = (folder.join("record.json"), folder.join("record.new"));
        let bytes = serde_json::to_vec(record).expect("invariant: a record's keys are texts, so it is JSON");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed(&new))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed(&new))?;
        fs::rename(&new, &path).map_err(failed(&path))?;
        sync(&folder)?;
        sync(&self.folder)
    }

    /// The record of a call.
    pub fn read(&self, call_id: &str) -> Result<Record, JournalError> {
        let path = self.call(call_id)?.join("record.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Unknown(call_id.to_owned()));
            }
            read => read.map_err(failed(&path))?,
        };
        serde_json::from_slice(&bytes).map_err(|error| JournalError::Record { path, reason: error.to_string() })
    }

    /// Drops all that is kept for a call.
    pub fn forget(&self, call_id: &str) -> Result<(), JournalError> {
        let folder = self.call(call_id)?;
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&folder)(error)),
            _ => Ok(()),
        }
    }

    /// Records that can be read, latest first.
    pub fn list(&self, limit: usize) -> Result<Vec<Record>, JournalError> {
        let calls = self.calls()?;
        Ok(calls.iter().rev().filter_map(|(_, id)| self.read(id).ok()).take(limit).collect())
    }

    /// Drops calls that are too old, the oldest of those that take too much, and what an interrupted preparation left.
    /// A call whose rollback was interrupted stays.
    pub fn prune(&self, retention: Retention, now: SystemTime) -> Result<(), JournalError> {
        let mut left = retention.bytes;
        for (time, id) in self.calls()?.iter().rev() {
            let rolling = self.read(id).is_ok_and(|record| record.state == State::RollingBack);
            let size = size(&self.blobs(id)?);
            let old = now.duration_since(*time).is_ok_and(|age| age > retention.age);
            if !rolling && (old || size > left) {
                self.forget(id)?;
            } else {
                left = left.saturating_sub(size);
            }
        }
        Ok(())
    }

    /// Drops preparations that never became a record: their calls did not run. Only while no call is under way.
    pub fn clear_unprepared(&self) -> Result<(), JournalError> {
        for (_, id) in self.calls()? {
            if matches!(self.read(&id), Err(JournalError::Unknown(_))) {
                self.forget(&id)?;
            }
        }
        Ok(())
    }

    /// Ids of all calls with their times, oldest first.
    fn calls(&self) -> Result<Vec<(SystemTime, String)>, JournalError> {
        let mut calls = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed(&self.folder))? {
            let entry = entry.map_err(failed(&self.folder))?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if is_call_id(&id) && metadata.is_dir() {
                // The folder with the copies is touched by the preparation alone.
                let time = fs::metadata(entry.path().join("blobs")).unwrap_or(metadata).modified();
                calls.push((time.map_err(failed(&self.folder))?, id));
            }
        }
        calls.sort();
        Ok(calls)
    }

    fn call(&self, id: &str) -> Result<PathBuf, JournalError> {
        if is_call_id(id) { Ok(self.folder.join(id)) } else { Err(JournalError::Id(id.to_owned())) }
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn sync(folder: &Path) -> Result<(), JournalError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed(folder))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, state: State) -> Record {
        Record {
            call_id: id.into(),
            tool: "fs.write".into(),
            agent: "system".into(),
            arguments: Value::Null,
            time: "2026-01-01T00:00:00Z".into(),
            state,
            inverse: Inverse::Nothing,
            access: Access::default(),
            saved: Vec::new(),
            after: None,
        }
    }

    fn ids(journal: &Journal) -> Vec<String> {
        journal.list(10).expect("list").into_iter().map(|record| record.call_id).collect()
    }

    #[test]
    fn a_record_is_there_once_it_is_written_and_an_id_is_used_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        let journal = Journal::open(folder.path().join("journal")).expect("open");
        assert!(matches!(journal.read("a-1"), Err(JournalError::Unknown(_))));
        journal.begin("a-1").expect("begin");
        assert!(journal.begin("a-1").is_err());
        journal.write(&record("a-1", State::Prepared)).expect("write");
        journal.write(&record("a-1", State::Done)).expect("write");
        let again = Journal::open(folder.path().join("journal")).expect("open");
        assert_eq!(again.read("a-1").expect("read"), record("a-1", State::Done));
        for bad in ["", "..", "a/b", "a.b", &"a".repeat(65)] {
            assert!(matches!(journal.begin(bad), Err(JournalError::Id(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_never_was_prepared_goes_and_what_was_stays() {
        let folder = tempfile::tempdir().expect("tempdir");
        let journal = Journal::open(folder.path()).expect("open");
        for id in ["half", "whole"] {
            journal.begin(id).expect("begin");
        }
        fs::write(journal.blobs("half").expect("blobs").join("x"), "x").expect("write");
        journal.write(&record("whole", State::Prepared)).expect("write");
        journal.clear_unprepared().expect("clear");
        assert_eq!(ids(&journal), ["whole"]);
        assert!(!folder.path().join("half").exists());
    }

    #[test]
    fn the_oldest_go_first_but_not_one_whose_rollback_was_interrupted() {
        let folder = tempfile::tempdir().expect("tempdir");
        let journal = Journal::open(folder.path()).expect("open");
        let now = SystemTime::now();
        for (age, id, state) in [(3, "c", State::Done), (2, "b", State::RollingBack), (1, "a", State::Done)] {
            let blobs = journal.begin(id).expect("begin");
            fs::write(blobs.join("x"), [0; 100]).expect("write");
            journal.write(&record(id, state)).expect("write");
            File::open(blobs).and_then(|f| f.set_modified(now - Duration::from_secs(age * 100))).expect("time");
        }
        assert_eq!(ids(&journal), ["a", "b", "c"]);
        journal.prune(Retention { age: Duration::from_secs(1000), bytes: 250 }, now).expect("prune");
        assert_eq!(ids(&journal), ["a", "b"]);
        journal.prune(Retention { age: Duration::from_secs(50), bytes: 250 }, now).expect("prune");
        assert_eq!(ids(&journal), ["b"]);
    }

    #[test]
    fn a_damaged_record_is_told_and_does_not_hide_the_others() {
        let folder = tempfile::tempdir().expect("tempdir");
        let journal = Journal::open(folder.path()).expect("open");
        for id in ["good", "bad"] {
            journal.begin(id).expect("begin");
            journal.write(&record(id, State::Done)).expect("write");
        }
        fs::write(folder.path().join("bad/record.json"), "{\"call_id\"").expect("write");
        let told = journal.read("bad").expect_err("damaged").to_string();
        assert!(told.contains("bad/record.json") && told.contains("no record"), "{told}");
        assert_eq!(ids(&journal), ["good"]);
    }
}
