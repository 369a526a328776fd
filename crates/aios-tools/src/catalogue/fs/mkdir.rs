//! `fs.mkdir`

use rustix::{fs::OFlags, io::Errno};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mode::Permissions;
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree, open_beneath},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Mkdir;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder to make. The folder that it lies in must exist.
    path: AbsolutePath,
    /// Permissions of the new folder.
    #[serde(default = "folder")]
    mode: Permissions,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether it is new; a folder that exists stays as it is.
    created: bool,
}

fn folder() -> Permissions {
    Permissions::FOLDER
}

impl Tool for Mkdir {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.mkdir",
        description: "Makes a folder. One that exists stays as it is.",
        examples: &[Example {
            goal: "a folder for reports that only its owner reads",
            arguments: r#"{"path": "/var/lib/aios/reports", "mode": "0700"}"#,
        }],
        needs: &["fs:write:{path}"],
        risk: Risk::Medium,
        reversible: true,
        sinks: &["/path"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().replaces(&input.path).with(Privilege::WriteAll)
    }

    /// Only a folder that is not there is to be removed: what is in one that is there need not be kept.
    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let is_new = Tree::of(host)?.place(&input.path)?.stat()?.is_none();
        Ok(if is_new { Inverse::Paths { paths: vec![input.path.clone()] } } else { Inverse::Nothing })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let place = Tree::of(host)?.place(&input.path)?;
        match rustix::fs::mkdirat(&place.folder, &place.name, input.mode.mode()) {
            Ok(()) => {}
            Err(Errno::EXIST) if Kind::of(&place.existing()?) == Kind::Folder => return Ok(Output { created: false }),
            Err(Errno::EXIST) => {
                let text = format!("{} exists already and is no folder", input.path);
                return Err(ToolError::new(Code::AlreadyExists, text));
            }
            Err(error) => return Err(place.failed(error)),
        }
        // The process's umask took part.
        let made = open_beneath(&place.folder, place.name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY);
        let set = made.and_then(|folder| rustix::fs::fchmod(folder, input.mode.mode()));
        set.map_err(|error| place.failed(error))?;
        place.sync()?;
        Ok(Output { created: true })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn a_folder_is_made_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("file"), "").expect("write");
        let host = Host::below(folder.path());
        let mkdir = |path: &str| call::<Mkdir>(&host, json!({"path": path, "mode": "1777"}));
        assert_eq!(mkdir("/new").expect("mkdir"), json!({"created": true}));
        assert_eq!(fs::metadata(folder.path().join("new")).expect("stat").mode() & 0o7777, 0o1777);
        assert_eq!(mkdir("/new").expect("mkdir"), json!({"created": false}));
        assert_eq!(mkdir("/file").expect_err("file").code, Code::AlreadyExists);
        assert_eq!(mkdir("/none/new").expect_err("no folder").code, Code::NotFound);
        check_inverse::<Mkdir>(folder.path(), json!({"path": "/other"}));
    }
}
