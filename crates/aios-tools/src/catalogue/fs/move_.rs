//! `fs.move`

use std::{ffi::CString, time::Duration};

use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duplicate::{BYTES_MAX, SetId},
    remove::remove,
    transfer::Transfer,
};
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Move;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File, link or folder to move.
    from: AbsolutePath,
    /// Its new path. The folder that it lies in must exist.
    to: AbsolutePath,
    /// Whether a file at `to` is replaced.
    #[serde(default)]
    overwrite: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was moved.
    kind: Kind,
}

impl Tool for Move {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.move",
        description: "Moves or renames a file, a link or a folder, with all that belongs to it. Between folders it may \
                      have to copy: up to 16 GiB and 100000 files.",
        examples: &[Example {
            goal: "rename the report",
            arguments: r#"{"from": "/var/lib/aios/report.txt", "to": "/var/lib/aios/report-old.txt"}"#,
        }],
        needs: &["fs:read:{from}", "fs:write:{from}", "fs:write:{to}"],
        risk: Risk::Medium,
        idempotent: false,
        reversible: true,
        timeout: Duration::from_secs(300),
        sinks: &["/from", "/to"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("fs:read:{}", input.from)).replaces(&input.from).replaces(&input.to);
        let access = access.takes_whole(&input.from).takes_whole(&input.to);
        access.with(Privilege::FileOwner).with(Privilege::WriteAll).with_files_of(BYTES_MAX)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.from.clone(), input.to.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let transfer = Transfer::of(&Tree::of(host)?, &input.from, &input.to, input.overwrite)?;
        match transfer.rename(&transfer.from.folder, &transfer.from.name) {
            Ok(()) => transfer.to.sync()?,
            // Another file system, or another folder that the sandbox shows by itself.
            Err(Errno::XDEV) => by_copy(&transfer)?,
            Err(Errno::EXIST) => {
                return Err(ToolError::new(Code::AlreadyExists, format!("{} exists already", input.to)));
            }
            Err(error) => return Err(transfer.from.failed(error)),
        }
        transfer.from.sync()?;
        Ok(Output { kind: transfer.kind })
    }
}

/// The old one goes when the new one is whole.
fn by_copy(transfer: &Transfer) -> Result<(), ToolError> {
    transfer.copy(SetId::Keep)?;
    let name = CString::new(transfer.from.name.as_str()).expect("invariant: a path holds no zero byte");
    remove(&transfer.from.folder, &name).map(drop).map_err(|error| transfer.from.failed(error))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse, states};

    #[test]
    fn a_folder_moves_with_all_that_is_in_it_also_by_copy() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/sub")).expect("mkdir");
        fs::write(at("a/sub/program"), "text").expect("write");
        fs::set_permissions(at("a/sub/program"), fs::Permissions::from_mode(0o4755)).expect("chmod");
        let before = states(&at("a"));
        let host = Host::below(folder.path());
        let moved = call::<Move>(&host, json!({"from": "/a", "to": "/b"})).expect("move");
        assert_eq!(moved, json!({"kind": "folder"}));
        assert!(!at("a").exists());
        assert_eq!(states(&at("b")), before);
        let [from, to] = ["/b", "/c"].map(|path| AbsolutePath::new(path).expect("path"));
        let transfer = Transfer::of(&Tree::of(&host).expect("tree"), &from, &to, false).expect("transfer");
        by_copy(&transfer).expect("copy");
        assert!(!at("b").exists());
        assert_eq!(states(&at("c")), before);
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("a"), "a").expect("write");
        fs::write(folder.path().join("b"), "b").expect("write");
        let before = states(folder.path());
        let host = Host::below(folder.path());
        let code = |from: &str, to: &str| call::<Move>(&host, json!({"from": from, "to": to})).expect_err(to).code;
        assert_eq!(code("/a", "/b"), Code::AlreadyExists);
        assert_eq!(code("/none", "/c"), Code::NotFound);
        assert_eq!(code("/a", "/none/c"), Code::NotFound);
        assert_eq!(code("/a", "/a"), Code::InvalidArgument);
        assert_eq!(states(folder.path()), before);
        check_inverse::<Move>(folder.path(), json!({"from": "/a", "to": "/c"}));
        check_inverse::<Move>(folder.path(), json!({"from": "/c", "to": "/b", "overwrite": true}));
    }
}
