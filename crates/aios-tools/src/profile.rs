//! From what a call touches to what its sandbox shows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use aios_core::paths;
use aios_sandbox::{Capability, ExtraMount, Identity, Limits, Profile};

use crate::{
    access::{Access, Network, Privilege, Processes},
    job,
    pipeline::JournalView,
};

/// What no tool is shown, whatever its caller may do: the keys, the secrets, what this service itself keeps, and the memory,
/// whose items say where they come from.
pub const HIDDEN: [&str; 4] = [paths::KEYS, paths::SECRETS, paths::TOOLS_STATE, paths::MEMORY_STATE];

/// Size of a call's `/tmp`, in bytes.
const SCRATCH: u64 = 16 << 20;

/// A path that no tool is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: holds keys, secrets, the memory or the record of what was done: no tool gets there", .0.display())]
pub struct Hidden(pub PathBuf);

/// What is shown where something hidden is.
#[derive(Clone, Debug)]
pub struct Blank {
    /// An empty folder.
    pub folder: PathBuf,
    /// An empty file.
    pub file: PathBuf,
}

/// The profile of a call. `blank` is shown where something hidden is.
///
/// Of a path to write to that does not exist yet, its folder is shown.
pub fn of(access: &Access, journal: Option<&JournalView>, timeout: Duration, blank: &Blank) -> Result<Profile, Hidden> {
    let hidden = HIDDEN.map(PathBuf::from);
    let of_arguments = || access.read.iter().chain(&access.write);
    if let Some(path) = of_arguments().find(|path| hidden.iter().any(|hidden| path.starts_with(hidden))) {
        return Err(Hidden(path.clone()));
    }
    let write: BTreeSet<PathBuf> = access.write.iter().map(|path| shown_for_writing(path)).collect();
    let shown = || access.read.iter().chain(&write).chain(&access.own);
    let mut mount_extra: Vec<ExtraMount> = hidden
        .into_iter()
        .filter(|hidden| shown().any(|shown| hidden != shown && hidden.starts_with(shown)) && hidden.exists())
        .map(|target| ExtraMount { source: blank.folder.clone(), target, writable: false })
        .collect();
    mount_extra.extend(denied(access, blank));
    mount_extra.extend(journal.map(|view| ExtraMount {
        source: view.folder.clone(),
        target: job::JOURNAL.into(),
        writable: view.writable,
    }));
    Ok(Profile {
        read: access.read.clone(),
        write: write.iter().chain(&access.own).cloned().collect(),
        system: access.system.clone(),
        execute: access.programs.clone(),
        sockets: access.sockets.clone(),
        devices: access.devices.clone(),
        network: match access.network {
            Network::None => aios_sandbox::Network::None,
            Network::Host => aios_sandbox::Network::Host,
        },
        processes: match access.processes {
            Processes::Own if !shown().chain(&access.system).any(|path| path.starts_with("/proc")) => {
                aios_sandbox::Processes::Own
            }
            // Files of /proc are the device's, and it shows all of them or none.
            Processes::Own | Processes::Host => aios_sandbox::Processes::Host,
        },
        capabilities: access.privileges.iter().flat_map(|privilege| capabilities(*privilege)).copied().collect(),
        identity: Identity::Daemon,
        mount_extra,
        limits: Limits {
            file_size_max: access.file_size_max.unwrap_or(Limits::default().file_size_max),
            scratch_max: SCRATCH,
            cpu_time: timeout.max(Duration::from_secs(1)),
            ..Limits::default()
        },
    })
}

/// What the policy denies below the folders that are shown: in its place something empty, or itself to read only.
fn denied<'a>(access: &'a Access, blank: &'a Blank) -> impl Iterator<Item = ExtraMount> + 'a {
    let kind = |path: &Path| path.symlink_metadata().ok().filter(|found| !found.is_symlink());
    let by_policy = access.hidden.iter().filter(|target| !HIDDEN.iter().any(|hidden| target.starts_with(hidden)));
    let hidden = by_policy.filter_map(move |target| {
        let source = if kind(target)?.is_dir() { &blank.folder } else { &blank.file };
        Some(ExtraMount { source: source.clone(), target: target.clone(), writable: false })
    });
    let fixed = access.fixed.iter().filter(|target| !HIDDEN.iter().any(|hidden| target.starts_with(hidden)));
    let fixed = fixed.filter_map(move |target| {
        kind(target).map(|_| ExtraMount { source: target.clone(), target: target.clone(), writable: false })
    });
    hidden.chain(fixed)
}

/// `path`, or its folder where there is no `path`; the root is never shown.
fn shown_for_writing(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| *folder != Path::new("/"));
    folder.filter(|_| path.symlink_metadata().is_err()).unwrap_or(path).to_owned()
}

fn capabilities(privilege: Privilege) -> &'static [Capability] {
    match privilege {
        Privilege::NetAdmin => &[Capability::NetAdmin],
        Privilege::NetRaw => &[Capability::NetRaw],
        Privilege::Kill => &[Capability::Kill],
        Privilege::SysNice => &[Capability::SysNice],
        Privilege::SysTime => &[Capability::SysTime],
        Privilege::FileOwner => &[Capability::Chown, Capability::Fowner, Capability::Fsetid, Capability::Setfcap],
        Privilege::ReadAll => &[Capability::DacReadSearch],
        Privilege::WriteAll => &[Capability::DacOverride],
        Privilege::Syslog => &[Capability::Syslog],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::AbsolutePath;

    fn path(text: &str) -> AbsolutePath {
        AbsolutePath::new(text).expect("path")
    }

    fn shown(access: &Access) -> Result<Profile, Hidden> {
        let blank = Blank { folder: "/empty".into(), file: "/empty-file".into() };
        of(access, None, Duration::from_secs(10), &blank)
    }

    #[test]
    fn of_what_does_not_exist_yet_the_folder_is_shown() {
        let folder = tempfile::tempdir().expect("tempdir");
        let there = folder.path().join("there");
        std::fs::write(&there, "").expect("write");
        let writes = |name: &str| Access::default().writes(&path(folder.path().join(name).to_str().expect("UTF-8")));
        assert_eq!(shown(&writes("there")).expect("profile").write, [there]);
        assert_eq!(shown(&writes("new")).expect("profile").write, [folder.path()]);
    }

    #[test]
    fn files_of_proc_are_the_devices() {
        let memory = shown(&Access::default().sees("/proc/meminfo")).expect("profile");
        assert_eq!(memory.processes, aios_sandbox::Processes::Host);
        assert_eq!(shown(&Access::default()).expect("profile").processes, aios_sandbox::Processes::Own);
    }

    #[test]
    fn what_is_hidden_is_shown_to_no_argument() {
        for hidden in HIDDEN {
            for below in [hidden.to_owned(), format!("{hidden}/x")] {
                let below = path(&below);
                assert!(shown(&Access::default().reads(&below)).is_err(), "{below}");
                assert!(shown(&Access::default().writes(&below)).is_err(), "{below}");
                assert!(shown(&Access::default().replaces(&below)).is_err() || below.as_str() == hidden, "{below}");
                assert!(shown(&Access::default().changes(&below)).is_ok(), "{below}");
            }
        }
        assert!(shown(&Access::default().reads(&path("/var/lib/aios/toolshed"))).is_ok());
    }
}
