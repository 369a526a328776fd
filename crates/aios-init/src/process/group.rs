//! All processes of a unit as one thing: a control group (version 2), or, where there is none, a session.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use crate::Mode;
use crate::failure::{Failure, Stage};
use crate::unit::Limits;

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Name of the group that holds the units' groups.
const PARENT: &str = "aios";

/// Where the units' control groups are made.
#[derive(Debug)]
pub struct Groups {
    mode: Mode,
    tree: Option<Tree>,
}

#[derive(Debug)]
struct Tree {
    /// Directory of the units' groups.
    directory: PathBuf,
    /// The same as `/proc/<pid>/cgroup` names it.
    name: String,
    controllers: Vec<String>,
}

/// The processes of one run of a unit.
#[derive(Debug)]
pub struct Group {
    control: Option<Control>,
    session: Option<Pid>,
}

#[derive(Debug)]
struct Control {
    directory: PathBuf,
    name: String,
    events: File,
}

impl Groups {
    /// Prepares the control group tree. Without one, units run all the same where they need no limits.
    pub fn prepare(mode: Mode) -> (Self, Result<(), String>) {
        match Tree::prepare() {
            Ok(tree) => (Groups { mode, tree: Some(tree) }, Ok(())),
            Err(reason) => (Groups { mode, tree: None }, Err(reason)),
        }
    }

    /// Makes the group of a unit with its limits. Gives warnings for limits that a container's host does not let us set.
    pub fn make(&self, unit: &str, limits: &Limits) -> Result<(Group, Vec<String>), Failure> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Failure::new(Stage::Cgroup, format!("{what}: {error}"));
        let settings = settings(limits);
        let mut warnings = Vec::new();
        let Some(tree) = &self.tree else {
            return match (settings.first(), self.mode) {
                (Some((file, _)), Mode::Machine) => Err(failed(file, &"there are no control groups (version 2)")),
                (Some((file, _)), Mode::Container) => {
                    warnings.push(format!("limits are not in force: {file}: no control groups"));
                    Ok((Group { control: None, session: None }, warnings))
                }
                (None, _) => Ok((Group { control: None, session: None }, warnings)),
            };
        };
        let directory = tree.directory.join(unit);
        create(&directory).map_err(|error| failed(&directory.display().to_string(), &error))?;
        let events = File::open(directory.join("cgroup.events")).map_err(|error| failed("cgroup.events", &error))?;
        let control = Control { directory, name: format!("{}/{unit}", tree.name), events };
        if !control.is_empty() {
            return Err(failed(&control.directory.display().to_string(), &"processes of an earlier run are left"));
        }
        reset(&control.directory);
        for (file, value) in settings {
            let controller = file.split('.').next().unwrap_or(file);
            if tree.controllers.iter().any(|known| known == controller) {
                fs::write(control.directory.join(file), value).map_err(|error| failed(file, &error))?;
            } else if self.mode == Mode::Machine {
                return Err(failed(file, &format!("the kernel has no {controller} controller")));
            } else {
                warnings.push(format!("limit {file} is not in force: the host gives us no {controller} controller"));
            }
        }
        // One process out of memory leaves a unit that half works; the whole unit is ended and started again.
        if tree.controllers.iter().any(|known| known == "memory") {
            let _ = fs::write(control.directory.join("memory.oom.group"), "1");
        }
        Ok((Group { control: Some(control), session: None }, warnings))
    }
}

impl Tree {
    fn prepare() -> Result<Self, String> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
        let (root, mount) = find_mount(&mounts).ok_or("control groups (version 2) are not mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
        let own = own_group(&own).ok_or("/proc/self/cgroup names no group of version 2")?;
        let below_mount = own.strip_prefix(root).unwrap_or(own).trim_matches('/');
        let base = Path::new(mount).join(below_mount);
        let directory = base.join(PARENT);
        create(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let controllers = hand_down(&base);
        let handed_down = hand_down(&directory);
        let controllers = controllers.into_iter().filter(|controller| handed_down.contains(controller)).collect();
        Ok(Tree { directory, name: format!("{}/{PARENT}", own.trim_end_matches('/')), controllers })
    }
}

/// The control groups' mount: its root within the hierarchy, and where it is mounted.
fn find_mount(mountinfo: &str) -> Option<(&str, &str)> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        (file_system.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
    })
}

