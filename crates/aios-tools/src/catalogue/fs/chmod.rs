//! `fs.chmod`

use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::mode::Permissions;
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Kind, Tree, refused},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Chmod;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File or folder.
    path: AbsolutePath,
    /// Permissions in octal digits: `0640`. Set-ID bits can't be given.
    mode: Permissions,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Permissions before.
    old_mode: String,
    /// Permissions now.
    mode: String,
}

impl Tool for Chmod {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.chmod",
        description: "Sets the permissions of a file or folder, given in octal. Does not reach into a folder.",
        examples: &[Example {
            goal: "only the owner shall read the key",
            arguments: r#"{"path": "/var/lib/aios/keys/device.key", "mode": "0600"}"#,
        }],
        needs: &["fs:write:{path}"],
        risk: Risk::Medium,
        reversible: true,
        sinks: &["/path", "/mode"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().writes(&input.path).with(Privilege::FileOwner).with(Privilege::WriteAll)
    }

    /// A file with set-ID bits, which this tool does not give back, is kept whole.
    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let mode = mode(&Tree::of(host)?, &input.path)?.0;
        Ok(match Permissions::try_from(text(mode)) {
            Ok(mode) => {
                Inverse::Call { tool: Self::SPEC.name.to_owned(), arguments: json!({"path": input.path, "mode": mode}) }
            }
            Err(_) => Inverse::Paths { paths: vec![input.path.clone()] },
        })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let tree = Tree::of(host)?;
        let (old, kind) = mode(&tree, &input.path)?;
        let flags = match kind {
            Kind::File => OFlags::RDONLY | OFlags::NONBLOCK,
            Kind::Folder => OFlags::RDONLY | OFlags::DIRECTORY,
            _ => {
                let text = format!("{} is neither a file nor a folder", input.path);
                return Err(ToolError::new(Code::InvalidArgument, text));
            }
        };
        let opened = tree.open(&input.path, flags)?;
        rustix::fs::fchmod(&opened, input.mode.mode()).map_err(|error| refused(&input.path, error))?;
        Ok(Output { old_mode: text(old), mode: input.mode.to_string() })
    }
}

fn text(mode: u32) -> String {
    format!("{mode:04o}")
}

fn mode(tree: &Tree, path: &AbsolutePath) -> Result<(u32, Kind), ToolError> {
    let opened = tree.open(path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(opened).map_err(|error| refused(path, error))?;
    Ok((stat.st_mode & 0o7777, Kind::of(&stat)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;
    use crate::catalogue::fs::testing::{call, check_inverse, states};

    #[test]
    fn permissions_change_and_change_back() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("f");
        fs::write(&at, "").expect("write");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).expect("chmod");
        let host = Host::below(folder.path());
        let changed = call::<Chmod>(&host, json!({"path": "/f", "mode": "0644"})).expect("chmod");
        assert_eq!(changed, json!({"old_mode": "0600", "mode": "0644"}));
        check_inverse::<Chmod>(folder.path(), json!({"path": "/f", "mode": "0400"}));
        fs::set_permissions(&at, fs::Permissions::from_mode(0o4755)).expect("chmod");
        check_inverse::<Chmod>(folder.path(), json!({"path": "/f", "mode": "0755"}));
    }

    #[test]
    fn links_and_set_id_bits_are_refused() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::write(folder.path().join("f"), "").expect("write");
        symlink("f", folder.path().join("link")).expect("link");
        let before = states(folder.path());
        let host = Host::below(folder.path());
        for (path, mode) in [("/link", "0777"), ("/f", "4755"), ("/f", "a+r")] {
            let error = call::<Chmod>(&host, json!({"path": path, "mode": mode})).expect_err(path);
            assert_eq!(error.code, Code::InvalidArgument, "{path} {mode}");
        }
        assert_eq!(states(folder.path()), before);
    }
}
