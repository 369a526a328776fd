//! `git.diff`

use std::{collections::BTreeSet, time::Duration};

use gix::{
    Repository,
    bstr::{BString, ByteSlice as _},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    changes::{self, Change, How},
    patch::Patch,
    repository::{Revision, contents, failed, files, open},
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

pub struct Diff;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// Commit to compare from. Absent: the one that is checked out.
    #[serde(default)]
    from: Revision,
    /// Commit to compare with. Absent: the files as they are, without untracked ones.
    #[serde(default)]
    to: Option<Revision>,
    /// Characters of the differences at most.
    #[serde(default)]
    limit: Count<0, 200_000, 8000>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Files that differ, 200 at most.
    files: Vec<Change>,
    /// The differences in unified form.
    diff: String,
    /// Whether there is more of files or differences.
    truncated: bool,
}

impl Tool for Diff {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.diff",
        description: "Compares a commit of a git repository with another one, or with the files as they are now, in \
                      unified form; 8000 characters unless asked for more. Renamed files are deleted and added ones.",
        examples: &[
            Example { goal: "what changed since the last commit", arguments: r#"{"path": "/var/lib/aios/config"}"# },
            Example {
                goal: "compare two versions",
                arguments: r#"{"path": "/var/lib/aios/config", "from": "v1", "to": "v2"}"#,
            },
        ],
        needs: &["fs:read:{path}"],
        timeout: Duration::from_secs(60),
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
        match &input.to {
            Some(to) => between_commits(&repository, &input, to),
            None => with_files(&repository, &input, host),
        }
    }
}

fn between_commits(repository: &Repository, input: &Input, to: &Revision) -> Result<Output, ToolError> {
    let [old, new] = [&input.from, to].map(|revision| files(&revision.commit(repository)?));
    let changes = changes::between(repository, Some(&old?), &new?)?;
    let mut patch = Patch::new(input.limit.index());
    for (path, sides) in &changes {
        if !patch.add(|| sides.unified(repository, path.as_bstr()))? {
            break;
        }
    }
    let files = changes.iter().take(FILES_MAX).map(|(path, sides)| Change::new(path.as_bstr(), sides.how()));
    let (files, truncated) = (files.collect(), patch.truncated || changes.len() > FILES_MAX);
    Ok(Output { files, diff: patch.text, truncated })
}

/// Only files are read whose index entry differs from the commit or from the file.
fn with_files(repository: &Repository, input: &Input, host: &Host) -> Result<Output, ToolError> {
    let commit = input.from.commit(repository)?;
    let tree = files(&commit)?;
    let status = changes::status(repository)?;
    let mut paths: BTreeSet<BString> = status.staged.into_iter().chain(status.unstaged).map(|(path, _)| path).collect();
    // What the index has from the commit that is checked out can differ from another one.
    if let Some(head) = super::repository::head(repository)?.filter(|head| head.id != commit.id) {
        paths.extend(changes::between(repository, Some(&tree), &files(&head)?)?.into_keys());
    }
    let (mut patch, mut changed) = (Patch::new(input.limit.index()), Vec::new());
    for path in &paths {
        let entry = tree.lookup_entry(path.split(|byte| *byte == b'/')).map_err(|error| failed(path, error))?;
        let old = match entry.filter(|entry| entry.mode().is_blob_or_symlink()) {
            Some(entry) => Some((entry.mode().kind(), contents(repository, entry.object_id())?)),
            None => None,
        };
        let new = changes::file(host, &input.path, path.as_bstr())?;
        let how = match (&old, &new) {
            (old, new) if old == new => continue,
            (None, _) => How::Added,
            (_, None) => How::Deleted,
            _ => How::Modified,
        };
        let change = Change::new(path.as_bstr(), how);
        let bytes = |side: &Option<(_, Vec<u8>)>| side.as_ref().map(|side| side.1.clone());
        patch.add(|| Ok(changes::unified(&change.path, bytes(&old).as_deref(), bytes(&new).as_deref())))?;
        if changed.len() == FILES_MAX {
            patch.truncated = true;
            break;
        }
        changed.push(change);
    }
    Ok(Output { files: changed, diff: patch.text, truncated: patch.truncated })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::{fs::testing::call, git::testing::Repo},
        error::Code,
    };

    #[test]
    fn files_and_commits_are_compared() {
        let repo = Repo::new();
        repo.write("a", "one\n");
        repo.write("gone", "x\n");
        repo.commit("First");
        let diff = |arguments| call::<Diff>(&repo.host, arguments).expect("diff");
        assert_eq!(diff(json!({"path": "/r"})), json!({"files": [], "diff": "", "truncated": false}));
        repo.write("a", "two\n");
        repo.write("untracked", "x\n");
        fs::remove_file(repo.folder.path().join("r/gone")).expect("remove");
        let now = diff(json!({"path": "/r"}));
        let a = "--- a/a\n+++ b/a\n@@ -1,1 +1,1 @@\n-one\n+two\n";
        let gone = "--- a/gone\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n";
        assert_eq!(now["files"], json!([{"path": "a", "change": "modified"}, {"path": "gone", "change": "deleted"}]));
        assert_eq!(now["diff"], format!("{a}{gone}"));
        repo.commit("Second");
        let commits = diff(json!({"path": "/r", "from": "HEAD~1", "to": "HEAD"}));
        assert_eq!(commits["files"].as_array().map(Vec::len), Some(3), "{commits}");
        // The folder, clean, against an older commit.
        let older = diff(json!({"path": "/r", "from": "HEAD~1"}));
        assert_eq!(older, commits);
        assert_eq!(diff(json!({"path": "/r", "from": "HEAD~1", "limit": 3}))["diff"], "---");
        let none = call::<Diff>(&repo.host, json!({"path": "/r", "from": "none"})).expect_err("none");
        assert_eq!(none.code, Code::NotFound);
    }
}
