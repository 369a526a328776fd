//! Opens what a profile grants and makes mounts of it, outside of the call's namespaces.
//!
//! The server does this with its own rights, before the call's process exists. What the process then attaches are these
//! very mounts: between check and use there is no path that could come to mean something else.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    os::fd::{AsFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::OpenTreeFlags,
};

use crate::{
    Processes, Profile,
    layers::{Layer, Layers},
    sys,
    sys::mount_attr,
    wire::Failure,
};

/// Symbolic links followed on one path at most, as in the kernel.
const LINKS_MAX: usize = 40;
/// Where shared libraries lie, and the index of them.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
/// Devices that every call has.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// What may be done below a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Connect to it.
    Socket,
    /// Read.
    Read,
    /// Read and start programs.
    Execute,
    /// Read and change.
    Write,
    /// Open the device.
    Device,
}

/// A mount that is attached nowhere yet.
#[derive(Debug)]
pub struct Shown {
    /// Where to attach it.
    pub target: PathBuf,
    /// What may be done below.
    pub access: Access,
    /// Whether it is a directory.
    pub directory: bool,
    /// The mount.
    pub mount: OwnedFd,
}

/// Everything that a call will see.
#[derive(Debug, Default)]
pub struct Plan {
    /// Mounts, those of directories before what lies in them.
    pub shown: Vec<Shown>,
    /// Symbolic links and what they say.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

/// What is to be shown at one place.
#[derive(Debug)]
struct Entry {
    source: PathBuf,
    access: Access,
    /// Left out if it does not exist.
    optional: bool,
}

impl Plan {
    /// Opens all that `profile` grants.
    pub fn of(profile: &Profile, layers: &Layers) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        let mut entries = BTreeMap::new();
        for (paths, access) in [(&profile.read, Access::Read), (&profile.write, Access::Write)] {
            for path in paths {
                add(&mut entries, path.clone(), Entry { source: path.clone(), access, optional: false });
            }
        }
        let libraries: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
        let libraries = if profile.execute.is_empty() { &[][..] } else { &libraries[..] };
        let devices: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
        let of_the_tool = [
            (&profile.system[..], Access::Read, true),
            (libraries, Access::Execute, true),
            (&profile.execute[..], Access::Execute, true),
            (&profile.sockets[..], Access::Socket, true),
            (&profile.devices[..], Access::Device, true),
            (&devices[..], Access::Device, false),
        ];
        for (paths, access, optional) in of_the_tool {
            for path in paths {
                match follow(path, &mut plan.links) {
                    Ok(end) => add(&mut entries, end.clone(), Entry { source: end, access, optional }),
                    Err(Errno::NOENT | Errno::NOTDIR) if optional => {}
                    Err(error) => return Err(Failure::path(path)(error)),
                }
            }
        }
        if profile.processes == Processes::Host {
            let proc = PathBuf::from("/proc");
            add(&mut entries, proc.clone(), Entry { source: proc, access: Access::Read, optional: false });
        }
        for mount in &profile.mount_extra {
            let access = if mount.writable { Access::Write } else { Access::Read };
            let entry = Entry { source: mount.source.clone(), access, optional: false };
            entries.insert(mount.target.clone(), entry);
        }
        for (target, entry) in entries {
            match open(&entry, layers) {
                Ok((directory, mount)) => plan.shown.push(Shown { target, access: entry.access, directory, mount }),
                Err(Errno::NOENT) if entry.optional => {}
                Err(error) => return Err(Failure::path(&entry.source)(error)),
            }
        }
        // A path sorts before those that it is the beginning of, so what lies deeper is attached later, on top.
        Ok(plan)
    }
}

/// Where two grants name one place, the wider of the two counts.
fn add(entries: &mut BTreeMap<PathBuf, Entry>, target: PathBuf, entry: Entry) {
    match entries.get_mut(&target) {
        Some(known) if known.access >= entry.access => {}
        _ => {
            entries.insert(target, entry);
        }
    }
}

/// Makes a mount of a path on which there must be no symbolic link.
fn open(entry: &Entry, layers: &Layers) -> Result<(bool, OwnedFd), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let place = rustix::fs::openat2(CWD, &entry.source, flags, Mode::empty(), resolve)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if kind == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    let fits = match entry.access {
        Access::Socket => kind == FileType::Socket,
        Access::Device => matches!(kind, FileType::CharacterDevice | FileType::BlockDevice),
        // A granted device, pipe or socket would be a way out that nobody meant to give.
        Access::Read | Access::Write | Access::Execute => {
            matches!(kind, FileType::Directory | FileType::RegularFile)
        }
    };
    if !fits {
        return Err(Errno::ACCESS);
    }
    let whole = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = rustix::mount::open_tree(&place, "", whole)?;
    let attributes = match entry.access {
        Access::Socket | Access::Read => {
            mount_attr::RDONLY | mount_attr::NOSUID | mount_attr::NODEV | mount_attr::NOEXEC
        }
        Access::Execute => mount_attr::RDONLY | mount_attr::NOSUID | mount_attr::NODEV,
        Access::Write => mount_attr::NOSUID | mount_attr::NODEV | mount_attr::NOEXEC,
        Access::Device => mount_attr::NOSUID | mount_attr::NOEXEC,
    };
    let left_out = if layers.has(Layer::ReadOnlyMounts) { 0 } else { mount_attr::RDONLY };
    let attributes = attributes & !left_out;
    sys::mount_setattr(mount.as_fd(), attributes, true)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    Ok((kind == FileType::Directory, mount))
}

/// Follows the symbolic links on a path and notes them; gives the path where they lead, which holds none.
fn follow(path: &Path, links: &mut BTreeMap<PathBuf, PathBuf>) -> Result<PathBuf, Errno> {
    let mut pending: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
    let mut current = PathBuf::from("/");
    let mut followed = 0;
    while let Some(part) = pending.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => current = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                current.pop();
            }
            Some(Component::Normal(name)) => {
                let next = current.join(name);
                let kind = rustix::fs::lstat(&next).map(|stat| FileType::from_raw_mode(stat.st_mode))?;
                if kind != FileType::Symlink {
                    current = next;
                    continue;
                }
                followed += 1;
                if followed > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let says =
                    std::fs::read_link(&next).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
                for part in says.components().rev() {
                    pending.push_front(part.as_os_str().to_owned());
                }
                links.insert(next, says);
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_on_the_way_are_noted_and_their_end_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("usr/bin")).unwrap();
        std::fs::write(base.join("usr/bin/tool-2"), "").unwrap();
        symlink("usr/bin", base.join("bin")).unwrap();
        symlink("../bin/./tool-2", base.join("usr/bin/tool")).unwrap();
        let mut links = BTreeMap::new();
        assert_eq!(follow(&base.join("bin/tool"), &mut links), Ok(base.join("usr/bin/tool-2")));
        let noted: Vec<_> = links.keys().cloned().collect();
        assert_eq!(noted, [base.join("bin"), base.join("usr/bin/tool")]);
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert_eq!(follow(&directory.path().join("a"), &mut BTreeMap::new()), Err(Errno::LOOP));
    }

    #[test]
    fn of_two_grants_of_one_place_the_wider_counts() {
        let mut entries = BTreeMap::new();
        let entry = |access| Entry { source: "/a".into(), access, optional: false };
        add(&mut entries, "/a".into(), entry(Access::Write));
        add(&mut entries, "/a".into(), entry(Access::Read));
        assert_eq!(entries[Path::new("/a")].access, Access::Write);
    }
}
