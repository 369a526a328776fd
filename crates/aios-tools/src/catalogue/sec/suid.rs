//! `sec.suid`

use std::{os::unix::fs::MetadataExt as _, path::Path, time::Duration};

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

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// Longest value of `security.capability`: struct vfs_ns_cap_data.
const CAPABILITY_SIZE: usize = 24;

pub struct Suid;

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
    /// Programs that run with more rights than their caller's.
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
    gid: u32,
    /// Linux capabilities of the file, permitted ones as a hexadecimal mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<String>,
}

impl Tool for Suid {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.suid",
        description: "Finds files with the set-user-id or set-group-id bit or with Linux capabilities, below a folder.",
        examples: &[Example {
            goal: "which programs run as root whoever starts them",
            arguments: r#"{"path": "/usr"}"#,
        }],
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
            if !met.metadata.is_file() {
                return Ok(());
            }
            let mode = met.metadata.mode();
            let capabilities = capabilities(met.place);
            if mode & (SET_UID | SET_GID) == 0 && capabilities.is_none() {
                return Ok(());
            }
            output.total += 1;
            if output.files.len() < input.limit.index() {
                let (uid, gid) = (met.metadata.uid(), met.metadata.gid());
                let mode = format!("{:04o}", mode & 0o7777);
                output.files.push(Line { path: met.path.to_owned(), mode, uid, gid, capabilities });
            }
            Ok(())
        })?;
        output.unread.truncate(20);
        Ok(output)
    }
}

/// The permitted capabilities of a file (`include/uapi/linux/capability.h`): two words of 32 bits behind the header, each
/// followed by the inheritable ones.
fn capabilities(path: &Path) -> Option<String> {
    let mut value = [0; CAPABILITY_SIZE];
    let length = rustix::fs::lgetxattr(path, "security.capability", &mut value).ok()?;
    let word = |at: usize| Some(u32::from_le_bytes(value[..length].get(at..at + 4)?.try_into().ok()?));
    let mask = u64::from(word(4)?) | u64::from(word(12).unwrap_or(0)) << 32;
    Some(format!("{mask:016x}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use serde_json::json;

    use super::*;
    use crate::testing::call;

    #[test]
    fn programs_with_rights_of_their_own_are_found() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        for (name, mode) in [("plain", 0o755), ("user", 0o4755), ("group", 0o2755), ("able", 0o755)] {
            let path = folder.path().join(name);
            fs::write(&path, "").expect("write");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        }
        // Revision 2, effective; CAP_NET_RAW (13) permitted. As root.
        let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::setxattr(
            folder.path().join("able"),
            "security.capability",
            &value,
            rustix::fs::XattrFlags::empty(),
        )
        .expect("setxattr needs root");
        let answer = call::<Suid>(&host, json!({"path": "/"})).expect("suid");
        let found: Vec<_> =
            answer["files"].as_array().expect("files").iter().map(|file| file["path"].clone()).collect();
        assert_eq!(found, ["/able", "/group", "/user"]);
        assert_eq!(answer["files"][0]["capabilities"], "0000000000002000");
        assert_eq!(answer["files"][2]["mode"], "4755");
        let cut = call::<Suid>(&host, json!({"path": "/", "limit": 1})).expect("suid");
        assert_eq!((cut["files"].as_array().map(Vec::len), &cut["total"]), (Some(1), &json!(3)));
    }
}