fn own_group(proc_cgroup: &str) -> Option<&str> {
    proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Lets the children of a group have the controllers that it has itself; gives those.
fn hand_down(group: &Path) -> Vec<String> {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let available: Vec<&str> = available.split_whitespace().filter(|name| CONTROLLERS.contains(name)).collect();
    let enable = |controller: &&&str| fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")).is_ok();
    let enabled: Vec<String> = available.iter().filter(enable).map(ToString::to_string).collect();
    if enabled.len() == available.len() || !move_self_below(group) {
        return enabled;
    }
    available.iter().filter(enable).map(ToString::to_string).collect()
}

/// A group with processes of its own cannot hand controllers down, unless it is the root: PID 1 makes room for that.
fn move_self_below(group: &Path) -> bool {
    let init = group.join("init");
    create(&init).is_ok() && fs::write(init.join("cgroup.procs"), "0").is_ok()
}

fn create(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Removes the groups that a unit made below its own in an earlier run, and takes back the controllers that it handed
/// down to them: a group that hands controllers down can hold no process, so the unit could not start in it.
fn reset(group: &Path) {
    let below = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    for directory in below.filter(|path| path.is_dir()) {
        reset(&directory);
        let _ = fs::remove_dir(directory);
    }
    let handed_down = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in handed_down.split_whitespace() {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("-{controller}"));
    }
}

fn settings(limits: &Limits) -> Vec<(&'static str, String)> {
    [
        ("memory.max", limits.memory_max.map(|size| size.0)),
        ("memory.high", limits.memory_high.map(|size| size.0)),
        ("cpu.weight", limits.cpu_weight),
        ("pids.max", limits.tasks_max),
    ]
    .into_iter()
    .filter_map(|(file, value)| value.map(|value| (file, value.to_string())))
    .collect()
}

impl Group {
    pub(super) fn of_session(self, session: Pid) -> Self {
        Group { session: Some(session), ..self }
    }

    /// Puts the calling process into the group.
    pub(super) fn join(&self) -> Result<(), String> {
        match &self.control {
            None => Ok(()),
            Some(control) => {
                let file = control.directory.join("cgroup.procs");
                fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))
            }
        }
    }

    /// To watch for `PRI`: the group became empty.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(|control| control.events.as_fd())
    }

    pub fn is_empty(&self) -> bool {
        match (&self.control, self.session) {
            (Some(control), _) => control.is_empty(),
            (None, Some(session)) => of_session(session).is_empty(),
            (None, None) => true,
        }
    }

    pub fn contains(&self, pid: Pid) -> bool {
        match (&self.control, self.session) {
            (Some(control), _) => {
                let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
                // A process that has ended keeps its group's name until it is reaped.
                let name = own_group(&groups).map(|name| name.trim_end_matches(" (deleted)"));
                let below = name.and_then(|name| name.strip_prefix(control.name.as_str()));
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            (None, Some(session)) => read_stat(pid).is_some_and(|stat| stat.session == session.as_raw_nonzero().get()),
            (None, None) => false,
        }
    }

    /// Ends all processes, at once and without a race against their forks where the kernel can.
    pub fn kill(&self) {
        let at_once =
            self.control.as_ref().is_some_and(|control| fs::write(control.directory.join("cgroup.kill"), "1").is_ok());
        if !at_once {
            for pid in self.processes() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Memory in use, in bytes, where the kernel counts it.
    pub fn memory(&self) -> Option<u64> {
        let control = self.control.as_ref()?;
        fs::read_to_string(control.directory.join("memory.current")).ok()?.trim().parse().ok()
    }

    pub(super) fn processes(&self) -> Vec<Pid> {
        match (&self.control, self.session) {
            (Some(control), _) => control.processes(),
            (None, Some(session)) => of_session(session),
            (None, None) => Vec::new(),
        }
    }
}

impl Control {
    fn is_empty(&self) -> bool {
        let mut events = [0; 256];
        match self.events.read_at(&mut events, 0) {
            Ok(length) => String::from_utf8_lossy(&events[..length]).lines().any(|line| line == "populated 0"),
            // The group was removed, and a group with processes cannot be.
            Err(_) => true,
        }
    }

    /// The group's processes and those of groups that the unit made below it.
    fn processes(&self) -> Vec<Pid> {
        let mut processes = Vec::new();
        let mut pending = vec![self.directory.clone()];
        while let Some(directory) = pending.pop() {
            let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            processes.extend(listed.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw));
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        processes
    }
}

struct Stat {
    session: i32,
    zombie: bool,
}

/// `/proc/<pid>/stat`: `pid (name) state ppid pgrp session ...`; the name may contain anything, brackets included.
fn read_stat(pid: Pid) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Stat { session: fields.nth(2)?.parse().ok()?, zombie })
}

/// Without control groups: the processes that did not leave the main process's session.
fn of_session(session: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Pid::from_raw);
    let belongs =
        |pid: &Pid| read_stat(*pid).is_some_and(|stat| !stat.zombie && stat.session == session.as_raw_nonzero().get());
    pids.filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found_among_others() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                         31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(mountinfo), Some(("/", "/sys/fs/cgroup")));
        assert_eq!(own_group("8:pids:/x\n0::/machine/a\n"), Some("/machine/a"));
    }

    #[test]
    fn limits_become_the_kernels_settings() {
        let limits = Limits { cpu_weight: Some(50), tasks_max: Some(10), open_files: Some(5), ..Limits::default() };
        assert_eq!(settings(&limits), [("cpu.weight", "50".to_string()), ("pids.max", "10".to_string())]);
    }

    #[test]
    fn a_process_is_found_in_its_session() {
        use std::io::Read;
        use std::process::{Command, Stdio};

        let shell = ["sh", "-c", "echo ready; exec cat"];
        let mut child =
            Command::new("setsid").args(shell).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let pid = Pid::from_child(&child);
        let group = Group { control: None, session: Some(pid) };
        let found = (group.contains(pid), group.contains(rustix::process::getpid()), group.is_empty());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, (true, false, false));
        assert!(group.is_empty());
    }
}
