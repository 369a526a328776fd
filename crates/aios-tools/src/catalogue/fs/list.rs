//! `fs.list`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::walk::{Next, walk};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    beneath::{Kind, Tree},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder to list.
    path: AbsolutePath,
    /// Levels of folders to go down: 1 lists the folder itself.
    #[serde(default)]
    depth: Count<1, 16, 1>,
    /// Entries to leave out at the beginning, to read on.
    #[serde(default)]
    offset: u64,
    /// Entries at most.
    #[serde(default)]
    limit: Count<1, 1000, 100>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Sorted by name; a folder comes before what is in it.
    entries: Vec<Listed>,
    /// Where to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    /// Folders that could not be read, or not to the end.
    #[serde(skip_serializing_if = "is_zero")]
    folders_left_out: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// Path from the listed folder on.
    path: String,
    /// What it is.
    kind: Kind,
    /// Size of a regular file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.list",
        description: "Lists a folder, on demand with the folders in it; up to 1000 entries a call. Links are shown, not \
                      followed.",
        examples: &[
            Example { goal: "what is in the data folder", arguments: r#"{"path": "/var/lib/aios"}"# },
            Example { goal: "show the logs with their folders", arguments: r#"{"path": "/var/log", "depth": 3}"# },
        ],
        needs: &["fs:read:{path}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::default();
        // The right to a folder is one to the names in it.
        if input.depth.get() > 1 { access.looks_through(&input.path) } else { access.reads(&input.path) }
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let folder = Tree::of(host)?.folder(&input.path)?;
        let (mut seen, mut entries, mut next_offset) = (0, Vec::new(), None);
        let left_out = walk(folder, input.depth.get(), &mut |found| {
            if entries.len() == input.limit.index() {
                next_offset = Some(seen);
                return Ok(Next::Stop);
            }
            if seen >= input.offset {
                let size_bytes = (found.kind == Kind::File).then_some(found.stat.st_size as u64);
                entries.push(Listed { path: found.path.to_owned(), kind: found.kind, size_bytes });
            }
            seen += 1;
            Ok(Next::On)
        })?;
        Ok(Output { entries, next_offset, folders_left_out: left_out.folders })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn a_folder_is_listed_in_parts() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("sub")).expect("mkdir");
        for name in ["a", "b", "sub/c"] {
            fs::write(folder.path().join(name), name).expect("write");
        }
        let host = Host::below(folder.path());
        let list = |arguments| call::<List>(&host, arguments).expect("list");
        let first = list(json!({"path": "/", "depth": 2, "limit": 3}));
        assert_eq!(first["entries"][0], json!({"path": "a", "kind": "file", "size_bytes": 1}));
        assert_eq!(first["entries"][2], json!({"path": "sub", "kind": "folder"}));
        assert_eq!(first["next_offset"], 3);
        let rest = list(json!({"path": "/", "depth": 2, "offset": 3}));
        assert_eq!(rest, json!({"entries": [{"path": "sub/c", "kind": "file", "size_bytes": 5}]}));
        assert_eq!(list(json!({"path": "/"}))["entries"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn only_folders_are_listed() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("file"), "").expect("write");
        let host = Host::below(folder.path());
        let code = |arguments| call::<List>(&host, arguments).expect_err("refused").code;
        assert_eq!(code(json!({"path": "/file"})), Code::InvalidArgument);
        assert_eq!(code(json!({"path": "/none"})), Code::NotFound);
        assert_eq!(code(json!({"path": "/", "limit": 1001})), Code::InvalidArgument);
    }
}
