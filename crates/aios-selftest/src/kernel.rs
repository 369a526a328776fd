//! System calls that the libraries in use do not wrap.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use rustix::thread::CpuSet;

/// How a thread is scheduled.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// First in, first out, at a priority of 1 to 99.
    Fifo(u32),
    /// `runtime` in each `period`, to be had before the next one begins.
    Deadline { runtime: Duration, period: Duration },
}

/// `struct sched_attr` of linux/sched/types.h, as of its first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SCHED_FIFO: u32 = 1;
const SCHED_DEADLINE: u32 = 6;

/// Schedules the calling thread by `policy`.
pub fn set_policy(policy: Policy) -> io::Result<()> {
    let size = size_of::<SchedAttr>() as u32;
    let attr = match policy {
        Policy::Fifo(priority) => SchedAttr { size, policy: SCHED_FIFO, priority, ..SchedAttr::default() },
        Policy::Deadline { runtime, period } => SchedAttr {
            size,
            policy: SCHED_DEADLINE,
            runtime: runtime.as_nanos() as u64,
            deadline: period.as_nanos() as u64,
            period: period.as_nanos() as u64,
            ..SchedAttr::default()
        },
    };
    // SAFETY: `attr` is a sched_attr of the size that it states, and lives through the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Binds the calling thread to one processor.
pub fn run_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Numbers of the processors that are online.
pub fn online_cpus() -> io::Result<Vec<usize>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    parse_cpu_list(text.trim())
        .ok_or_else(|| io::Error::other(format!("/sys/devices/system/cpu/online says {:?}", text.trim())))
}

/// `0-2,5`: the kernel's list format.
fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// Puts a folder, and what will be made in it, into a project. Project 0 is none.
pub fn set_project(folder: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = FsXattr::default();
    // SAFETY: FS_IOC_FSGETXATTR writes one fsxattr, which `attributes` is.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) }.into())?;
    attributes.projid = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: FS_IOC_FSSETXATTR reads one fsxattr, which `attributes` is.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes) }.into())
}

/// `struct if_dqblk` of linux/quota.h.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const Q_SETQUOTA: u32 = 0x80_0008;
const PRJQUOTA: u32 = 2;
const QIF_BLIMITS: u32 = 1;

/// Limits what a project may store on the file system of `folder`, in KiB. 0 is no limit.
pub fn set_project_limit(folder: BorrowedFd<'_>, project: u32, kibibytes: u64) -> io::Result<()> {
    let quota = DiskQuota { block_hard_limit: kibibytes, valid: QIF_BLIMITS, ..DiskQuota::default() };
    let command = Q_SETQUOTA << 8 | PRJQUOTA;
    // SAFETY: Q_SETQUOTA reads one if_dqblk, which `quota` is.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, folder.as_raw_fd(), command, project, &raw const quota) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<SchedAttr>(), size_of::<FsXattr>(), size_of::<DiskQuota>()), (48, 28, 72));
    }

    #[test]
    fn a_list_of_processors_is_read() {
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("x"), None);
    }
}
