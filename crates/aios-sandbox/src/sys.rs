//! System calls that rustix does not have. All `unsafe` code of the crate is here.
//!
//! What takes bare descriptor numbers is for a call's process alone, before its handler runs: it has one thread, knows
//! what lies at each number, and forgets the owners of what it closes. The server closes by number once, first of all.

use std::{
    fs::File,
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

/// Attributes of a mount, as `mount_setattr` takes them.
pub mod mount_attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
}

const AT_EMPTY_PATH: libc::c_int = 0x1000;
const AT_RECURSIVE: libc::c_int = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone3`] this is.
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// Number of the new one, as the old one sees it.
        pid: libc::pid_t,
        /// Readable when the new one has ended.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `struct clone_args` up to `cgroup`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks with the given `CLONE_NEW*` flags, the child born in `group`.
///
/// The calling process must have one thread: the child gets only the calling one, and locks that others held would
/// stay locked for ever.
pub fn clone3(flags: u64, group: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `args` is laid out as the kernel expects and outlives the call, and `pidfd` is a place for a descriptor.
    // Without CLONE_VM and a stack of its own the child goes on here with a copy of this process's memory, as after fork.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), mem::size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as libc::pid_t, pidfd })
}

/// Sets attributes on a mount, and on all below it if `recursive`.
pub fn mount_setattr(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string, `attr` has the layout and size told, and both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 },
            ptr::from_ref(&attr),
            mem::size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Makes `to` a copy of `from`, closed on `execve` or not.
pub fn place(from: BorrowedFd<'_>, to: RawFd, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: plain numbers; whoever owned `to` before is, by the caller's word, gone: see `child::arrange_descriptors`.
    check(unsafe { libc::syscall(libc::SYS_dup3, from.as_raw_fd(), to, flags) }).map(drop)
}

/// The open descriptor `number` as a file. Call it once for each number.
pub fn adopt(number: RawFd) -> File {
    // SAFETY: the caller has put an open descriptor there, and nothing else owns it.
    unsafe { File::from_raw_fd(number) }
}

/// The open descriptor `number`, for as long as the caller knows it to be open.
pub fn borrow(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: callers name numbers that they have put a descriptor into, and use the result before it is closed.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Leaves for a control group namespace whose root is the group that this process is in.
pub fn unshare_groups() -> io::Result<()> {
    // SAFETY: descriptors stay shared as they are; only the flag for files would part them.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }.map_err(io::Error::from)
}

/// Closes all descriptors from `first` on, whoever owns them.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers; the caller uses none of the descriptors from here on, nor drops their owners.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// If the child `pid` has ended: its status as of `wait(2)`, and what it used.
pub fn reap(pid: libc::pid_t) -> io::Result<Option<(i32, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: `rusage` consists of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both are places for what the kernel stores, and outlive the call.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    Ok((check(reaped.into())? != 0).then_some((status, usage)))
}

/// Version of Landlock's interface.
pub fn landlock_abi() -> io::Result<u32> {
    const CREATE_RULESET_VERSION: libc::c_int = 1;
    // SAFETY: with this flag the kernel takes no attributes and only gives a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION) };
    check(version).map(|version| version as u32)
}

/// Ends the process at once: no destructors, nothing written that was buffered.
pub fn exit(code: i32) -> ! {
    // SAFETY: it does not return, and asks nothing of the process's state.
    unsafe { libc::_exit(code) }
}
