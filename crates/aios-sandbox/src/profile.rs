//! What one call may touch. Whatever is not named here does not exist for the call.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What one call may touch, and how much it may use. The default grants nothing: no file but `/dev/null`, `/dev/zero`
/// and `/dev/urandom`, no network, no other process, no capability.
///
/// A granted path is shown at the same place inside. Paths are absolute, without `.` or `..`, and never `/`, `/proc` or
/// `/dev` themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Files and directories to read. No symbolic link is followed on the way, because a caller may have chosen them.
    pub read: Vec<PathBuf>,
    /// Files and directories to read and change. No symbolic link is followed on the way. Nothing below can be executed
    /// and no device below can be opened.
    pub write: Vec<PathBuf>,
    /// Files and directories that the tool itself names, to read. Links are followed, and shown as links; what does not
    /// exist is left out. Never put a path here that a caller had a say in.
    pub system: Vec<PathBuf>,
    /// Programs, or directories of programs, that may be started. Links are followed, and missing ones left out, as in
    /// `system`: whoever would start it finds that it is not there, and can say what that means. The directories of shared
    /// libraries come with them. Without any, `execve` and new executable memory are refused.
    pub execute: Vec<PathBuf>,
    /// Unix sockets to connect to, by path. Links are followed, and missing ones left out, as in `system`.
    pub sockets: Vec<PathBuf>,
    /// Device nodes to open for reading, writing and `ioctl`. Links are followed, and missing ones left out, as in
    /// `system`.
    pub devices: Vec<PathBuf>,
    /// The network that is seen.
    pub network: Network,
    /// The processes that are seen.
    pub processes: Processes,
    /// Capabilities kept over the machine. Without any, the call lives in a user namespace of its own and has power
    /// over nothing outside of it.
    pub capabilities: BTreeSet<Capability>,
    /// The user that file permissions are checked against.
    pub identity: Identity,
    /// Directories and files shown at another place, such as a journal's. No symbolic link is followed to the source.
    pub mount_extra: Vec<ExtraMount>,
    /// How much the call may use.
    pub limits: Limits,
}

/// The network that a call sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// An empty network namespace, and no sockets but path Unix sockets if some are granted.
    #[default]
    None,
    /// The machine's network: IP and netlink sockets.
    Host,
}

/// The processes that a call sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// Only its own. `/proc` holds nothing but these.
    #[default]
    Own,
    /// The machine's, with the machine's `/proc`, read-only. Signals reach them only with [`Capability::Kill`].
    Host,
}

/// The user that file permissions are checked against. Inside, the call is always root of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// The unprivileged user and group 65534.
    #[default]
    Nobody,
    /// The user and group of the process that holds the sandbox.
    Daemon,
    /// These, on the machine.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Identity {
    /// User and group outside, where the daemon is `daemon`.
    pub(crate) fn outside(self, daemon: (u32, u32)) -> (u32, u32) {
        match self {
            Identity::Nobody => (65_534, 65_534),
            Identity::Daemon => daemon,
            Identity::Ids { uid, gid } => (uid, gid),
        }
    }
}

/// A capability that a tool can have. Those that give the machine away at once (loading modules, raw memory and I/O,
/// BPF, tracing of processes) are not in the list, so that no profile can name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Capability {
    /// Give files to other users.
    Chown = 0,
    /// Read and write files whatever their mode and owner.
    DacOverride = 1,
    /// Read files and search directories whatever their mode and owner.
    DacReadSearch = 2,
    /// Change mode, times and attributes of files of other users.
    Fowner = 3,
    /// Keep set-id bits when a file is changed.
    Fsetid = 4,
    /// Signal any process. Use with [`Processes::Host`].
    Kill = 5,
    /// Bind ports below 1024. Use with [`Network::Host`].
    NetBindService = 10,
    /// Links, addresses, routes, firewall. Use with [`Network::Host`].
    NetAdmin = 12,
    /// Raw and packet sockets. Use with [`Network::Host`].
    NetRaw = 13,
    /// A wide one; the calls that mount, trace or load stay refused. Only for settings that ask for nothing less.
    SysAdmin = 21,
    /// Restart and power off.
    SysBoot = 22,
    /// Priorities of processes. Use with [`Processes::Host`].
    SysNice = 23,
    /// Set the clock.
    SysTime = 25,
    /// Set file capabilities.
    Setfcap = 31,
    /// Read and clear the kernel's log.
    Syslog = 34,
}

/// Something shown at another place than where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtraMount {
    /// Where it lies. No symbolic link is followed.
    pub source: PathBuf,
    /// Where it is shown.
    pub target: PathBuf,
    /// Whether it can be changed.
    pub writable: bool,
}

/// How much a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory, in bytes: of all the call's processes together, page cache and scratch included.
    pub memory_max: u64,
    /// Processes and threads together.
    pub tasks_max: u32,
    /// Size to which a file may grow, in bytes.
    pub file_size_max: u64,
    /// Open files of each process.
    pub open_files_max: u32,
    /// Processor time of the process that runs the handler; whole seconds count.
    pub cpu_time: Duration,
    /// Share of the processors against other calls, 1 to 10,000.
    pub cpu_weight: u32,
    /// Size of an empty `/tmp`, in bytes; without it (0) there is none.
    pub scratch_max: u64,
    /// Size of the result, in bytes.
    pub output_max: u64,
}

