//! `git.branches`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repository::{branch, failed, open, text};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Branches;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// Entries of each list at most.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Branch that is checked out; absent where a commit itself is.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// Branches of this repository.
    local: Vec<Branch>,
    /// Branches of others, as they were when they were fetched.
    remote: Vec<Branch>,
    /// Tags.
    tags: Vec<Branch>,
    /// Whether a list was longer.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Branch {
    /// Name: `main`, `origin/main`.
    name: String,
    /// Id of its commit, hexadecimal.
    commit: String,
}

impl Tool for Branches {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.branches",
        description: "Lists branches and tags of a git repository, and which branch is checked out.",
        examples: &[Example { goal: "which branches are there", arguments: r#"{"path": "/var/lib/aios/config"}"# }],
        needs: &["fs:read:{path}"],
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
        let wrong = |error: gix::Error| failed("references", error);
        let references = repository.references().map_err(wrong)?;
        let mut truncated = false;
        let mut list = |all: Result<gix::reference::iter::Iter<'_, '_>, gix::Error>| {
            let mut branches = Vec::new();
            for reference in all.map_err(wrong)? {
                let reference = reference.map_err(wrong)?;
                if branches.len() == input.limit.index() {
                    truncated = true;
                    break;
                }
                let name = text(reference.name().shorten(), 256);
                // A reference to nothing is none.
                if let Ok(id) = reference.into_fully_peeled_id() {
                    branches.push(Branch { name, commit: id.to_string() });
                }
            }
            Ok(branches)
        };
        let (local, remote) = (list(references.local_branches())?, list(references.remote_branches())?);
        let tags = list(references.tags())?;
        Ok(Output { current: branch(&repository)?, local, remote, tags, truncated })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::{fs::testing::call, git::testing::Repo};

    #[test]
    fn branches_and_tags_are_listed() {
        let repo = Repo::new();
        let branches = || call::<Branches>(&repo.host, json!({"path": "/r", "limit": 2})).expect("branches");
        assert_eq!(branches(), json!({"current": "main", "local": [], "remote": [], "tags": [], "truncated": false}));
        repo.write("a", "a");
        let id = repo.commit("First")["id"].as_str().expect("id").to_owned();
        repo.write(".git/refs/tags/v1", &format!("{id}\n"));
        repo.write(".git/refs/remotes/origin/main", &format!("{id}\n"));
        let listed = branches();
        assert_eq!(listed["local"], json!([{"name": "main", "commit": id}]));
        assert_eq!(listed["tags"], json!([{"name": "v1", "commit": id}]));
        assert_eq!(listed["remote"], json!([{"name": "origin/main", "commit": id}]));
        repo.write(".git/refs/heads/a", &format!("{id}\n"));
        repo.write(".git/refs/heads/b", &format!("{id}\n"));
        assert_eq!((branches()["local"].as_array().map(Vec::len), &branches()["truncated"]), (Some(2), &json!(true)));
        repo.write(".git/HEAD", &format!("{id}\n"));
        assert_eq!(branches().get("current"), None);
    }
}
