//! `fs.write`

use std::io::Write as _;

use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mode::Permissions;
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    beneath::{Place, Tree},
    error::{Code, ToolError},
    host::Host,
    replacement::{Over, Replacement},
    tool::{Example, Inverse, Tool, ToolSpec},
};

/// Most that one call writes.
const LENGTH_MAX: usize = 1 << 20;

pub struct Write;

/// What is done where the file exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It fails.
    #[default]
    Create,
    /// The contents are replaced; owner, mode and extended attributes stay.
    Overwrite,
    /// The text is added at the end.
    Append,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File to write. Its folder must exist.
    path: AbsolutePath,
    /// Text to write, 1 MiB at most.
    #[schemars(length(max = 1_048_576))]
    content: String,
    /// Where the file exists: `create` fails, `overwrite` replaces the contents, `append` adds to them. Where it does
    /// not, all make it.
    #[serde(default)]
    how: How,
    /// Permissions of a new file.
    #[serde(default = "file")]
    mode: Permissions,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the file is new.
    created: bool,
    /// Its size now, in bytes.
    size_bytes: u64,
}

fn file() -> Permissions {
    Permissions::FILE
}

impl Tool for Write {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.write",
        description: "Writes a text file, at once or not at all: a new one, or instead of or behind what is there. Text up \
                      to 1 MiB.",
        examples: &[
            Example {
                goal: "note this",
                arguments: r#"{"path": "/var/lib/aios/note.txt", "content": "Pump 2 runs.\n"}"#,
            },
            Example {
                goal: "add a line to the notes",
                arguments: r#"{"path": "/var/lib/aios/note.txt", "content": "It stopped.\n", "how": "append"}"#,
            },
        ],
        needs: &["fs:write:{path}"],
        risk: crate::tool::Risk::Medium,
        idempotent: false,
        reversible: true,
        sinks: &["/path"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().replaces(&input.path).with(Privilege::FileOwner).with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if input.content.len() > LENGTH_MAX {
            let text = format!("the content has {} bytes, {LENGTH_MAX} is the most", input.content.len());
            return Err(ToolError::new(Code::TooLarge, text));
        }
        let tree = Tree::of(host)?;
        let place = tree.place(&input.path)?;
        let created = place.stat()?.is_none();
        if !created && input.how == How::Append {
            return append(&tree, &place, &input.content);
        }
        if !created {
            // Nothing but a regular file is replaced.
            tree.regular(&input.path, OFlags::RDONLY)?;
        }
        let mut new = Replacement::begin(&place, input.mode.mode())?;
        new.write(input.content.as_bytes())?;
        let over = if input.how == How::Overwrite { Over::Anything } else { Over::Nothing };
        if over == Over::Anything { new.like_old()? } else { new }.place(over)?;
        Ok(Output { created, size_bytes: input.content.len() as u64 })
    }
}

fn append(tree: &Tree, place: &Place, content: &str) -> Result<Output, ToolError> {
    let failed = |error| ToolError::io(place.path.as_path(), &error);
    let mut file = tree.regular(&place.path, OFlags::WRONLY | OFlags::APPEND)?;
    let length = file.metadata().map_err(failed)?.len();
    if let Err(error) = file.write_all(content.as_bytes()).and_then(|()| file.sync_data()) {
        // What of it was written is taken back; the error tells what went wrong in the first place.
        let _ = file.set_len(length);
        return Err(failed(error));
    }
    Ok(Output { created: false, size_bytes: length + content.len() as u64 })
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
    use crate::catalogue::fs::testing::{call, check_inverse, states};

    #[test]
    fn a_file_is_made_replaced_and_continued() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("f");
        let host = Host::below(folder.path());
        let write = |arguments| call::<Write>(&host, arguments);
        let made = write(json!({"path": "/f", "content": "one", "mode": "0600"})).expect("create");
        assert_eq!(made, json!({"created": true, "size_bytes": 3}));
        assert_eq!(write(json!({"path": "/f", "content": "x"})).expect_err("exists").code, Code::AlreadyExists);
        assert_eq!(fs::metadata(&at).expect("stat").mode() & 0o7777, 0o600);
        fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).expect("chmod");
        rustix::fs::setxattr(&at, "user.note", b"kept", XattrFlags::empty()).expect("xattr");
        write(json!({"path": "/f", "content": "two", "how": "overwrite"})).expect("overwrite");
        let more = write(json!({"path": "/f", "content": " three", "how": "append"})).expect("append");
        assert_eq!(more, json!({"created": false, "size_bytes": 9}));
        assert_eq!(fs::read_to_string(&at).expect("read"), "two three");
        assert_eq!(fs::metadata(&at).expect("stat").mode() & 0o7777, 0o640);
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&at, "user.note", value.as_mut_slice()).expect("xattr");
        assert_eq!(&value[..length], b"kept");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn nothing_but_a_file_is_replaced() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("folder")).expect("mkdir");
        symlink("folder", folder.path().join("link")).expect("link");
        let before = states(folder.path());
        let host = Host::below(folder.path());
        for how in ["overwrite", "append", "create"] {
            for path in ["/folder", "/link", "/link/new", "/"] {
                let error = call::<Write>(&host, json!({"path": path, "content": "x", "how": how}));
                let code = error.expect_err(path).code;
                assert!(matches!(code, Code::InvalidArgument), "{path} {how}: {code:?}");
            }
        }
        let none = call::<Write>(&host, json!({"path": "/none/new", "content": ""})).expect_err("no folder");
        assert_eq!(none.code, Code::NotFound);
        assert_eq!(states(folder.path()), before);
    }

    #[test]
    fn what_is_written_can_be_undone() {
        let folder = tempfile::tempdir().expect("tempdir");
        check_inverse::<Write>(folder.path(), json!({"path": "/f", "content": "a"}));
        check_inverse::<Write>(folder.path(), json!({"path": "/f", "content": "b", "how": "overwrite"}));
        check_inverse::<Write>(folder.path(), json!({"path": "/f", "content": "c", "how": "append"}));
    }
}
