//! The kernel's own file systems and the writable places of a read-only root.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode as FileMode, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::{Stages, doing};

/// One mount: file system type, where, flags, options.
struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const PLAIN: MountFlags = MountFlags::NOSUID;
const CLOSED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const NO_DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const PROC: Mount = Mount { kind: "proc", at: "/proc", flags: CLOSED, options: "" };
const SYSFS: Mount = Mount { kind: "sysfs", at: "/sys", flags: CLOSED, options: "" };
const DEV: Mount = Mount { kind: "devtmpfs", at: "/dev", flags: PLAIN, options: "mode=0755" };
const RUN: Mount = Mount { kind: "tmpfs", at: "/run", flags: NO_DEVICES, options: "mode=0755" };
const SHM: Mount = Mount { kind: "tmpfs", at: "/dev/shm", flags: NO_DEVICES, options: "mode=1777" };
const TMP: Mount = Mount { kind: "tmpfs", at: "/tmp", flags: NO_DEVICES, options: "mode=1777,size=25%" };
const CGROUP: Mount =
    Mount { kind: "cgroup2", at: "/sys/fs/cgroup", flags: CLOSED, options: "nsdelegate,memory_recursiveprot" };
/// Only a kernel with tracing has the folder.
const TRACING: Mount = Mount { kind: "tracefs", at: "/sys/kernel/tracing", flags: CLOSED, options: "" };
const PTS: Mount = Mount {
    kind: "devpts",
    at: "/dev/pts",
    flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
    options: "gid=5,mode=0620,ptmxmode=0666",
};

/// Changes to `/etc` at run time live here and end with the boot.
const ETC_UPPER: &str = "/run/aios/etc/upper";
const ETC_WORK: &str = "/run/aios/etc/work";

/// What the initramfs needs.
pub fn early() -> io::Result<()> {
    [PROC, SYSFS, DEV, RUN].iter().try_for_each(provide)
}

/// The kernel's file systems on a machine of our own.
pub fn kernel_file_systems(stages: &mut Stages) {
    for mount in [PROC, SYSFS, DEV, RUN, PTS, SHM, TMP, CGROUP] {
        stages.run("mounts", || provide(&mount));
    }
    if Path::new(TRACING.at).exists() {
        stages.run("mounts", || provide(&TRACING));
    }
    stages.run("mounts", device_links);
}

/// What can be written on a read-only root, besides memory and data.
pub fn writable_places(stages: &mut Stages) {
    stages.run("mounts", volatile_etc);
}

/// What is missing in a container; what it forbids is its own decision, and said once.
pub fn container(stages: &mut Stages) {
    stages.run("mounts", || provide(&PROC));
    stages.run("mounts", || provide(&RUN));
    stages.run("mounts", container_devices);
    for mount in [SYSFS, PTS, SHM, TMP, CGROUP] {
        if let Err(error) = provide(&mount) {
            crate::console::say(format_args!("going on without {}: {error}", mount.at));
        }
    }
    stages.run("mounts", device_links);
    if let Err(error) = volatile_etc() {
        crate::console::say(format_args!("going on with /etc as it is: {error}"));
    }
}

/// Mounts unless something is mounted there.
fn provide(mount_point: &Mount) -> io::Result<()> {
    let at = Path::new(mount_point.at);
    if !at.exists() {
        fs::create_dir_all(at)?;
    }
    if is_mount_point(at)? {
        return Ok(());
    }
    mount_fs(mount_point.kind, at, mount_point.kind, mount_point.flags, mount_point.options)
}

/// Whether `at` is the root of a mount.
pub fn is_mount_point(at: &Path) -> io::Result<bool> {
    let (here, above) = (fs::metadata(at)?, fs::metadata(at.join(".."))?);
    Ok(here.dev() != above.dev() || here.ino() == above.ino())
}

/// `mount(2)`, with an error that says what was mounted where.
pub fn mount_fs(source: impl AsRef<Path>, at: &Path, kind: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    let source = source.as_ref();
    let options = CString::new(options).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let options = (!options.is_empty()).then_some(options.as_c_str());
    mount(source, at, kind, flags, options).map_err(|errno| {
        let hint = match errno {
            Errno::INVAL => " (damaged, or not this kind of file system)",
            Errno::NODEV => " (the kernel does not know this kind of file system)",
            _ => "",
        };
        doing(format_args!("mounting {} ({kind}) at {}{hint}", source.display(), at.display()))(errno)
    })
}

/// The links that programs expect in `/dev` and that the kernel does not make.
fn device_links() -> io::Result<()> {
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        match symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if !Path::new("/dev/ptmx").exists() && Path::new("/dev/pts/ptmx").exists() {
        symlink("pts/ptmx", "/dev/ptmx")?;
    }
    Ok(())
}

/// In a container without devices: the handful that every program needs.
fn container_devices() -> io::Result<()> {
    if Path::new("/dev/null").exists() {
        return Ok(());
    }
    mount_fs("dev", Path::new("/dev"), "tmpfs", MountFlags::NOSUID.union(MountFlags::NOEXEC), "mode=0755")?;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = Path::new("/dev").join(name);
        let device = rustix::fs::makedev(1, minor);
        mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, FileMode::from_raw_mode(0o666), device)
            .map_err(doing(path.display()))?;
        // The creation mask took bits from the mode.
        rustix::fs::chmod(&path, FileMode::from_raw_mode(0o666))?;
    }
    Ok(())
}

/// Lays a writable layer over `/etc`, for programs that insist on writing there.
fn volatile_etc() -> io::Result<()> {
    let etc = Path::new("/etc");
    if is_mount_point(etc)? {
        return Ok(());
    }
    fs::create_dir_all(ETC_UPPER)?;
    fs::create_dir_all(ETC_WORK)?;
    let options = format!("lowerdir=/etc,upperdir={ETC_UPPER},workdir={ETC_WORK}");
    mount_fs("overlay", etc, "overlay", NO_DEVICES, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_told_from_directories() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_mount_point(Path::new("/")).unwrap());
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(dir.path()).unwrap());
        assert!(is_mount_point(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_mount_that_fails_says_what_and_where() {
        let dir = tempfile::tempdir().unwrap();
        let kind = "no-such-file-system";
        let error = mount_fs("none", dir.path(), kind, MountFlags::empty(), "").unwrap_err().to_string();
        assert!(error.starts_with(&format!("mounting none ({kind}) at {}", dir.path().display())), "{error}");
    }
}