impl Default for Limits {
    /// What a small tool needs.
    fn default() -> Self {
        Limits {
            memory_max: 128 << 20,
            tasks_max: 32,
            file_size_max: 256 << 20,
            open_files_max: 256,
            cpu_time: Duration::from_secs(30),
            cpu_weight: 100,
            scratch_max: 0,
            output_max: 4 << 20,
        }
    }
}

impl Profile {
    /// Refuses what can't be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |field: &'static str, reason: String| Err(Error::Profile { field, reason });
        let lists = [
            ("read", &self.read),
            ("write", &self.write),
            ("system", &self.system),
            ("execute", &self.execute),
            ("sockets", &self.sockets),
            ("devices", &self.devices),
        ];
        let extra = self.mount_extra.iter().flat_map(|mount| [&mount.source, &mount.target]);
        let paths = lists.into_iter().flat_map(|(field, paths)| paths.iter().map(move |path| (field, path)));
        for (field, path) in paths.chain(extra.map(|path| ("mount-extra", path))) {
            if let Some(reason) = fault(path) {
                return refuse(field, format!("{}: {reason}", path.display()));
            }
        }
        if self.processes == Processes::Own && self.shown().any(|path| path.starts_with("/proc")) {
            return refuse("processes", "a path below /proc is the machine's: it needs processes = host".into());
        }
        if self.capabilities.contains(&Capability::Kill) && self.processes == Processes::Own {
            return refuse("capabilities", "kill without processes = host reaches nothing".into());
        }
        let net = [Capability::NetAdmin, Capability::NetRaw, Capability::NetBindService];
        if self.network == Network::None && net.iter().any(|capability| self.capabilities.contains(capability)) {
            return refuse("capabilities", "a network capability without network = host reaches nothing".into());
        }
        if self.limits.cpu_time < Duration::from_secs(1) {
            return refuse("limits", "cpu-time is less than a second; the kernel counts whole ones".into());
        }
        if !(1..=10_000).contains(&self.limits.cpu_weight) {
            return refuse("limits", format!("cpu-weight {} is not within 1 to 10000", self.limits.cpu_weight));
        }
        if self.limits.tasks_max == 0 || self.limits.memory_max < 4 << 20 || self.limits.open_files_max < 8 {
            return refuse("limits", "less than 1 task, 4 MiB of memory or 8 open files: nothing could run".into());
        }
        Ok(())
    }
}

impl Profile {
    /// Paths at which something is shown.
    fn shown(&self) -> impl Iterator<Item = &PathBuf> {
        let extra = self.mount_extra.iter().map(|mount| &mount.target);
        self.read.iter().chain(&self.write).chain(&self.system).chain(&self.execute).chain(extra)
    }
}

/// Why a path can't be granted.
fn fault(path: &Path) -> Option<&'static str> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Some("is not absolute");
    }
    if components.any(|component| !matches!(component, Component::Normal(_))) {
        return Some("has a part `..`");
    }
    // `components` hides `.` and doubled slashes; what is granted is to be written in one way only.
    if path.components().collect::<PathBuf>().as_os_str() != path.as_os_str() {
        return Some("is not in its shortest form");
    }
    let own = ["/", "/proc", "/dev"];
    own.iter().any(|own| path == Path::new(own)).then_some("belongs to the sandbox itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(profile: Profile) -> bool {
        matches!(profile.check(), Err(Error::Profile { .. }))
    }

    #[test]
    fn a_path_that_could_mean_two_places_is_refused() {
        for path in ["relative", "", "/a/../b", "/a/./b", "/a//b", "/a/", "/", "/proc", "/dev", "//"] {
            assert!(refused(Profile { read: vec![path.into()], ..Profile::default() }), "{path:?}");
        }
        assert!(!refused(Profile { read: vec!["/a/b..c/.d".into()], ..Profile::default() }));
    }

    #[test]
    fn a_capability_that_reaches_nothing_is_refused() {
        let with = |capability| Profile { capabilities: [capability].into(), ..Profile::default() };
        assert!(refused(with(Capability::Kill)));
        assert!(refused(with(Capability::NetAdmin)));
        assert!(!refused(with(Capability::SysTime)));
        assert!(!refused(Profile { processes: Processes::Host, ..with(Capability::Kill) }));
    }

    #[test]
    fn a_file_of_the_machines_proc_comes_with_the_machines_processes_only() {
        let profile = Profile { system: vec!["/proc/meminfo".into()], ..Profile::default() };
        assert!(refused(profile.clone()));
        assert!(!refused(Profile { processes: Processes::Host, ..profile }));
    }

    #[test]
    fn limits_under_which_nothing_runs_are_refused() {
        let with = |limits| Profile { limits, ..Profile::default() };
        assert!(refused(with(Limits { tasks_max: 0, ..Limits::default() })));
        assert!(refused(with(Limits { cpu_time: Duration::from_millis(999), ..Limits::default() })));
        assert!(refused(with(Limits { cpu_weight: 0, ..Limits::default() })));
        assert!(!refused(with(Limits::default())));
    }
}
