//! `fs.tail`

use std::io::{Read as _, Seek as _, SeekFrom};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    beneath::Tree,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Bytes at the end of the file that are looked at.
const LENGTH_MAX: u64 = 64 << 10;

pub struct Tail;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File to read.
    path: AbsolutePath,
    /// Lines at most.
    #[serde(default)]
    lines: Count<1, 1000, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The last lines. Bytes that are not UTF-8 are replaced.
    text: String,
    /// Size of the whole file in bytes.
    size_bytes: u64,
    /// Whether there is more before these lines.
    truncated: bool,
}

impl Tool for Tail {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.tail",
        description: "Reads the last lines of a text file, such as a log: up to 1000 lines and 64 KiB.",
        examples: &[Example {
            goal: "the last 20 lines of the log",
            arguments: r#"{"path": "/var/log/messages", "lines": 20}"#,
        }],
        needs: &["fs:read:{path}"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().reads(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let failed = |error| ToolError::io(input.path.as_path(), &error);
        let mut file = Tree::of(host)?.file(&input.path)?;
        let length = file.metadata().map_err(failed)?.len();
        let start = length.saturating_sub(LENGTH_MAX);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(LENGTH_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let end = start + bytes.len() as u64;
        let first = first_of_last(&bytes, input.lines.index());
        let text = String::from_utf8_lossy(&bytes[first..]).into_owned();
        Ok(Output { text, size_bytes: length.max(end), truncated: start > 0 || first > 0 })
    }
}

/// Where the last `lines` lines begin.
fn first_of_last(bytes: &[u8], lines: usize) -> usize {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(first_of_last(b"a\nb\nc\n", 2), 2);
        assert_eq!(first_of_last(b"a\nb\nc", 2), 2);
        assert_eq!(first_of_last(b"a\nb", 5), 0);
        assert_eq!(first_of_last(b"\n\n\n", 1), 2);
        assert_eq!(first_of_last(b"", 1), 0);
    }

    #[test]
    fn a_long_file_is_not_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("tempdir");
        let text: String = (0..30_000).map(|line| format!("line {line}\n")).collect();
        fs::write(folder.path().join("log"), &text).expect("write");
        fs::write(folder.path().join("one"), "x".repeat(100_000)).expect("write");
        let host = Host::below(folder.path());
        let last = call::<Tail>(&host, json!({"path": "/log", "lines": 2})).expect("tail");
        assert_eq!(last, json!({"text": "line 29998\nline 29999\n", "size_bytes": text.len(), "truncated": true}));
        let one = call::<Tail>(&host, json!({"path": "/one"})).expect("tail");
        assert_eq!((one["text"].as_str().map(str::len), &one["truncated"]), (Some(65_536), &json!(true)));
        assert_eq!(call::<Tail>(&host, json!({"path": "/"})).expect_err("folder").code, Code::InvalidArgument);
        assert_eq!(call::<Tail>(&host, json!({"path": "/none"})).expect_err("none").code, Code::NotFound);
    }
}
