//! `git.log`

use std::time::Duration;

use gix::{revision::walk::Sorting, traverse::commit::simple::CommitTimeOrder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repository::{CommitLine, Revision, failed, open};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Log;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// Commit to begin with: a branch, a tag, an id. Absent: the one that is checked out.
    #[serde(default)]
    revision: Revision,
    /// Commits to leave out at the beginning, to read on.
    #[serde(default)]
    offset: Count<0, 100_000, 0>,
    /// Commits at most.
    #[serde(default)]
    limit: Count<1, 200, 20>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Newest first.
    commits: Vec<CommitLine>,
    /// Where to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
}

impl Tool for Log {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.log",
        description: "Lists commits of a git repository, newest first, with author, time and first line; up to 200.",
        examples: &[Example {
            goal: "who changed the configuration last",
            arguments: r#"{"path": "/var/lib/aios/config", "limit": 5}"#,
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
        let start = input.revision.commit(&repository)?.id;
        let wrong = |error: gix::Error| failed("log", error);
        let walk = repository.rev_walk([start]).sorting(Sorting::ByCommitTime(CommitTimeOrder::NewestFirst));
        let mut walk = walk.all().map_err(wrong)?.skip(input.offset.index());
        let mut commits = Vec::new();
        for info in walk.by_ref().take(input.limit.index()) {
            let commit = info.and_then(|info| info.object()).map_err(wrong)?;
            commits.push(CommitLine::of(&commit)?);
        }
        let next_offset = walk.next().is_some().then_some(input.offset.get() + input.limit.get());
        Ok(Output { commits, next_offset })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::{fs::testing::call, git::testing::Repo},
        error::Code,
    };

    #[test]
    fn commits_are_listed_in_parts() {
        let repo = Repo::new();
        let empty = call::<Log>(&repo.host, json!({"path": "/r"})).expect_err("no commit");
        assert_eq!(empty.code, Code::NotFound);
        let ids: Vec<_> = ["one", "two", "three"]
            .map(|name| {
                repo.write("f", name);
                repo.commit(&format!("{name}\n\nbody"))["id"].clone()
            })
            .into();
        let log = |arguments| call::<Log>(&repo.host, arguments).expect("log");
        let all = log(json!({"path": "/r"}));
        let subjects: Vec<_> =
            all["commits"].as_array().expect("list").iter().map(|commit| &commit["subject"]).collect();
        assert_eq!((subjects, all.get("next_offset")), (vec![&json!("three"), &json!("two"), &json!("one")], None));
        assert_eq!(all["commits"][0]["author"], "aiOS <aios@localhost>");
        let part = log(json!({"path": "/r", "offset": 1, "limit": 1}));
        assert_eq!((&part["commits"][0]["id"], &part["next_offset"]), (&ids[1], &json!(2)));
        assert_eq!(log(json!({"path": "/r", "revision": "HEAD~2"}))["commits"][0]["id"], ids[0]);
        for (bad, code) in [("none", Code::NotFound), ("--all", Code::InvalidArgument), ("a b", Code::InvalidArgument)]
        {
            let error = call::<Log>(&repo.host, json!({"path": "/r", "revision": bad})).expect_err(bad);
            assert_eq!(error.code, code, "{bad}");
        }
    }
}
