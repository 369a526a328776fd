//! The call's file system: an empty root with nothing in it but the granted mounts.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags},
};

use crate::{
    Processes, Profile,
    layers::{Layer, Layers},
    plan::{Plan, Shown},
    sys::{self, mount_attr},
    wire::Failure,
};

/// Room for directories, links and empty files that mounts go onto.
const ROOT_SIZE: &str = "1m";
/// Where the new root lies for a moment. Any directory does; without this one nothing here works.
const FOR_A_MOMENT: &str = "/proc";

/// Mounts that the call has besides the granted ones.
#[derive(Debug)]
pub struct Own {
    /// `/proc` of its own processes.
    pub proc: Option<OwnedFd>,
    /// `/tmp`.
    pub scratch: Option<OwnedFd>,
}

/// Leaves the machine's file system for the call's.
pub fn build(profile: &Profile, plan: &Plan, layers: &Layers) -> Result<Own, Failure> {
    let failed = Failure::during("root file system");
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(&failed)?;
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let closed = plain | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = new("tmpfs", &[("size", ROOT_SIZE), ("mode", "755")], closed).map_err(&failed)?;
    // While the machine's is still in sight: without one in full view the kernel makes no other.
    let proc = match profile.processes {
        Processes::Own if layers.has(Layer::PidNamespace) => {
            let own = new("proc", &[("subset", "pid")], closed | MountAttrFlags::MOUNT_ATTR_RDONLY);
            Some(own.map_err(|error| Failure::unsupported("/proc of a pid namespace", error))?)
        }
        Processes::Own | Processes::Host => None,
    };
    if !layers.has(Layer::Root) {
        return Ok(Own { proc, scratch: None });
    }
    attach(root.as_fd(), Path::new(FOR_A_MOMENT)).map_err(&failed)?;
    rustix::process::fchdir(&root).map_err(&failed)?;
    rustix::process::pivot_root(".", ".").map_err(Failure::during("pivot_root"))?;
    // The old root lies over the new one now.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(Failure::during("old root"))?;
    rustix::process::chdir("/").map_err(&failed)?;
    let scratch = match profile.limits.scratch_max {
        0 => None,
        size => Some(new("tmpfs", &[("size", &size.to_string()), ("mode", "700")], closed).map_err(&failed)?),
    };
    for (mount, at) in [(&proc, "/proc"), (&scratch, "/tmp")] {
        if let Some(mount) = mount {
            rustix::fs::mkdir(at, Mode::from_raw_mode(0o755)).map_err(&failed)?;
            attach(mount.as_fd(), Path::new(at)).map_err(&failed)?;
        }
    }
    furnish(plan)?;
    sys::mount_setattr(root.as_fd(), mount_attr::RDONLY, false).map_err(Failure::at("read-only root"))?;
    Ok(Own { proc, scratch })
}

/// Puts links and granted mounts into the root.
fn furnish(plan: &Plan) -> Result<(), Failure> {
    for (link, says) in &plan.links {
        parents(link).map_err(Failure::path(link))?;
        match rustix::fs::symlink(says, link) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::path(link)(error)),
        }
    }
    // All places first: below a mount that is attached nothing is made, it might be the machine's.
    for Shown { target, directory, .. } in &plan.shown {
        place(target, *directory).map_err(Failure::path(target))?;
    }
    for Shown { target, mount, .. } in &plan.shown {
        attach(mount.as_fd(), target).map_err(Failure::path(target))?;
    }
    Ok(())
}

/// A mount of a file system of its own.
fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a mount to a place that no symbolic link leads to.
fn attach(mount: impl AsFd, target: &Path) -> Result<(), Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let place = rustix::fs::openat2(CWD, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", place, "", both)
}

/// Makes the directory or empty file that a mount goes onto.
fn place(target: &Path, directory: bool) -> Result<(), Errno> {
    parents(target)?;
    let made = if directory {
        rustix::fs::mkdir(target, Mode::from_raw_mode(0o755))
    } else {
        rustix::fs::mknodat(CWD, target, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
    };
    existing_is_fine(made)
}

fn parents(target: &Path) -> Result<(), Errno> {
    let mut above: Vec<PathBuf> = target.ancestors().skip(1).map(Path::to_path_buf).collect();
    above.pop();
    for directory in above.iter().rev() {
        existing_is_fine(rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)))?;
    }
    Ok(())
}

fn existing_is_fine(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
