//! The end of PID 1, once every unit is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, getpid};
use rustix::system::{RebootCommand, reboot};

use crate::Mode;
use crate::boot::{self, mounts::is_mount_point};
use crate::console::say;

/// Time between SIGTERM and SIGKILL for processes that belong to no unit any more.
const GRACE: Duration = Duration::from_secs(2);

/// Mounts that the kernel itself feeds; nothing of them is on a medium.
const KERNELS_OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PowerOff,
    Reboot,
}

/// Kills what is left, syncs, unmounts and calls `reboot(2)`. In a container the kernel turns that into the end of the
/// namespace, and the mounts end with it.
pub fn finish(kind: Kind, mode: Mode) -> ! {
    end_processes();
    if mode == Mode::Machine {
        keep_entropy();
        rustix::fs::sync();
        unmount_all();
    }
    rustix::fs::sync();
    let (text, command) = match kind {
        Kind::PowerOff => ("power off now", RebootCommand::PowerOff),
        Kind::Reboot => ("reboot now", RebootCommand::Restart),
    };
    say(text);
    // A line of a slow serial port is still on its way.
    let _ = fs::OpenOptions::new().write(true).open("/dev/console").map(|tty| rustix::termios::tcdrain(&tty));
    loop {
        if let Err(error) = reboot(command) {
            say(format_args!("{text}: {error}; trying again, or switch the machine off"));
        }
        sleep(Duration::from_secs(5));
    }
}

/// SIGTERM to everything, SIGKILL to what is left after [`GRACE`].
fn end_processes() {
    if getpid() != Pid::INIT {
        return;
    }
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, GRACE)] {
        // -1: every process but ourselves, in our PID namespace.
        // SAFETY: kill(2) with these arguments touches no memory.
        let none_left = unsafe { libc::kill(-1, signal.as_raw()) } != 0;
        if none_left || all_reaped_within(patience) {
            return;
        }
    }
    say("processes are left that SIGKILL does not end; their file systems are cut off");
}

fn all_reaped_within(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => continue,
            Err(rustix::io::Errno::CHILD) => return true,
            _ if Instant::now() >= deadline => return false,
            _ => sleep(Duration::from_millis(5)),
        }
    }
}

fn keep_entropy() {
    if !is_mount_point(Path::new(aios_core::paths::DATA)).unwrap_or(false) {
        return;
    }
    if let Err(error) = boot::save_entropy() {
        say(format_args!("random seed not saved: {error}"));
    }
}

/// Unmounts from the innermost to the outermost; what is busy is made read-only and detached.
fn unmount_all() {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for at in unmount_order(&table) {
        if unmount(&at, UnmountFlags::empty()).is_err() {
            let read_only = mount_remount(&at, MountFlags::RDONLY, "");
            if let Err(error) = &read_only {
                say(format_args!("{} is busy and stays writable: {error}", at.display()));
            }
            let _ = unmount(&at, UnmountFlags::DETACH);
        }
    }
    let _ = mount_remount("/", MountFlags::RDONLY, "");
}

/// Mount points of `/proc/self/mountinfo` in the order in which they can be unmounted: the last mounted first.
fn unmount_order(mountinfo: &str) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let ours = |at: &PathBuf| at != Path::new("/") && !KERNELS_OWN.iter().any(|own| at.starts_with(own));
    let mut order: Vec<PathBuf> = points.filter(ours).collect();
    order.reverse();
    order
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                path.push(char::from(code));
                path.push_str(&part[3..]);
            }
            None => {
                path.push('\\');
                path.push_str(part);
            }
        }
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mounted_is_unmounted_first_and_the_kernels_own_stay() {
        let mountinfo = "\
22 1 254:6 / / ro,relatime - erofs /dev/vda6 ro
23 22 0:21 / /proc rw - proc proc rw
24 22 0:5 / /dev rw - devtmpfs dev rw
25 24 0:22 / /dev/pts rw - devpts devpts rw
26 22 0:23 / /run rw - tmpfs tmpfs rw
27 22 0:24 / /etc rw - overlay overlay rw
28 22 254:8 / /var/lib/aios rw - ext4 /dev/vda9 rw
29 28 254:9 / /var/lib/aios/a\\040b\\134c rw - vfat /dev/sda1 rw
";
        let order = unmount_order(mountinfo);
        assert_eq!(order, ["/var/lib/aios/a b\\c", "/var/lib/aios", "/etc"].map(PathBuf::from));
    }
}
