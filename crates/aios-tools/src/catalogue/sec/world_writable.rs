//! `sec.world_writable`

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files;
use crate::{
    access::{Access, Privilege},
    args::{AbsolutePath, Count},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

pub struct WorldWritable;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder to search, with all below on the same file system.
    path: AbsolutePath,
    /// Most to list, 1 to 500.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What everybody may write to.
    files: Vec<Line>,
    /// How many there are.
    total: usize,
    /// Folders that could not be read, up to 20.
    unread: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    path: String,
    /// Mode in octal.
    mode: String,
    uid: u32,
    /// Of a folder: whether everybody may remove the files of others there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    anyone_may_remove: Option<bool>,
}

impl Tool for WorldWritable {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.world_writable",
        description: "Finds files and folders below a folder that every user may write to.",
        examples: &[Example { goal: "which files can anybody change", arguments: r#"{"path": "/var/lib/aios"}"# }],
        needs: &["fs:read:{path}"],
        timeout: Duration::from_secs(60),
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().looks_through(&input.path).with(Privilege::ReadAll)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut output = Output { files: Vec::new(), total: 0, unread: Vec::new() };
        output.unread = files::walk(host, &input.path, |met| {
            let mode = met.metadata.mode();
            if met.metadata.is_symlink() || mode & OTHERS_WRITE == 0 {
                return Ok(());
            }
            output.total += 1;
            if output.files.len() < input.limit.index() {
                output.files.push(Line {
                    path: met.path.to_owned(),
                    mode: format!("{:04o}", mode & 0o7777),
                    uid: met.metadata.uid(),
                    anyone_may_remove: met.metadata.is_dir().then_some(mode & STICKY == 0),
                });
            }
            Ok(())
        })?;
        output.unread.truncate(20);
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use serde_json::json;

    use super::*;
    use crate::{error::Code, testing::call};

    #[test]
    fn what_everybody_may_write_is_found_and_links_are_not() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir(host.path("/open")).expect("folder");
        fs::create_dir(host.path("/tmp")).expect("folder");
        fs::write(host.path("/file"), "").expect("write");
        fs::write(host.path("/private"), "").expect("write");
        symlink("/private", host.path("/link")).expect("link");
        for (path, mode) in [("/open", 0o777), ("/tmp", 0o1777), ("/file", 0o666), ("/private", 0o600)] {
            fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).expect("mode");
        }
        let answer = call::<WorldWritable>(&host, json!({"path": "/"})).expect("list");
        let uid = rustix::process::getuid().as_raw();
        let expected = json!([
            {"path": "/file", "mode": "0666", "uid": uid},
            {"path": "/open", "mode": "0777", "uid": uid, "anyone_may_remove": true},
            {"path": "/tmp", "mode": "1777", "uid": uid, "anyone_may_remove": false},
        ]);
        assert_eq!(answer["files"], expected);
        let code = call::<WorldWritable>(&host, json!({"path": "/none"})).map_err(|error| error.code);
        assert_eq!(code, Err(Code::NotFound));
    }
}
