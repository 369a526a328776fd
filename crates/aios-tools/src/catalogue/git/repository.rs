//! A repository as these tools open it: no program of it, of its configuration or of the system ever runs.

use std::{borrow::Cow, fmt::Display};

use gix::{Commit, ObjectId, Repository, Tree as GitTree, bstr::BStr};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    args::AbsolutePath,
    beneath::Tree,
    catalogue::fs::stat::time,
    error::{Code, ToolError},
    host::Host,
};

/// Longest name of a revision.
const REVISION_MAX: usize = 256;
/// Characters of a subject and of a whole message that are shown.
const SUBJECT_MAX: usize = 200;
pub(super) const MESSAGE_MAX: usize = 4000;

/// A commit by name: a branch, a tag, an id or the beginning of one, `HEAD~2`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Revision(String);

impl Revision {
    /// The commit in `repository`.
    pub(super) fn commit<'repo>(&self, repository: &'repo Repository) -> Result<Commit<'repo>, ToolError> {
        let unknown = |error: gix::Error| {
            let text = format!("there is no commit {:?} in the repository: {error}", self.0);
            ToolError::new(Code::NotFound, text)
        };
        let id = repository.rev_parse_single(BStr::new(&self.0)).map_err(unknown)?;
        id.object().and_then(|object| object.peel_to_commit()).map_err(unknown)
    }
}

impl Default for Revision {
    /// The commit that is checked out.
    fn default() -> Self {
        Revision("HEAD".to_owned())
    }
}

impl TryFrom<String> for Revision {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
        if (1..=REVISION_MAX).contains(&name.len()) && name.chars().all(is_plain) && !name.starts_with('-') {
            return Ok(Revision(name));
        }
        Err(format!("{name:?} names no commit: 1 to {REVISION_MAX} bytes without spaces, not beginning with -"))
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> String {
        revision.0
    }
}

impl JsonSchema for Revision {
    fn schema_name() -> Cow<'static, str> {
        "Revision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": REVISION_MAX })
    }
}

/// A commit in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CommitLine {
    /// Its id, hexadecimal.
    pub id: String,
    /// First line of its message, 200 characters at most.
    pub subject: String,
    /// Who wrote it: name and mail address, as the commit says and nobody checks.
    pub author: String,
    /// When it was made (RFC 3339, UTC), as the commit says.
    pub time: String,
}

impl CommitLine {
    /// Of a commit.
    pub(super) fn of(commit: &Commit<'_>) -> Result<Self, ToolError> {
        let wrong = |error: gix::Error| failed(commit.id, error);
        let author = commit.author().map_err(wrong)?;
        let message = text(commit.message_raw().map_err(wrong)?, MESSAGE_MAX);
        Ok(CommitLine {
            id: commit.id.to_string(),
            subject: message.lines().next().unwrap_or_default().chars().take(SUBJECT_MAX).collect(),
            author: format!("{} <{}>", text(author.name, SUBJECT_MAX), text(author.email, SUBJECT_MAX)),
            time: time(commit.time().map_err(wrong)?.seconds, 0),
        })
    }
}

/// Opens the repository whose folder is `path`.
///
/// Its configuration is read as that of a stranger: nothing in it names programs, filters or other folders, and no
/// configuration of the system or of a user is read. Its `.git` must be a folder in it.
pub(super) fn open(host: &Host, path: &AbsolutePath) -> Result<Repository, ToolError> {
    let none = || {
        let text = format!("{path} holds no git repository with files (a folder .git): git.init makes one");
        ToolError::new(Code::FailedPrecondition, text)
    };
    let tree = Tree::of(host)?;
    tree.folder(path)?;
    let git = AbsolutePath::new(format!("{}/.git", path.as_str().trim_end_matches('/'))).map_err(|_| none())?;
    tree.folder(&git).map_err(|_| none())?;
    let opened = options().open_path_as_is(true).open(host.path(&git)).map_err(|error| failed(path, error))?;
    let mut repository = opened.to_thread_local();
    // Whatever `core.worktree` says.
    repository.set_workdir(Some(host.path(path))).map_err(|error| failed(path, error))?;
    Ok(repository)
}

/// How repositories are opened.
pub(super) fn options() -> gix::open::Options {
    gix::open::Options::isolated().with(gix::sec::Trust::Reduced).bail_if_untrusted(false)
}

/// The commit that is checked out; `None` where there is none yet.
pub(super) fn head(repository: &Repository) -> Result<Option<Commit<'_>>, ToolError> {
    let head = repository.head().map_err(|error| failed("HEAD", error))?;
    if head.is_unborn() {
        return Ok(None);
    }
    repository.head_commit().map(Some).map_err(|error| failed("HEAD", error))
}

/// Name of the branch that is checked out; `None` where a commit itself is.
pub(super) fn branch(repository: &Repository) -> Result<Option<String>, ToolError> {
    let name = repository.head_name().map_err(|error| failed("HEAD", error))?;
    Ok(name.map(|name| text(name.shorten(), SUBJECT_MAX)))
}

/// The files of a commit.
pub(super) fn files<'repo>(commit: &Commit<'repo>) -> Result<GitTree<'repo>, ToolError> {
    commit.tree().map_err(|error| failed(commit.id, error))
}

/// Contents of a file or link.
pub(super) fn contents(repository: &Repository, id: ObjectId) -> Result<Vec<u8>, ToolError> {
    repository.find_blob(id).map(|mut blob| blob.take_data()).map_err(|error| failed(id, error))
}

/// What git's library said about `what`.
pub(super) fn failed(what: impl Display, error: impl Display) -> ToolError {
    ToolError::new(Code::Failed, format!("{what}: {error}"))
}

/// The first `limit` characters; bytes that are not UTF-8 are replaced.
pub(super) fn text(bytes: &BStr, limit: usize) -> String {
    String::from_utf8_lossy(bytes).chars().take(limit).collect()
}
