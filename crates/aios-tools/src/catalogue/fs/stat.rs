//! `fs.stat`

use std::{fs::File, os::fd::AsFd};

use rustix::fs::{OFlags, Stat as Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::AbsolutePath,
    beneath::{Kind, Place, Tree, open_beneath, text_of},
    error::ToolError,
    host::Host,
    replacement::extended_attributes,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Extended attributes shown, and bytes of each.
const ATTRIBUTES_MAX: usize = 16;
const VALUE_MAX: usize = 256;

pub struct Stat;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// File, folder or anything else with a name.
    path: AbsolutePath,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What it is.
    kind: Kind,
    /// Size in bytes.
    size_bytes: u64,
    /// Room that it takes on the disk, in bytes.
    disk_bytes: u64,
    /// Permissions, octal: `0644`.
    mode: String,
    /// Number of the user that owns it.
    uid: u32,
    /// Number of the group that owns it.
    gid: u32,
    /// Names that it has.
    links: u64,
    /// When its contents changed last (RFC 3339, UTC).
    modified: String,
    /// When contents, owner or mode changed last.
    changed: String,
    /// When it was read last, as far as the file system keeps that.
    accessed: String,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Extended attributes of a file or folder, 16 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Attribute {
    /// Name with its namespace: `user.comment`.
    name: String,
    /// The first 256 bytes as text, bytes that are not UTF-8 replaced.
    value: String,
    /// Length of the whole value in bytes.
    size_bytes: usize,
}

impl Tool for Stat {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.stat",
        description: "Tells about a file, folder or link: kind, size in bytes, mode, owner, times, extended attributes. \
                      A link is told about itself, not what it leads to.",
        examples: &[Example { goal: "how large is the ledger", arguments: r#"{"path": "/var/lib/aios/ledger"}"# }],
        needs: &["fs:read:{path}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().reads(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let tree = Tree::of(host)?;
        let opened = tree.open(&input.path, OFlags::PATH)?;
        let status = rustix::fs::fstat(&opened).map_err(|error| crate::beneath::refused(&input.path, error))?;
        let kind = Kind::of(&status);
        let target = (kind == Kind::Link).then(|| target(&opened)).flatten();
        let attributes = match kind {
            Kind::File | Kind::Folder if input.path.as_str() != "/" => attributes(&tree.place(&input.path)?),
            _ => Vec::new(),
        };
        Ok(Output { target, attributes, ..output(kind, &status) })
    }
}

// 32 bits wide on some machines.
#[allow(clippy::useless_conversion)]
fn output(kind: Kind, status: &Status) -> Output {
    Output {
        kind,
        size_bytes: status.st_size as u64,
        disk_bytes: status.st_blocks as u64 * 512,
        mode: format!("{:04o}", status.st_mode & 0o7777),
        uid: status.st_uid,
        gid: status.st_gid,
        links: status.st_nlink.into(),
        modified: time(status.st_mtime, status.st_mtime_nsec),
        changed: time(status.st_ctime, status.st_ctime_nsec),
        accessed: time(status.st_atime, status.st_atime_nsec),
        target: None,
        attributes: Vec::new(),
    }
}

/// A file's time; the text of the number where no calendar reaches so far.
pub(in crate::catalogue) fn time(seconds: i64, nanoseconds: u64) -> String {
    jiff::Timestamp::new(seconds, nanoseconds as i32).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn target(link: impl AsFd) -> Option<String> {
    rustix::fs::readlinkat(link, "", Vec::new()).ok().map(|target| text_of(&target))
}

/// Extended attributes; none where the file may not be opened.
fn attributes(place: &Place) -> Vec<Attribute> {
    let Ok(file) = open_beneath(&place.folder, &place.name, OFlags::RDONLY | OFlags::NONBLOCK) else {
        return Vec::new();
    };
    let attributes = extended_attributes(&File::from(file)).unwrap_or_default();
    let shown = attributes.into_iter().take(ATTRIBUTES_MAX).map(|(name, value)| {
        let text = String::from_utf8_lossy(&value[..value.len().min(VALUE_MAX)]).into_owned();
        Attribute { name, value: text, size_bytes: value.len() }
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn a_file_and_a_link_are_told_about_themselves() {
        let folder = tempfile::tempdir().expect("tempdir");
        let at = folder.path().join("file");
        fs::write(&at, "four").expect("write");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).expect("chmod");
        symlink("/etc/shadow", folder.path().join("link")).expect("link");
        let host = Host::below(folder.path());
        let file = call::<Stat>(&host, json!({"path": "/file"})).expect("stat");
        assert_eq!(
            (&file["kind"], &file["size_bytes"], &file["mode"], &file["links"]),
            (&json!("file"), &json!(4), &json!("0640"), &json!(1))
        );
        assert!(file["modified"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{file}");
        let link = call::<Stat>(&host, json!({"path": "/link"})).expect("stat");
        assert_eq!((&link["kind"], &link["target"]), (&json!("link"), &json!("/etc/shadow")));
        assert_eq!(call::<Stat>(&host, json!({"path": "/"})).expect("stat")["kind"], "folder");
        assert_eq!(call::<Stat>(&host, json!({"path": "/none"})).expect_err("none").code, Code::NotFound);
        assert_eq!(call::<Stat>(&host, json!({"path": "/link/a"})).expect_err("link").code, Code::InvalidArgument);
    }

    #[test]
    fn times_beyond_the_calendar_are_numbers() {
        assert_eq!(time(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(time(i64::MAX, 0), i64::MAX.to_string());
    }
}
