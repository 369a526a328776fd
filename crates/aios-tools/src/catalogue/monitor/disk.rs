//! `monitor.disk`

use std::path::Path;

use aios_core::paths;
use rustix::fs::statvfs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
    text::{plain, tenths},
    tool::{Example, Tool, ToolSpec},
};

const DISKSTATS: &str = "/proc/diskstats";
/// The kernel counts in sectors of this size, whatever the disk's are.
const SECTOR: u64 = 512;
/// Paths of one call at most.
const PATHS_MAX: usize = 16;
/// Disks that are shown at most.
const DISKS_MAX: usize = 64;
/// Where the file systems that every device has can be asked for their room without showing what is in them: the place that
/// is reported, and one that lies in it.
const PLACES: [(&str, &str); 3] =
    [("/", "/usr/lib/aios/units"), (paths::DATA, "/var/lib/aios/lost+found"), (paths::DATA, paths::DEVICE_MODELS)];

pub struct Disk;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Files or folders whose file systems are looked at, 16 at most; none for the root and the data partition.
    #[serde(default)]
    #[schemars(length(max = 16))]
    paths: Paths,
}

/// Several paths.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<AbsolutePath>")]
struct Paths(Vec<AbsolutePath>);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Room in the file systems.
    filesystems: Vec<Room>,
    /// What the disks have done since boot, the first 64.
    disks: Vec<Counters>,
}

/// Room in one file system.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Room {
    /// A place in it.
    pub path: String,
    /// Size.
    size_bytes: u64,
    /// What can still be written.
    pub available_bytes: u64,
    /// What is not available, in percent.
    pub used_percent: f64,
    /// Files that can still be made; absent where the file system makes room for them as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    files_free: Option<u64>,
    /// Whether nothing can be written.
    read_only: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Counters {
    /// The kernel's name of the disk or partition.
    name: String,
    /// Read.
    read_bytes: u64,
    /// Written.
    written_bytes: u64,
    /// Time in which it had something to do.
    busy_s: f64,
    /// Requests that it works on now.
    in_flight: u64,
}

impl TryFrom<Vec<AbsolutePath>> for Paths {
    type Error = String;

    fn try_from(paths: Vec<AbsolutePath>) -> Result<Self, String> {
        match paths.len() {
            0..=PATHS_MAX => Ok(Paths(paths)),
            length => Err(format!("{length} paths are too many: name {PATHS_MAX} at most")),
        }
    }
}

impl Tool for Disk {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.disk",
        description: "Shows how full the file systems are (bytes, percent), and what each disk has read and written since boot.",
        examples: &[
            Example { goal: "is there room on the disk", arguments: "{}" },
            Example { goal: "is there room below /tmp", arguments: r#"{"paths": ["/tmp"]}"# },
        ],
        needs: &["monitor:read:disk", "fs:read:{paths}"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs("monitor:read:disk").sees(DISKSTATS);
        if input.paths.0.is_empty() {
            return visible(access);
        }
        input.paths.0.iter().fold(access, Access::reads)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let filesystems = if input.paths.0.is_empty() {
            usual(host)
        } else {
            input.paths.0.iter().map(|path| room(path.as_str(), &host.path(path))).collect::<Result<_, _>>()?
        };
        let disks = parse(&host.text(DISKSTATS)?)
            .ok_or_else(|| ToolError::new(Code::Failed, format!("{DISKSTATS} is not what the kernel documents")))?;
        Ok(Output { filesystems, disks })
    }
}

/// What asking the usual file systems takes.
pub fn visible(access: Access) -> Access {
    PLACES.iter().fold(access, |access, (_, probe)| access.sees(probe))
}

/// Room on the root and the data partition.
pub fn usual(host: &Host) -> Vec<Room> {
    let mut rooms: Vec<Room> = Vec::new();
    for (path, probe) in PLACES {
        if let Ok(found) = room(path, &host.path(probe))
            && rooms.iter().all(|other| other.path != path)
        {
            rooms.push(found);
        }
    }
    rooms
}

fn room(name: &str, path: &Path) -> Result<Room, ToolError> {
    let stat = statvfs(path).map_err(|errno| ToolError::of_io(name, &errno.into()))?;
    let size = stat.f_blocks.saturating_mul(stat.f_frsize);
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(Room {
        path: name.to_owned(),
        size_bytes: size,
        available_bytes: available,
        used_percent: tenths(size.saturating_sub(available) as f64 * 100.0 / size.max(1) as f64),
        files_free: (stat.f_files > 0).then_some(stat.f_favail),
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// `major minor name reads merged sectors ms writes merged sectors ms in-flight busy-ms ...`. Disks that never did anything,
/// such as loop devices that nobody uses, are left out.
fn parse(text: &str) -> Option<Vec<Counters>> {
    let mut disks = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let disk = Counters {
            name: plain(fields.get(2)?, 64),
            read_bytes: number(5)?.saturating_mul(SECTOR),
            written_bytes: number(9)?.saturating_mul(SECTOR),
            busy_s: tenths(number(12)? as f64 / 1000.0),
            in_flight: number(11)?,
        };
        if disk.read_bytes > 0 || disk.written_bytes > 0 {
            disks.push(disk);
        }
    }
    disks.truncate(DISKS_MAX);
    Some(disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_worked_are_shown_in_bytes() {
        let text = "   7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n 254 1 vda1 10 0 4 9 20 0 6 9 1 1500 20 0 0 0 0\n";
        let expected =
            Counters { name: "vda1".into(), read_bytes: 2048, written_bytes: 3072, busy_s: 1.5, in_flight: 1 };
        assert_eq!(parse(text), Some(vec![expected]));
        for damaged in ["7 0", "7 0 loop0 a b c d e f g h i j k l", "7 0 sda 1 2 3 4 5 6"] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_file_system_has_room_and_a_missing_path_is_named() {
        let folder = tempfile::tempdir().expect("tempdir");
        let found = room("/here", folder.path()).expect("room");
        assert!(
            found.size_bytes >= found.available_bytes
                && !found.read_only
                && (0.0..=100.0).contains(&found.used_percent)
        );
        let failure = room("/none", &folder.path().join("none")).expect_err("no path");
        assert!(failure.code == Code::NotFound && failure.message.starts_with("/none: "), "{failure}");
    }

    #[test]
    fn the_data_partition_is_told_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        for (_, probe) in PLACES {
            std::fs::create_dir_all(folder.path().join(&probe[1..])).expect("create");
        }
        let rooms = usual(&Host::below(folder.path()));
        assert_eq!(rooms.iter().map(|room| room.path.as_str()).collect::<Vec<_>>(), ["/", paths::DATA]);
    }
}
