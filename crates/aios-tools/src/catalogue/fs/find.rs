//! `fs.find`

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    glob::Glob,
    list::is_zero,
    walk::{DEPTH_MAX, Next, walk},
};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    beneath::{Kind, Tree},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Time spent looking.
const TIME_MAX: Duration = Duration::from_secs(20);

pub struct Find;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder to look in, with all below it.
    path: AbsolutePath,
    /// Pattern: `*` any part of a name, `**` any part of a path, `?` one character. Without `/` it is compared with
    /// names, else with whole paths from the folder on.
    name: Glob,
    /// Only what is of this kind.
    #[serde(default)]
    kind: Option<Kind>,
    /// Paths at most.
    #[serde(default)]
    limit: Count<1, 1000, 100>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Paths from the folder on, in order.
    paths: Vec<String>,
    /// Whether the search ended before its end: at the limit, or after 20 seconds.
    truncated: bool,
    /// Folders that could not be read, or not to the end.
    #[serde(skip_serializing_if = "is_zero")]
    folders_left_out: u64,
}

impl Tool for Find {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.find",
        description: "Finds files and folders by a pattern of their names, below a folder; up to 1000. Links are not \
                      followed.",
        examples: &[
            Example { goal: "which models are there", arguments: r#"{"path": "/var/lib/aios", "name": "*.gguf"}"# },
            Example {
                goal: "folders called cache",
                arguments: r#"{"path": "/var", "name": "cache", "kind": "folder"}"#,
            },
        ],
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
        let folder = Tree::of(host)?.folder(&input.path)?;
        let (end, mut paths) = (Instant::now() + TIME_MAX, Vec::new());
        let left_out = walk(folder, DEPTH_MAX, &mut |found| {
            let is_wanted = input.kind.is_none_or(|kind| kind == found.kind);
            if is_wanted && input.name.fits(found.path, found.name) {
                if paths.len() == input.limit.index() {
                    return Ok(Next::Stop);
                }
                paths.push(found.path.to_owned());
            }
            Ok(if Instant::now() > end { Next::Stop } else { Next::On })
        })?;
        Ok(Output { paths, truncated: left_out.stopped, folders_left_out: left_out.folders })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn names_are_found_at_all_depths() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("a/b.log")).expect("mkdir");
        for name in ["x.log", "a/y.log", "a/z.txt"] {
            fs::write(folder.path().join(name), "").expect("write");
        }
        let host = Host::below(folder.path());
        let find = |arguments| call::<Find>(&host, arguments).expect("find");
        let all = find(json!({"path": "/", "name": "*.log"}));
        assert_eq!(all, json!({"paths": ["a/b.log", "a/y.log", "x.log"], "truncated": false}));
        assert_eq!(find(json!({"path": "/", "name": "*.log", "kind": "folder"}))["paths"], json!(["a/b.log"]));
        let few = find(json!({"path": "/", "name": "*.log", "limit": 2}));
        assert_eq!((few["paths"].as_array().map(Vec::len), &few["truncated"]), (Some(2), &json!(true)));
        assert_eq!(find(json!({"path": "/", "name": "*.log", "limit": 3}))["truncated"], false);
        let error = call::<Find>(&host, json!({"path": "/none", "name": "*"})).expect_err("none");
        assert_eq!(error.code, Code::NotFound);
    }
}
