//! From what a call touches to what its sandbox shows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aios_core::paths;
use aios_sandbox::{Capability, ExtraMount, Identity, Limits, Profile};

use crate::{
    access::{Access, Network, Privilege, Processes},
    job,
    pipeline::JournalView,
};

/// What no tool is shown, whatever its caller may do: the keys, the secrets, and what this service itself keeps.
pub const HIDDEN: [&str; 3] = [paths::KEYS, paths::SECRETS, paths::TOOLS_STATE];

/// A path that no tool is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: holds keys or secrets, or the record of what was done: no tool gets there", .0.display())]
pub struct Hidden(pub PathBuf);

/// The profile of a call. `empty` is an empty folder, which is shown where something hidden is.
///
/// A path to write to is shown with its folder: files are replaced by renaming, and what does not exist yet is made.
pub fn of(access: &Access, journal: Option<&JournalView>, empty: &Path) -> Result<Profile, Hidden> {
    let write: BTreeSet<PathBuf> = access.write.iter().map(|path| shown_for_writing(path)).collect();
    let read: BTreeSet<PathBuf> = access.read.iter().filter(|path| !is_within_any(path, &write)).cloned().collect();
    let hidden = HIDDEN.map(PathBuf::from);
    for path in access.read.iter().chain(&access.write) {
        if is_within_any(path, &hidden.clone().into()) {
            return Err(Hidden(path.clone()));
        }
    }
    let mut mount_extra: Vec<ExtraMount> = hidden
        .into_iter()
        .filter(|hidden| read.iter().chain(&write).any(|shown| hidden.starts_with(shown)) && hidden.exists())
        .map(|target| ExtraMount { source: empty.to_owned(), target, writable: false })
        .collect();
    mount_extra.extend(journal.map(|view| ExtraMount {
        source: view.folder.clone(),
        target: job::JOURNAL.into(),
        writable: view.writable,
    }));
    Ok(Profile {
        read: read.into_iter().collect(),
        write: write.into_iter().collect(),
        system: access.system.clone(),
        execute: access.programs.clone(),
        sockets: access.sockets.clone(),
        devices: access.devices.clone(),
        network: match access.network {
            Network::None => aios_sandbox::Network::None,
            Network::Host => aios_sandbox::Network::Host,
        },
        processes: match access.processes {
            Processes::Own => aios_sandbox::Processes::Own,
            Processes::Host => aios_sandbox::Processes::Host,
        },
        capabilities: access.privileges.iter().flat_map(|privilege| capabilities(*privilege)).copied().collect(),
        identity: Identity::Daemon,
        mount_extra,
        limits: Limits { file_size_max: 1 << 30, scratch_max: 16 << 20, ..Limits::default() },
    })
}

/// The folder of `path`; `path` itself below the root, which is never shown.
fn shown_for_writing(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("/") => parent.to_owned(),
        _ => path.to_owned(),
    }
}

fn is_within_any(path: &Path, folders: &BTreeSet<PathBuf>) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
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
        // Landlock lets no call look into other processes, so it would give nothing.
        Privilege::SysPtrace => &[],
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
        of(access, None, Path::new("/empty"))
    }

    #[test]
    fn a_path_to_write_to_comes_with_its_folder_and_once() {
        let access = Access::default().writes(&path("/data/a")).writes(&path("/data/b")).reads(&path("/data/c"));
        let profile = shown(&access).expect("profile");
        assert_eq!(profile.write, [Path::new("/data")]);
        assert!(profile.read.is_empty(), "{:?}", profile.read);
        assert_eq!(shown(&Access::default().writes(&path("/data"))).expect("profile").write, [Path::new("/data")]);
    }

    #[test]
    fn what_is_hidden_is_never_shown() {
        for hidden in HIDDEN {
            for below in [hidden.to_owned(), format!("{hidden}/x")] {
                let below = path(&below);
                assert!(shown(&Access::default().reads(&below)).is_err(), "{below}");
                assert!(shown(&Access::default().writes(&below)).is_err(), "{below}");
            }
        }
        assert!(shown(&Access::default().reads(&path("/var/lib/aios/toolshed"))).is_ok());
    }
}
