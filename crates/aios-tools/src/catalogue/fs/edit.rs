//! `fs.edit`

use std::io::Read as _;

use rustix::fs::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::Tree,
    error::{Code, ToolError},
    host::Host,
    replacement::{Over, Replacement},
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

/// Longest file that is edited, before and after.
const FILE_MAX: u64 = 4 << 20;

pub struct Edit;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Text file to change.
    path: AbsolutePath,
    /// Text that is there exactly once, with its spaces and line ends: take enough lines that there is no second one.
    #[schemars(length(min = 1, max = 65_536))]
    old: String,
    /// Text to put in its place; empty takes it out.
    #[schemars(length(max = 65_536))]
    new: String,
    /// Whether all occurrences are replaced, however many there are.
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Occurrences that were replaced.
    replaced: usize,
    /// Line of the first one, from 1.
    line: usize,
    /// Size of the file now, in bytes.
    size_bytes: u64,
}

impl Tool for Edit {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.edit",
        description: "Replaces a piece of text in a text file (UTF-8, up to 4 MiB), at once or not at all. The piece must \
                      be there exactly once, unless all are asked for.",
        examples: &[Example {
            goal: "set the interval to a minute",
            arguments: r#"{"path": "/var/lib/aios/config/a.toml", "old": "interval_s = 10", "new": "interval_s = 60"}"#,
        }],
        needs: &["fs:read:{path}", "fs:write:{path}"],
        risk: Risk::Medium,
        idempotent: false,
        reversible: true,
        sinks: &["/path"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("fs:read:{}", input.path)).replaces(&input.path);
        access.with(Privilege::FileOwner).with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let Input { path, old, new, all } = input;
        let tree = Tree::of(host)?;
        let place = tree.place(&path)?;
        let mut bytes = Vec::new();
        let read = tree.file(&path)?.take(FILE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| ToolError::io(path.as_path(), &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ToolError::new(Code::InvalidArgument, format!("{path} is not UTF-8 text")))?;
        let first = occurrence(&path, &text, &old, all)?;
        let changed = text.replace(&old, &new);
        if text.len().max(changed.len()) as u64 > FILE_MAX {
            return Err(ToolError::new(Code::TooLarge, format!("{path} is longer than {FILE_MAX} bytes")));
        }
        let mut replacement = Replacement::begin(&place, Mode::RUSR | Mode::WUSR)?;
        replacement.write(changed.as_bytes())?;
        replacement.like_old()?.place(Over::Anything)?;
        Ok(Output {
            replaced: text.matches(&old).count(),
            line: 1 + text[..first].matches('\n').count(),
            size_bytes: changed.len() as u64,
        })
    }
}

/// Where `old` is, if it is there as often as is asked for.
fn occurrence(path: &AbsolutePath, text: &str, old: &str, all: bool) -> Result<usize, ToolError> {
    if old.is_empty() {
        return Err(ToolError::new(Code::InvalidArgument, "old is empty, but must be text that is in the file"));
    }
    let found = text.find(old).ok_or_else(|| {
        let text = format!("old is not in {path}: read the file, and copy the text with its spaces and line ends");
        ToolError::new(Code::FailedPrecondition, text)
    })?;
    let count = text.matches(old).count();
    if count > 1 && !all {
        let text = format!("old is in {path} {count} times: take more of the lines around it, or set all");
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn text_is_replaced_if_it_is_there_once_or_all_is_asked_for() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("f");
        fs::write(&at, "a = 1\nb = 2\nc = 2\n").expect("write");
        let host = Host::below(folder.path());
        let edit =
            |old: &str, new: &str, all| call::<Edit>(&host, json!({"path": "/f", "old": old, "new": new, "all": all}));
        let once = edit("b = 2", "b = 30", false).expect("edit");
        assert_eq!(once, json!({"replaced": 1, "line": 2, "size_bytes": 19}));
        for (old, code) in [
            ("2", None),
            ("= ", Some(Code::FailedPrecondition)),
            ("x", Some(Code::FailedPrecondition)),
            ("", Some(Code::InvalidArgument)),
        ] {
            assert_eq!(edit(old, old, false).err().map(|error| error.code), code, "{old:?}");
        }
        assert_eq!(edit("= ", "=", true).expect("edit")["replaced"], 3);
        assert_eq!(fs::read_to_string(&at).expect("read"), "a =1\nb =30\nc =2\n");
    }

    #[test]
    fn what_is_no_text_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("f"), [b'a', 0xff]).expect("write");
        let host = Host::below(folder.path());
        let error = call::<Edit>(&host, json!({"path": "/f", "old": "a", "new": "b"})).expect_err("binary");
        assert_eq!(error.code, Code::InvalidArgument);
        assert_eq!(fs::read(folder.path().join("f")).expect("read"), [b'a', 0xff]);
    }

    #[test]
    fn an_edit_can_be_undone() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("f"), "a").expect("write");
        check_inverse::<Edit>(folder.path(), json!({"path": "/f", "old": "a", "new": "b"}));
    }
}
