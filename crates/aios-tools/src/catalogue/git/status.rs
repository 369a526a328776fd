//! `git.status`

use std::time::Duration;

use gix::bstr::{BString, ByteSlice as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    changes::{self, Change, How},
    repository::{CommitLine, branch, head, open, text},
};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Status;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// Entries of each list at most.
    #[serde(default)]
    limit: Count<1, 1000, 100>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Branch that is checked out; absent where a commit itself is.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Commit that is checked out; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitLine>,
    /// Whether nothing differs and nothing is untracked.
    clean: bool,
    /// What differs between commit and index.
    staged: Vec<Change>,
    /// What differs between index and files.
    unstaged: Vec<Change>,
    /// Files that git does not know and that are not ignored.
    untracked: Vec<String>,
    /// Whether a list was longer.
    truncated: bool,
}

impl Tool for Status {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.status",
        description: "Tells the branch and commit of a git repository, and which files changed since. Submodules and \
                      filters (line ends, LFS) are left out.",
        examples: &[Example {
            goal: "did somebody change the configuration",
            arguments: r#"{"path": "/var/lib/aios/config"}"#,
        }],
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
        let status = changes::status(&repository)?;
        let limit = input.limit.index();
        let longest = status.staged.len().max(status.unstaged.len()).max(status.untracked.len());
        let shown = |list: &[(BString, How)]| {
            list.iter().take(limit).map(|(path, how)| Change::new(path.as_bstr(), *how)).collect()
        };
        Ok(Output {
            branch: branch(&repository)?,
            commit: head(&repository)?.map(|commit| CommitLine::of(&commit)).transpose()?,
            clean: longest == 0,
            staged: shown(&status.staged),
            unstaged: shown(&status.unstaged),
            untracked: status.untracked.iter().take(limit).map(|path| text(path.as_bstr(), 4096)).collect(),
            truncated: longest > limit,
        })
    }
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
    fn all_kinds_of_changes_are_told() {
        let repo = Repo::new();
        repo.write("kept", "a\n");
        repo.write("changed", "a\n");
        repo.write("sub/gone", "a\n");
        let before = call::<Status>(&repo.host, json!({"path": "/r"})).expect("status");
        assert_eq!((&before["branch"], before.get("commit")), (&json!("main"), None));
        assert_eq!(before["untracked"], json!(["changed", "kept", "sub/gone"]));
        repo.commit("first");
        let clean = call::<Status>(&repo.host, json!({"path": "/r"})).expect("status");
        assert_eq!((&clean["clean"], &clean["commit"]["subject"]), (&json!(true), &json!("first")));
        repo.write("changed", "b\n");
        repo.write("new", "b\n");
        repo.write(".gitignore", "*.tmp\n");
        repo.write("x.tmp", "");
        fs::remove_file(repo.folder.path().join("r/sub/gone")).expect("remove");
        let status = call::<Status>(&repo.host, json!({"path": "/r"})).expect("status");
        let unstaged = json!([{"path": "changed", "change": "modified"}, {"path": "sub/gone", "change": "deleted"}]);
        assert_eq!((&status["clean"], &status["unstaged"]), (&json!(false), &unstaged));
        assert_eq!(status["untracked"], json!([".gitignore", "new"]));
        let few = call::<Status>(&repo.host, json!({"path": "/r", "limit": 1})).expect("status");
        assert_eq!((few["untracked"].as_array().map(Vec::len), &few["truncated"]), (Some(1), &json!(true)));
    }

    #[test]
    fn a_hostile_repository_runs_nothing_and_leads_nowhere() {
        let repo = Repo::new();
        repo.write("file", "a\n");
        repo.commit("first");
        let mark = repo.folder.path().join("ran");
        let program = repo.folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).expect("write");
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        let program = program.display();
        let config = format!(
            "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = /etc\n\tfsmonitor = {program}\n\
             \thooksPath = {program}\n\tpager = {program}\n[filter \"evil\"]\n\tclean = {program}\n\tsmudge = {program}\n\
             \tprocess = {program}\n\trequired = true\n[diff]\n\texternal = {program}\n[include]\n\tpath = /etc/passwd\n"
        );
        repo.write(".git/config", &config);
        repo.write(".gitattributes", "* filter=evil diff=evil\n");
        repo.write("file", "b\n");
        let status = call::<Status>(&repo.host, json!({"path": "/r"})).expect("status");
        assert_eq!(status["unstaged"], json!([{"path": "file", "change": "modified"}]));
        assert_eq!(status["untracked"], json!([".gitattributes"]));
        assert!(!mark.exists());
        // A repository elsewhere.
        let other = repo.folder.path().join("other");
        fs::create_dir(&other).expect("mkdir");
        fs::write(other.join(".git"), format!("gitdir: {}/r/.git\n", repo.folder.path().display())).expect("write");
        let error = call::<Status>(&repo.host, json!({"path": "/other"})).expect_err("elsewhere");
        assert_eq!(error.code, Code::FailedPrecondition);
        fs::remove_file(other.join(".git")).expect("remove");
        std::os::unix::fs::symlink("../r/.git", other.join(".git")).expect("link");
        let error = call::<Status>(&repo.host, json!({"path": "/other"})).expect_err("elsewhere");
        assert_eq!(error.code, Code::FailedPrecondition);
    }
}
