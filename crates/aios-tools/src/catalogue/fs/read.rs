//! `fs.read`

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most that one call returns: what fits into a model's context, with room.
const LENGTH_MAX: u64 = 256 << 10;

pub struct Read;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File to read.
    path: AbsolutePath,
    /// First byte, counted from 0.
    #[serde(default)]
    offset: u64,
    /// Bytes to read at most, 1 to 262144.
    #[serde(default = "length")]
    #[schemars(range(min = 1, max = 262_144))]
    length: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The text. A character that is cut at the end is left for the next call.
    text: String,
    /// Size of the whole file in bytes.
    size: u64,
    /// Where to read on; absent at the end of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
}

fn length() -> u64 {
    64 << 10
}

impl Tool for Read {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.read",
        description: "Reads a text file (UTF-8), or a part of it: up to 256 KiB a call.",
        examples: &[
            Example { goal: "show the hosts file", arguments: r#"{"path": "/etc/hosts"}"# },
            Example {
                goal: "read on in a long file",
                arguments: r#"{"path": "/var/lib/aios/notes.txt", "offset": 65536}"#,
            },
        ],
        needs: &["fs:read:{path}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().reads(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if !(1..=LENGTH_MAX).contains(&input.length) {
            let text = format!("length is {}, but must be 1 to {LENGTH_MAX}", input.length);
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        let failed = |error| ToolError::io(input.path.as_path(), &error);
        let mut file = File::open(host.path(&input.path)).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let text = format!("{} is not a regular file", input.path);
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        file.seek(SeekFrom::Start(input.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(input.length).read_to_end(&mut bytes).map_err(failed)?;
        let end = input.offset + bytes.len() as u64;
        // Files of /proc and /sys say that they are empty.
        let size = metadata.len().max(end);
        let text = whole_characters(bytes, end < size)
            .ok_or_else(|| ToolError::new(Code::InvalidArgument, format!("{} is not UTF-8 text", input.path)))?;
        let next = input.offset + text.len() as u64;
        Ok(Output { text, size, next_offset: (next < size).then_some(next) })
    }
}

/// The text, without a last character that is cut off where `more` follows.
fn whole_characters(bytes: Vec<u8>, more: bool) -> Option<String> {
    String::from_utf8(bytes)
        .or_else(|error| {
            let valid = error.utf8_error().valid_up_to();
            let cut = more && valid > 0 && error.utf8_error().error_len().is_none();
            let mut bytes = error.into_bytes();
            bytes.truncate(valid);
            if cut { Ok(String::from_utf8(bytes).unwrap_or_default()) } else { Err(()) }
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(host: &Host, arguments: serde_json::Value) -> Result<Output, ToolError> {
        Read::run(serde_json::from_value(arguments).expect("arguments"), host)
    }

    #[test]
    fn a_long_file_is_read_piece_by_piece_without_breaking_characters() {
        let folder = tempfile::tempdir().expect("tempdir");
        let text = "grün und ".repeat(100);
        fs::write(folder.path().join("long"), &text).expect("write");
        let host = Host::below(folder.path());
        let (mut whole, mut offset) = (String::new(), Some(0));
        while let Some(at) = offset {
            let part = read(&host, serde_json::json!({"path": "/long", "offset": at, "length": 3})).expect("read");
            assert_eq!(part.size, text.len() as u64);
            whole.push_str(&part.text);
            offset = part.next_offset;
        }
        assert_eq!(whole, text);
    }

    #[test]
    fn what_is_no_text_or_no_file_is_refused() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("binary"), [0xff, 0xfe, 0]).expect("write");
        let host = Host::below(folder.path());
        let code = |path: &str| read(&host, serde_json::json!({ "path": path })).map_err(|error| error.code).err();
        assert_eq!(code("/binary"), Some(Code::InvalidArgument));
        assert_eq!(code("/"), Some(Code::InvalidArgument));
        assert_eq!(code("/none"), Some(Code::NotFound));
    }
}
