//! Control groups (version 2): one for each call, below the daemon's own.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::{Enforcement, Error, Limits};

/// Controllers that the limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Beginning of the name of a directory of calls; the number of the daemon's process and a serial number follow.
const CALLS: &str = "calls-";
/// The daemon's own processes, since a group that hands controllers down can't hold any.
const OWN_LEAF: &str = "daemon";

/// Where calls' groups are made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Groups {
    directory: PathBuf,
    controllers: Vec<String>,
}

/// The group of one call.
#[derive(Debug)]
pub struct Group {
    directory: PathBuf,
    /// To be born into.
    pub descriptor: OwnedFd,
}

impl Groups {
    /// Makes a place for the groups of this process's calls.
    ///
    /// The process moves into a leaf of its group, so it should be alone there with its children: a unit of the init.
    pub fn prepare(enforcement: Enforcement) -> Result<Option<Groups>, Error> {
        let missing = |reason: String| Error::Unsupported { feature: "control groups (version 2)".into(), reason };
        let base = match own_directory() {
            Ok(base) => base,
            Err(_) if enforcement == Enforcement::WhereOffered => return Ok(None),
            Err(reason) => return Err(missing(reason)),
        };
        let offered = hand_down(&base);
        let lacking: Vec<_> = CONTROLLERS.iter().filter(|name| !offered.iter().any(|has| has == *name)).collect();
        if enforcement == Enforcement::Required && !lacking.is_empty() {
            return Err(missing(format!("{} hands down no {lacking:?} controller", base.display())));
        }
        remove_abandoned(&base);
        // Numbers begin again when a container's init is started anew, so the name is tried until it is free.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let directory = base.join(format!("{CALLS}{}-{number}", std::process::id()));
            match fs::create_dir(&directory) {
                Ok(()) => break directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) if enforcement == Enforcement::WhereOffered => return Ok(None),
                Err(error) => return Err(missing(format!("{}: {error}", directory.display()))),
            }
        };
        let controllers = hand_down(&directory);
        Ok(Some(Groups { directory, controllers }))
    }

    /// Makes the group of the call `number` with its limits.
    pub fn make(&self, number: u64, limits: &Limits) -> io::Result<Group> {
        let directory = self.directory.join(number.to_string());
        fs::create_dir(&directory)?;
        let settings = [
            ("memory", "memory.max", limits.memory_max.to_string()),
            ("memory", "memory.swap.max", "0".into()),
            ("memory", "memory.oom.group", "1".into()),
            ("pids", "pids.max", limits.tasks_max.to_string()),
            ("cpu", "cpu.weight", limits.cpu_weight.to_string()),
        ];
        for (controller, file, value) in settings {
            if self.controllers.iter().any(|has| has == controller) {
                match fs::write(directory.join(file), value) {
                    // A kernel without swap has no limit of it.
                    Err(error) if file == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        let descriptor = File::open(&directory)?.into();
        Ok(Group { directory, descriptor })
    }

    /// Ends all calls and removes their groups, as far as they are empty already.
    pub fn sweep(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for call in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let _ = fs::write(call.join("cgroup.kill"), "1");
            for _ in 0..100 {
                if fs::remove_dir(&call).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }

    /// Ends all calls and removes the place itself.
    pub fn remove(&self) {
        self.sweep();
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Group {
    /// Ends all processes in it, without a race against their forks.
    pub fn kill(&self) {
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
    }

    /// Whether the kernel ended processes in it for want of memory.
    pub fn out_of_memory(&self) -> bool {
        count(&self.directory.join("memory.events"), "oom_kill").is_some_and(|kills| kills > 0)
    }

    /// Time of all its processes on processors, in microseconds.
    pub fn cpu_microseconds(&self) -> Option<u64> {
        count(&self.directory.join("cpu.stat"), "usage_usec")
    }

    /// Most memory held at once, in bytes, where the kernel counts it.
    pub fn memory_peak(&self) -> Option<u64> {
        fs::read_to_string(self.directory.join("memory.peak")).ok()?.trim().parse().ok()
    }

    /// Removes the group; `false` while processes are still ending.
    pub fn remove(&self) -> bool {
        match fs::remove_dir(&self.directory) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn count(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The directory of this process's group.
fn own_directory() -> Result<PathBuf, String> {
    let read = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    let (root, mount) = find_mount(&mounts).ok_or("not mounted")?;
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or("this process is in none")?;
    let below = own.strip_prefix(root).unwrap_or(own).trim_matches('/');
    // A second sandbox of a process finds it in the leaf already.
    let below = below.strip_suffix(OWN_LEAF).map_or(below, |above| above.trim_end_matches('/'));
    Ok(Path::new(mount).join(below))
}

/// The mount of the hierarchy: its root within the hierarchy, and where it is mounted.
fn find_mount(mountinfo: &str) -> Option<(&str, &str)> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        (file_system.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
    })
}

/// Lets the groups below have the controllers; gives those that they have.
fn hand_down(group: &Path) -> Vec<String> {
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<&str> = offered.split_whitespace().filter(|name| CONTROLLERS.contains(name)).collect();
    // Before anything is enabled: the kernel takes `cpu` and `pids` for a group that holds processes, refuses `memory`, and
    // from then on no process can enter a group below.
    if !offered.is_empty() && holds_processes(group) {
        move_self_below(group);
    }
    let enable = |name: &&&str| fs::write(group.join("cgroup.subtree_control"), format!("+{name}")).is_ok();
    offered.iter().filter(enable).map(ToString::to_string).collect()
}

/// The root of the hierarchy may hold processes and hand down; it has no type.
fn holds_processes(group: &Path) -> bool {
    group.join("cgroup.type").exists()
        && fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|processes| !processes.trim().is_empty())
}

/// Removes what daemons left that could not clean up.
fn remove_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(CALLS)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            Groups { directory: entry.path(), controllers: Vec::new() }.remove();
        }
    }
}

/// Where that fails, so does what is enabled next, and that is told.
fn move_self_below(group: &Path) {
    let leaf = group.join(OWN_LEAF);
    let _ = fs::create_dir(&leaf);
    let _ = fs::write(leaf.join("cgroup.procs"), "0");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_of_version_2_is_found_among_others() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                         31 23 0:27 /box /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(mountinfo), Some(("/box", "/sys/fs/cgroup")));
        assert_eq!(find_mount("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn a_count_is_taken_from_its_own_line_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        fs::write(&file, "low 0\noom 7\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert_eq!(count(&file, "oom_kill"), Some(3));
        assert_eq!(count(&file, "oom"), Some(7));
        assert_eq!(count(&file, "max"), None);
    }
}
