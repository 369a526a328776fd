//! `fs.search`

use std::{
    fs::File,
    io::Read as _,
    time::{Duration, Instant},
};

use regex::{Regex, RegexBuilder};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    glob::Glob,
    walk::{DEPTH_MAX, Next, walk},
};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    beneath::{Kind, Tree, open_beneath},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Time spent searching.
const TIME_MAX: Duration = Duration::from_secs(20);
/// A file that is longer is left out.
const FILE_MAX: u64 = 16 << 20;
/// Bytes at the beginning, in which a zero says that a file is no text.
const PROBE: usize = 8 << 10;
/// Characters of a line that are shown.
const LINE_MAX: usize = 300;
/// Room for a compiled pattern in bytes.
const REGEX_SIZE_MAX: usize = 1 << 20;

pub struct Search;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder whose files are searched, with all below it; or one file.
    path: AbsolutePath,
    /// Regular expression (Rust's `regex`: no look-around, no back references), tried on each line.
    #[schemars(length(min = 1, max = 1024))]
    pattern: String,
    /// Whether upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
    /// Only files whose name fits: `*.log`.
    #[serde(default)]
    name: Option<Glob>,
    /// Lines at most.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Lines that fit, by file and line.
    matches: Vec<Match>,
    /// Whether the search ended before its end: at the limit, or after 20 seconds.
    truncated: bool,
    /// Files that were searched.
    files: u64,
    /// Files that were left out: no text, longer than 16 MiB, or not readable.
    files_left_out: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Match {
    /// Path from the folder on; of one file its whole path.
    path: String,
    /// Number of the line, from 1.
    line: u64,
    /// The line; 300 characters at most.
    text: String,
}

struct Searcher {
    regex: Regex,
    limit: usize,
    end: Instant,
    found: Output,
}

impl Tool for Search {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.search",
        description: "Finds lines that fit a regular expression, in a file or in all text files below a folder; up to \
                      500 lines. Links are not followed.",
        examples: &[
            Example {
                goal: "where does the configuration name the broker",
                arguments: r#"{"path": "/etc/aios", "pattern": "mqtt", "ignore_case": true}"#,
            },
            Example {
                goal: "errors in all logs",
                arguments: r#"{"path": "/var/log", "pattern": "\\berror\\b", "name": "*.log", "limit": 20}"#,
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
        let found = Output { matches: Vec::new(), truncated: false, files: 0, files_left_out: 0 };
        let regex = compile(&input.pattern, input.ignore_case)?;
        let mut searcher = Searcher { regex, limit: input.limit.index(), end: Instant::now() + TIME_MAX, found };
        let tree = Tree::of(host)?;
        let opened = tree.open(&input.path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&opened).map_err(|error| crate::beneath::refused(&input.path, error))?;
        if Kind::of(&stat) != Kind::Folder {
            let file = tree.file(&input.path)?;
            searcher.search(file, input.path.as_str());
            return Ok(searcher.found);
        }
        walk(tree.folder(&input.path)?, DEPTH_MAX, &mut |found| {
            let is_wanted = input.name.as_ref().is_none_or(|name| name.fits(found.path, found.name));
            if found.kind == Kind::File && is_wanted {
                match open_beneath(found.folder, found.raw, OFlags::RDONLY | OFlags::NONBLOCK) {
                    Ok(file) => searcher.search(File::from(file), found.path),
                    Err(_) => searcher.found.files_left_out += 1,
                }
            }
            searcher.found.truncated |= Instant::now() > searcher.end;
            Ok(if searcher.found.truncated { Next::Stop } else { Next::On })
        })?;
        Ok(searcher.found)
    }
}

fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, ToolError> {
    let refused = |why: String| ToolError::new(Code::InvalidArgument, format!("pattern: {why}"));
    if pattern.is_empty() || pattern.len() > 1024 {
        return Err(refused("it must have 1 to 1024 bytes".to_owned()));
    }
    let mut builder = RegexBuilder::new(pattern);
    let builder = builder.case_insensitive(ignore_case).size_limit(REGEX_SIZE_MAX).dfa_size_limit(REGEX_SIZE_MAX);
    builder.build().map_err(|error| refused(error.to_string()))
}

impl Searcher {
    fn search(&mut self, file: File, path: &str) {
        let mut bytes = Vec::new();
        let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
        let is_text = !bytes[..bytes.len().min(PROBE)].contains(&0);
        if read.is_err() || bytes.len() as u64 > FILE_MAX || !is_text {
            self.found.files_left_out += 1;
            return;
        }
        self.found.files += 1;
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in (1..).zip(text.lines()) {
            if number % 4096 == 0 && Instant::now() > self.end {
                self.found.truncated = true;
                return;
            }
            if !self.regex.is_match(line) {
                continue;
            }
            if self.found.matches.len() == self.limit {
                self.found.truncated = true;
                return;
            }
            let text = line.chars().take(LINE_MAX).collect();
            self.found.matches.push(Match { path: path.to_owned(), line: number, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::call;

    #[test]
    fn lines_are_found_in_text_files_only() {
        let folder = tempfile::tempdir().expect("tempdir");
        let outside = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("sub")).expect("mkdir");
        fs::write(folder.path().join("a.log"), "one\nTwo words\nthree\n").expect("write");
        fs::write(folder.path().join("sub/b.txt"), "two\r\n").expect("write");
        fs::write(folder.path().join("binary"), b"two\0two").expect("write");
        fs::write(outside.path().join("secret"), "two").expect("write");
        symlink(outside.path(), folder.path().join("link")).expect("link");
        symlink(outside.path().join("secret"), folder.path().join("file-link")).expect("link");
        let host = Host::below(folder.path());
        let search = |arguments| call::<Search>(&host, arguments).expect("search");
        let both = search(json!({"path": "/", "pattern": "^two", "ignore_case": true}));
        assert_eq!(
            both["matches"],
            json!([{"path": "a.log", "line": 2, "text": "Two words"}, {"path": "sub/b.txt", "line": 1, "text": "two"}])
        );
        assert_eq!((&both["files"], &both["files_left_out"]), (&json!(2), &json!(1)));
        let one = search(json!({"path": "/", "pattern": "o", "name": "*.log", "limit": 1}));
        assert_eq!((one["matches"].as_array().map(Vec::len), &one["truncated"]), (Some(1), &json!(true)));
        assert_eq!(search(json!({"path": "/a.log", "pattern": "one"}))["matches"][0]["path"], "/a.log");
    }

    #[test]
    fn patterns_that_would_need_much_room_are_refused() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        for bad in ["(", "", "(?=a)", r"(a)\1", r"(\w{1000}){1000}"] {
            let error = call::<Search>(&host, json!({"path": "/", "pattern": bad})).expect_err(bad);
            assert_eq!(error.code, Code::InvalidArgument, "{bad}");
        }
    }
}
