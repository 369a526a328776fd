//! `fs.copy`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duplicate::{BYTES_MAX, SetId},
    transfer::Transfer,
};
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Copy;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File, link or folder to copy; a folder with all that is in it.
    from: AbsolutePath,
    /// Path of the copy. Its folder must exist.
    to: AbsolutePath,
    /// Whether a file at `to` is replaced.
    #[serde(default)]
    overwrite: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was copied.
    kind: Kind,
}

impl Tool for Copy {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.copy",
        description: "Copies a file, a link or a folder with mode, owner, times and extended attributes (set-ID bits are \
                      dropped). The copy appears whole or not at all; up to 16 GiB and 100000 files.",
        examples: &[Example {
            goal: "keep a copy of the configuration",
            arguments: r#"{"from": "/var/lib/aios/config", "to": "/var/lib/aios/config.bak"}"#,
        }],
        needs: &["fs:read:{from}", "fs:write:{to}"],
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
        let access = Access::default().reads(&input.from).replaces(&input.to);
        let access = access.takes_whole(&input.from).takes_whole(&input.to);
        access.with(Privilege::FileOwner).with(Privilege::WriteAll).with_files_of(BYTES_MAX)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.to.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let transfer = Transfer::of(&Tree::of(host)?, &input.from, &input.to, input.overwrite)?;
        transfer.copy(SetId::Drop)?;
        Ok(Output { kind: transfer.kind })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use rustix::fs::XattrFlags;
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::fs::testing::{call, check_inverse, states},
        error::Code,
    };

    #[test]
    fn a_folder_is_copied_with_all_that_belongs_to_it() {
        let folder = tempfile::tempdir().expect("tempdir");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("sub")).expect("mkdir");
        fs::write(from.join("sub/file"), "text").expect("write");
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4751)).expect("chmod");
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o500)).expect("chmod");
        rustix::fs::setxattr(from.join("sub/file"), "user.a", b"b", XattrFlags::empty()).expect("xattr");
        symlink("/etc/shadow", from.join("link")).expect("link");
        let host = Host::below(folder.path());
        let copied = call::<Copy>(&host, json!({"from": "/from", "to": "/to"})).expect("copy");
        assert_eq!(copied, json!({"kind": "folder"}));
        let mode = |path: &str| fs::metadata(to.join(path)).expect("stat").mode() & 0o7777;
        assert_eq!((mode("sub"), mode("sub/file")), (0o500, 0o751));
        let time = |at: &std::path::Path| fs::metadata(at.join("sub/file")).expect("stat").modified().expect("time");
        assert_eq!(time(&from), time(&to));
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o751)).expect("chmod");
        assert_eq!(states(&from), states(&to));
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2, "nothing is left beside it");
    }

    #[test]
    fn what_can_not_be_copied_leaves_nothing() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("a")).expect("mkdir");
        fs::write(folder.path().join("a/f"), "").expect("write");
        let pipe = folder.path().join("a/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("mkfifo");
        let host = Host::below(folder.path());
        let code = |from: &str, to: &str, overwrite| {
            call::<Copy>(&host, json!({"from": from, "to": to, "overwrite": overwrite})).expect_err(to).code
        };
        assert_eq!(code("/a", "/b", false), Code::Unsupported);
        assert_eq!(code("/a", "/a/b", false), Code::InvalidArgument);
        assert_eq!(code("/a/f", "/a", true), Code::InvalidArgument);
        assert_eq!(code("/a/f", "/a/pipe", true), Code::AlreadyExists);
        assert_eq!(code("/none", "/b", false), Code::NotFound);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn a_copy_can_be_undone() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("a"), "a").expect("write");
        fs::write(folder.path().join("b"), "b").expect("write");
        check_inverse::<Copy>(folder.path(), json!({"from": "/a", "to": "/c"}));
        check_inverse::<Copy>(folder.path(), json!({"from": "/a", "to": "/b", "overwrite": true}));
    }
}
