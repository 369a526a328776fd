//! What is done inside the sandbox: the steps of a call that touch the system.
//!
//! Job and answer cross the border as JSON. The answer comes from a process that worked on what anybody may have
//! written, so whoever reads it believes nothing in it but its form.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    args::AbsolutePath,
    catalogue,
    error::{Code, ToolError},
    facts::Facts,
    host::Host,
    tool::{Entry, Inverse},
    tree::{self, Blobs, Keep, Limits, Node, TreeError},
};

/// Where a call's part of the journal is shown inside.
pub const JOURNAL: &str = "/journal";

/// Most that is kept for the rollback of one call.
pub const LIMITS: Limits = Limits { nodes: 20_000, bytes: 256 << 20 };

/// One step of a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "job")]
pub enum Job {
    /// Finds out what undoes the call, and keeps what has to be kept for it in [`JOURNAL`].
    Prepare {
        /// Name of the tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
    },
    /// Calls the tool.
    Run {
        /// Name of the tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
        /// Paths to take down afterwards.
        watch: Vec<AbsolutePath>,
        /// What it is told.
        facts: Facts,
    },
    /// Brings back what was kept.
    Restore {
        /// What was there before.
        saved: Vec<Saved>,
        /// What was there after. Anything else there now is only overwritten where this is absent.
        after: Option<Vec<Saved>>,
    },
}

/// What lies, or lay, at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The path.
    pub path: AbsolutePath,
    /// What is there.
    pub node: Node,
}

/// What came of a step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// Of [`Job::Prepare`].
    Prepared {
        /// What undoes the call.
        inverse: Inverse,
        /// What was kept for it.
        saved: Vec<Saved>,
    },
    /// Of [`Job::Run`].
    Ran {
        /// The tool's result.
        result: Value,
        /// What the watched paths hold now.
        after: Vec<Saved>,
    },
    /// Of [`Job::Prepare`], where what undoes the call is known and can't be kept.
    NotKept {
        /// Why.
        error: ToolError,
    },
    /// Of [`Job::Restore`].
    Restored,
    /// It failed.
    Failed {
        /// Why.
        error: ToolError,
        /// What the watched paths hold now.
        after: Vec<Saved>,
    },
}

/// The sandbox's handler: does the job that `input` describes.
pub fn handle(input: &[u8]) -> Vec<u8> {
    let answer = match serde_json::from_slice(input) {
        Ok(job) => perform(job, &Host::device(), Path::new(JOURNAL)),
        Err(error) => failed(ToolError::new(Code::Failed, format!("the job can't be read: {error}"))),
    };
    serde_json::to_vec(&answer).expect("invariant: an answer's keys are texts, so it is JSON")
}

/// Does a job on `host`, with what is kept for rollbacks in the folder `journal`.
pub fn perform(job: Job, host: &Host, journal: &Path) -> Answer {
    let blobs = Blobs::in_folder(journal);
    match job {
        Job::Prepare { tool, arguments } => prepare(&tool, &arguments, host, &blobs).unwrap_or_else(failed),
        Job::Run { tool, arguments, watch, facts } => {
            let result = find(&tool).and_then(|tool| tool.run(&arguments, &host.clone().told(facts)));
            let after = take_down_all(&watch, host, Keep::Hashes);
            match (result, after) {
                (Ok(result), Ok(after)) => Answer::Ran { result, after },
                // It is done; that it can't be compared later only makes a rollback ask for force.
                (Ok(result), Err(_)) => Answer::Ran { result, after: Vec::new() },
                (Err(error), after) => Answer::Failed { error, after: after.unwrap_or_default() },
            }
        }
        Job::Restore { saved, after } => {
            restore(&saved, after.as_deref(), host, &blobs).map_or_else(failed, |()| Answer::Restored)
        }
    }
}

fn failed(error: ToolError) -> Answer {
    Answer::Failed { error, after: Vec::new() }
}

fn find(name: &str) -> Result<&'static Entry, ToolError> {
    catalogue::find(name).ok_or_else(|| ToolError::new(Code::NotFound, format!("there is no tool {name}")))
}

fn prepare(tool: &str, arguments: &Value, host: &Host, blobs: &Blobs) -> Result<Answer, ToolError> {
    let inverse = find(tool)?.inverse(arguments, host)?;
    let saved = match &inverse {
        Inverse::Paths { paths } => taken_down(paths, host, Keep::Contents(blobs)),
        Inverse::Nothing | Inverse::Call { .. } => Ok(Vec::new()),
    };
    match saved {
        Ok(saved) => Ok(Answer::Prepared { inverse, saved }),
        Err(error) if is_about_keeping(&error, blobs) => Ok(Answer::NotKept { error: tree_error(error) }),
        // What the system says of the tool's own path is what the tool would say.
        Err(error) => Err(tree_error(error)),
    }
}

/// Whether the copies are what is wrong, not what is copied.
fn is_about_keeping(error: &TreeError, blobs: &Blobs) -> bool {
    match error {
        TreeError::TooLarge { .. } | TreeError::Special { .. } => true,
        TreeError::Io { path, .. } => path.starts_with(blobs.folder()),
        TreeError::Link(_) | TreeError::Damaged { .. } => false,
    }
}

fn take_down_all(paths: &[AbsolutePath], host: &Host, keep: Keep<'_>) -> Result<Vec<Saved>, ToolError> {
    taken_down(paths, host, keep).map_err(tree_error)
}

fn taken_down(paths: &[AbsolutePath], host: &Host, keep: Keep<'_>) -> Result<Vec<Saved>, TreeError> {
    paths
        .iter()
        .map(|path| {
            let node = tree::take_down(&host.path(path), keep, LIMITS)?;
            Ok(Saved { path: path.clone(), node })
        })
        .collect()
}

fn restore(saved: &[Saved], after: Option<&[Saved]>, host: &Host, blobs: &Blobs) -> Result<(), ToolError> {
    if let Some(after) = after {
        for Saved { path, node } in after {
            let now = tree::take_down(&host.path(path), Keep::Hashes, LIMITS).map_err(tree_error)?;
            // An interrupted rollback has brought some of them back already.
            let back = saved.iter().any(|before| before.path == *path && before.node == now);
            if now != *node && !back {
                let text =
                    format!("{path} was changed after the call; a rollback would lose that: force it if you mean it");
                return Err(ToolError::new(Code::FailedPrecondition, text));
            }
        }
    }
    for Saved { path, node } in saved {
        tree::bring_back(&host.path(path), node, blobs).map_err(tree_error)?;
    }
    Ok(())
}

fn tree_error(error: TreeError) -> ToolError {
    let code = match &error {
        TreeError::Io { path, source } => return ToolError::io(path, source),
        TreeError::TooLarge { .. } => Code::TooLarge,
        TreeError::Link(_) | TreeError::Special { .. } => Code::FailedPrecondition,
        TreeError::Damaged { .. } => Code::Failed,
    };
    ToolError::new(code, error.to_string())
}

/// Folders that hold `paths`: what a rollback writes to.
pub fn folders(paths: &[Saved]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        paths.iter().filter_map(|saved| saved.path.parent()).map(|p| p.as_path().to_owned()).collect();
    folders.sort();
    folders.dedup();
    folders
}
