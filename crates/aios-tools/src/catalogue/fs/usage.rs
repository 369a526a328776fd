//! `fs.usage`

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::walk::{DEPTH_MAX, Next, walk};
use crate::{
    access::Access,
    args::{AbsolutePath, Count},
    beneath::{Kind, Tree, refused},
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Time spent counting.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Files with several names that are remembered, so that they count once.
const LINKED_MAX: usize = 1 << 20;

pub struct Usage;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder whose contents are counted.
    path: AbsolutePath,
    /// Largest entries to name.
    #[serde(default)]
    limit: Count<1, 100, 10>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Room on the disk that everything in the folder takes, in bytes; files with several names count once.
    disk_bytes: u64,
    /// Regular files.
    files: u64,
    /// Folders.
    folders: u64,
    /// Whether everything was counted; else the time or the rights did not suffice.
    complete: bool,
    /// The folder's largest entries, each with all below it.
    largest: Vec<Part>,
    /// Size of the file system that holds the folder, in bytes.
    filesystem_bytes: u64,
    /// Bytes of it that are free for services.
    filesystem_free_bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    /// Name in the folder.
    name: String,
    /// Room on the disk in bytes.
    disk_bytes: u64,
}

impl Tool for Usage {
    const SPEC: ToolSpec = ToolSpec {
        name: "fs.usage",
        description: "Counts the disk space of a folder with all below it, names its largest entries, and says how much \
                      of its file system is free. Sizes in bytes.",
        examples: &[Example { goal: "what fills the disk", arguments: r#"{"path": "/var/lib/aios", "limit": 5}"# }],
        needs: &["fs:read:{path}"],
        timeout: Duration::from_secs(30),
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::default().looks_through(&input.path)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let folder = Tree::of(host)?.folder(&input.path)?;
        let system = rustix::fs::fstatvfs(&folder).map_err(|error| refused(&input.path, error))?;
        let (mut disk_bytes, mut files, mut folders) = (0, 0, 0);
        let mut parts: BTreeMap<String, u64> = BTreeMap::new();
        let (mut linked, end) = (HashSet::new(), Instant::now() + TIME_MAX);
        let left_out = walk(folder, DEPTH_MAX, &mut |found| {
            files += u64::from(found.kind == Kind::File);
            folders += u64::from(found.kind == Kind::Folder);
            let has_names = found.stat.st_nlink > 1 && found.kind != Kind::Folder && linked.len() < LINKED_MAX;
            if !has_names || linked.insert((found.stat.st_dev, found.stat.st_ino)) {
                let bytes = found.stat.st_blocks as u64 * 512;
                let first = found.path.split('/').next().unwrap_or_default();
                disk_bytes += bytes;
                match parts.get_mut(first) {
                    Some(part) => *part += bytes,
                    None => drop(parts.insert(first.to_owned(), bytes)),
                }
            }
            Ok(if Instant::now() > end { Next::Stop } else { Next::On })
        })?;
        let mut largest: Vec<Part> = parts.into_iter().map(|(name, disk_bytes)| Part { name, disk_bytes }).collect();
        largest.sort_by_key(|part| std::cmp::Reverse(part.disk_bytes));
        largest.truncate(input.limit.index());
        Ok(Output {
            disk_bytes,
            files,
            folders,
            complete: !left_out.stopped && left_out.folders == 0,
            largest,
            filesystem_bytes: system.f_blocks * system.f_frsize,
            filesystem_free_bytes: system.f_bavail * system.f_frsize,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, error::Code};

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("big")).expect("mkdir");
        fs::write(folder.path().join("big/file"), vec![1; 256 << 10]).expect("write");
        fs::hard_link(folder.path().join("big/file"), folder.path().join("small")).expect("link");
        let host = Host::below(folder.path());
        let usage = call::<Usage>(&host, json!({"path": "/", "limit": 1})).expect("usage");
        assert_eq!((&usage["files"], &usage["folders"], &usage["complete"]), (&json!(2), &json!(1), &json!(true)));
        let bytes = usage["disk_bytes"].as_u64().expect("a number");
        assert!((256 << 10..400 << 10).contains(&bytes), "{bytes}");
        assert_eq!((usage["largest"][0]["name"].as_str(), usage["largest"][1].is_null()), (Some("big"), true));
        assert!(usage["filesystem_bytes"].as_u64() > usage["filesystem_free_bytes"].as_u64(), "{usage}");
        assert_eq!(call::<Usage>(&host, json!({"path": "/small"})).expect_err("file").code, Code::InvalidArgument);
    }
}
