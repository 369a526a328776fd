//! `git.show`

use std::time::Duration;

use gix::bstr::ByteSlice as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    changes::{self, Change},
    patch::Patch,
    repository::{CommitLine, MESSAGE_MAX, Revision, failed, files, open, text},
};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Changed files that are named.
const FILES_MAX: usize = 200;

pub struct Show;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// Commit to show: a branch, a tag, an id. Absent: the one that is checked out.
    #[serde(default)]
    revision: Revision,
    /// Characters of the differences at most.
    #[serde(default)]
    limit: Count<0, 200_000, 8000>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The commit.
    commit: CommitLine,
    /// Its whole message, 4000 characters at most.
    message: String,
    /// Ids of the commits before it.
    parents: Vec<String>,
    /// Files that it changed against the first of these, 200 at most.
    files: Vec<Change>,
    /// The differences in unified form.
    diff: String,
    /// Whether there is more of files or differences.
    truncated: bool,
}

impl Tool for Show {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.show",
        description: "Shows a commit of a git repository: message, changed files, and the differences in unified form, \
                      8000 characters unless asked for more.",
        examples: &[Example {
            goal: "what did the last commit change",
            arguments: r#"{"path": "/var/lib/aios/config", "revision": "HEAD"}"#,
        }],
        needs: &["fs:read:{path}"],
        timeout: Duration::from_secs(30),
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().looks_through(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let repository = open(host, &input.path)?;
        let commit = input.revision.commit(&repository)?;
        let parents: Vec<_> = commit.parent_ids().map(|id| id.detach()).collect();
        let old = match parents.first() {
            Some(id) => Some(files(&repository.find_commit(*id).map_err(|error| failed(id, error))?)?),
            None => None,
        };
        let changes = changes::between(&repository, old.as_ref(), &files(&commit)?)?;
        let mut patch = Patch::new(input.limit.index());
        for (path, sides) in &changes {
            if !patch.add(|| sides.unified(&repository, path.as_bstr()))? {
                break;
            }
        }
        let message = commit.message_raw().map_err(|error| failed(commit.id, error))?;
        let shown = changes.iter().take(FILES_MAX).map(|(path, sides)| Change::new(path.as_bstr(), sides.how()));
        Ok(Output {
            commit: CommitLine::of(&commit)?,
            message: text(message, MESSAGE_MAX),
            parents: parents.iter().map(ToString::to_string).collect(),
            files: shown.collect(),
            truncated: patch.truncated || changes.len() > FILES_MAX,
            diff: patch.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::{fs::testing::call, git::testing::Repo};

    #[test]
    fn a_commit_is_shown_with_its_differences() {
        let repo = Repo::new();
        repo.write("a", "one\n");
        let first = repo.commit("First");
        repo.write("a", "two\n");
        repo.write("b", "x\n");
        repo.commit("Second\n\nWhy it is so.");
        let shown = call::<Show>(&repo.host, json!({"path": "/r"})).expect("show");
        assert_eq!(
            (&shown["message"], &shown["parents"]),
            (&json!("Second\n\nWhy it is so.\n"), &json!([first["id"]]))
        );
        assert_eq!(shown["files"], json!([{"path": "a", "change": "modified"}, {"path": "b", "change": "added"}]));
        let diff = "--- a/a\n+++ b/a\n@@ -1,1 +1,1 @@\n-one\n+two\n--- /dev/null\n+++ b/b\n@@ -0,0 +1,1 @@\n+x\n";
        assert_eq!((&shown["diff"], &shown["truncated"]), (&json!(diff), &json!(false)));
        let root = call::<Show>(&repo.host, json!({"path": "/r", "revision": first["id"], "limit": 10})).expect("show");
        assert_eq!((&root["diff"], &root["truncated"]), (&json!("--- /dev/n"), &json!(true)));
    }
}
