//! `fs.delete`

use std::{ffi::CString, time::Duration};

use rustix::{fs::AtFlags, io::Errno};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::remove::remove;
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Delete;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File, link or folder to delete. Of a link itself goes, not what it leads to.
    path: AbsolutePath,
    /// Whether a folder goes with all that is in it.
    #[serde(default)]
    recursive: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Files, links and folders that are gone.
    deleted: u64,
}

impl Tool for Delete {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.delete",
        description: "Deletes a file, a link or an empty folder; on demand a folder with all that is in it. Does not \
                      reach into other mounted file systems.",
        examples: &[
            Example { goal: "delete the old report", arguments: r#"{"path": "/var/lib/aios/report.txt"}"# },
            Example { goal: "drop the cache", arguments: r#"{"path": "/var/lib/aios/cache", "recursive": true}"# },
        ],
        needs: &["fs:write:{path}"],
        risk: Risk::High,
        reversible: true,
        timeout: Duration::from_secs(120),
        sinks: &["/path"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().replaces(&input.path).takes_whole(&input.path).with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let path = &input.path;
        let place = Tree::of(host)?.place(path)?;
        let is_folder = Kind::of(&place.existing()?) == Kind::Folder;
        let name = CString::new(place.name.as_str()).expect("invariant: a path holds no zero byte");
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = match input.recursive {
            true => remove(&place.folder, &name),
            false => rustix::fs::unlinkat(&place.folder, &name, flags).map(|()| 1),
        };
        let refused = |text: String| ToolError::new(Code::FailedPrecondition, text);
        let deleted = removed.map_err(|error| match error {
            Errno::NOTEMPTY => refused(format!("{path} is not empty: set recursive to delete what is in it too")),
            Errno::XDEV | Errno::BUSY => refused(format!("{path} is or holds a mounted file system: unmount it first")),
            Errno::NAMETOOLONG => {
                refused(format!("{path} holds folders too deep inside each other: delete those first"))
            }
            error => place.failed(error),
        })?;
        place.sync()?;
        Ok(Output { deleted })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use serde_json::json;

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse};

    #[test]
    fn links_go_and_what_they_lead_to_stays() {
        let outside = tempfile::tempdir().expect("tempdir");
        fs::write(outside.path().join("precious"), "").expect("write");
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("tree/deep")).expect("mkdir");
        symlink(outside.path(), folder.path().join("tree/deep/out")).expect("link");
        symlink(outside.path(), folder.path().join("link")).expect("link");
        let host = Host::below(folder.path());
        let delete = |path: &str, recursive| call::<Delete>(&host, json!({"path": path, "recursive": recursive}));
        let error = delete("/tree", false).expect_err("full");
        assert_eq!(error.code, Code::FailedPrecondition);
        assert!(error.message.contains("recursive"), "{error}");
        assert_eq!(delete("/link/precious", true).expect_err("link").code, Code::InvalidArgument);
        assert_eq!(delete("/tree", true).expect("delete"), json!({"deleted": 3}));
        assert_eq!(delete("/link", true).expect("delete"), json!({"deleted": 1}));
        assert_eq!(delete("/link", true).expect_err("gone").code, Code::NotFound);
        assert_eq!(delete("/", true).expect_err("all").code, Code::InvalidArgument);
        assert!(outside.path().join("precious").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn what_is_deleted_can_be_restored() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("a/b")).expect("mkdir");
        fs::write(folder.path().join("a/b/c"), "c").expect("write");
        check_inverse::<Delete>(folder.path(), json!({"path": "/a/b/c"}));
        check_inverse::<Delete>(folder.path(), json!({"path": "/a", "recursive": true}));
    }
}
