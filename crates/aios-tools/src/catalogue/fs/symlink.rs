//! `fs.symlink`

use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::Tree,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

/// Longest target that Linux takes.
const TARGET_MAX: usize = 4095;

pub struct Symlink;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Path of the new link. Nothing may be there.
    path: AbsolutePath,
    /// Where it leads: an absolute path, or one from the link's folder on. It need not exist.
    #[schemars(length(min = 1, max = 4095))]
    target: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the link is new; one that leads there already stays.
    created: bool,
}

impl Tool for Symlink {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.symlink",
        description: "Makes a symbolic link. These tools follow none, but other programs do.",
        examples: &[Example {
            goal: "let current lead to release 7",
            arguments: r#"{"path": "/var/lib/aios/current", "target": "releases/7"}"#,
        }],
        needs: &["fs:write:{path}"],
        risk: Risk::Medium,
        reversible: true,
        sinks: &["/path", "/target"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().replaces(&input.path).with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let Input { path, target } = input;
        if !(1..=TARGET_MAX).contains(&target.len()) || target.chars().any(char::is_control) {
            let text = format!("the target must have 1 to {TARGET_MAX} bytes and no control characters");
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        let place = Tree::of(host)?.place(&path)?;
        match rustix::fs::symlinkat(&target, &place.folder, &place.name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::readlinkat(&place.folder, &place.name, Vec::new());
                if there.is_ok_and(|there| there.to_bytes() == target.as_bytes()) {
                    return Ok(Output { created: false });
                }
                return Err(ToolError::new(Code::AlreadyExists, format!("{path} exists already")));
            }
            Err(error) => return Err(place.failed(error)),
        }
        place.sync()?;
        Ok(Output { created: true })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn a_link_is_made_where_nothing_is() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("file"), "").expect("write");
        let host = Host::below(folder.path());
        let link = |path: &str, target: &str| call::<Symlink>(&host, json!({"path": path, "target": target}));
        assert_eq!(link("/link", "file").expect("link"), json!({"created": true}));
        assert_eq!(link("/link", "file").expect("link"), json!({"created": false}));
        assert_eq!(fs::read_link(folder.path().join("link")).expect("link").to_str(), Some("file"));
        assert_eq!(link("/link", "other").expect_err("another").code, Code::AlreadyExists);
        assert_eq!(link("/file", "file").expect_err("a file").code, Code::AlreadyExists);
        assert_eq!(link("/link/inside", "file").expect_err("through a link").code, Code::InvalidArgument);
        assert_eq!(link("/new", "a\nb").expect_err("control").code, Code::InvalidArgument);
        assert_eq!(link("/new", "").expect_err("empty").code, Code::InvalidArgument);
        check_inverse::<Symlink>(folder.path(), json!({"path": "/new", "target": "/nowhere"}));
    }
}
