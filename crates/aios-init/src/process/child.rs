//! The child's way from `fork` to `execve`. Each step has its stage; the first that fails ends the child.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use aios_core::paths::CONTAINER_VARIABLE;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::account::{self, Account};
use super::{Group, REPORT_BYTES, above_standard_streams, confine, directories};
use crate::failure::{Failure, Stage};
use crate::layout::Layout;
use crate::unit::Unit;

/// The highest capability that Linux numbers; the kernel refuses those it does not know.
const CAPABILITY_NUMBERS: u32 = 64;

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child is to become.
pub struct Orders<'a> {
    pub unit: &'a Unit,
    pub layout: &'a Layout,
    pub group: &'a Group,
    pub output: &'a OwnedFd,
}

/// Becomes the unit's program, or reports the stage that failed and ends.
pub fn become_program(orders: &Orders<'_>, report: &OwnedFd) -> ! {
    // A panic must not unwind into a second copy of PID 1's loop.
    let failure = match catch_unwind(AssertUnwindSafe(|| set_up(orders, report))) {
        Ok(Err(failure)) => failure,
        Ok(Ok(never)) => match never {},
        Err(_) => Failure::new(Stage::Fork, "the set-up panicked; see the console"),
    };
    let mut message = vec![failure.stage.code()];
    message.extend(failure.reason.bytes().take(REPORT_BYTES - 1));
    let _ = rustix::io::write(report, &message);
    // SAFETY: `_exit` takes no pointers; unlike `exit` it runs none of PID 1's exit handlers.
    unsafe { libc::_exit(127) }
}

fn set_up(orders: &Orders<'_>, report: &OwnedFd) -> Result<Infallible, Failure> {
    let Orders { unit, layout, group, .. } = orders;
    reset_signals().map_err(at(Stage::Fork, "signals"))?;
    rustix::process::setsid().map_err(at(Stage::Fork, "setsid"))?;
    group.join().map_err(|reason| Failure::new(Stage::Cgroup, reason))?;
    let account = account::look_up(&unit.user, &layout.passwd, &layout.group)
        .map_err(|reason| Failure::new(Stage::User, reason))?;
    let environment = prepare_directories(unit, layout, &account)?;
    connect_streams(orders)?;
    limit_resources(unit)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    std::env::set_current_dir("/").map_err(|error| Failure::new(Stage::Directories, format!("/: {error}")))?;
    become_account(unit, &account)?;
    confine_it(unit, layout)?;
    close_on_exec(report);
    execute(unit, &environment)
}

fn at(stage: Stage, what: &'static str) -> impl Fn(rustix::io::Errno) -> Failure {
    move |error| Failure::new(stage, format!("{what}: {error}"))
}

/// PID 1 blocks signals and ignores SIGPIPE; both would be inherited through `execve`. Asks the kernel itself, because
/// the C libraries keep two signals from their users, which a parent may have ignored all the same.
fn reset_signals() -> rustix::io::Result<()> {
    /// The kernel's `struct sigaction` on every architecture of ours is smaller; all zero means the default.
    const DEFAULT: [u64; 8] = [0; 8];
    const SIGNALS: i32 = 64;
    /// Bytes of the kernel's signal set.
    const SET_BYTES: usize = 8;
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads less than `DEFAULT` holds and writes nothing. It refuses SIGKILL and SIGSTOP, harmlessly.
        unsafe {
            let nowhere = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), nowhere, SET_BYTES)
        };
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|error| rustix::io::Errno::from_raw_os_error(error as i32))
}

/// Makes the unit's directories; gives its environment.
fn prepare_directories(unit: &Unit, layout: &Layout, account: &Account) -> Result<Vec<(String, String)>, Failure> {
    let mut environment: Vec<(String, String)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOME".into(), account.home.clone()),
        ("USER".into(), account.name.clone()),
        ("LOGNAME".into(), account.name.clone()),
        ("NOTIFY_SOCKET".into(), layout.notify_socket.display().to_string()),
    ];
    // What the host of a container does not give, services of it have to do without, as PID 1 does.
    environment.extend(std::env::var(CONTAINER_VARIABLE).ok().map(|name| (CONTAINER_VARIABLE.into(), name)));
    let mut announce = |variable: &str, path: PathBuf| environment.push((variable.into(), path.display().to_string()));
    let in_directories = |reason| Failure::new(Stage::Directories, reason);
    if let Some(name) = &unit.runtime_directory {
        let path = layout.runtime.join(name);
        directories::give(&path, 0o755, account).map_err(in_directories)?;
        announce("RUNTIME_DIRECTORY", path);
    }
    if let Some(name) = &unit.state_directory {
        let path = layout.data.join(name);
        directories::give(&path, 0o700, account).map_err(in_directories)?;
        announce("STATE_DIRECTORY", path);
    }
    if !unit.credentials.is_empty() {
        let path = layout.credentials.join(&unit.name);
        directories::hand_credentials(&unit.credentials, &layout.secrets, &path, account)
            .map_err(|reason| Failure::new(Stage::Credentials, reason))?;
        announce("CREDENTIALS_DIRECTORY", path);
    }
    for (name, value) in &unit.environment {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), value.clone()));
    }
    Ok(environment)
}

fn connect_streams(orders: &Orders<'_>) -> Result<(), Failure> {
    let in_output = at(Stage::Output, "standard streams");
    let (input, output) = match &orders.unit.terminal {
        Some(path) => {
            let failed = |error| Failure::new(Stage::Output, format!("{}: {error}", path.display()));
            let terminal = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
            // Without a controlling terminal the shell has no job control, but it works.
            let _ = rustix::process::ioctl_tiocsctty(&terminal);
            let output = above_standard_streams(terminal.as_fd()).map_err(&in_output)?;
            (above_standard_streams(terminal.as_fd()).map_err(&in_output)?, output)
        }
        None => {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(at(Stage::Output, "/dev/null"))?;
            let output = above_standard_streams(orders.output.as_fd()).map_err(&in_output)?;
            (above_standard_streams(null.as_fd()).map_err(&in_output)?, output)
        }
    };
    rustix::stdio::dup2_stdin(&input).map_err(&in_output)?;
    rustix::stdio::dup2_stdout(&output).map_err(&in_output)?;
    rustix::stdio::dup2_stderr(&output).map_err(&in_output)
}

fn limit_resources(unit: &Unit) -> Result<(), Failure> {
    let same = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // A core dump would write a service's secrets to disk.
    rustix::process::setrlimit(Resource::Core, same(0)).map_err(at(Stage::Limits, "core"))?;
    match unit.limits.open_files {
        Some(count) => {
            rustix::process::setrlimit(Resource::Nofile, same(count)).map_err(at(Stage::Limits, "open-files"))
        }
        None => Ok(()),
    }
}

/// Drops the bounding set while that is still allowed, then becomes the user, keeping exactly the unit's capabilities.
fn become_account(unit: &Unit, account: &Account) -> Result<(), Failure> {
    let in_capabilities = |what| at(Stage::Capabilities, what);
    if let Some(kept) = unit.capabilities {
        for number in 0..CAPABILITY_NUMBERS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            let present = rustix::thread::capability_is_in_bounding_set(capability);
            if !kept.intersects(capability) && present == Ok(true) {
                rustix::thread::remove_capability_from_bounding_set(capability)
                    .map_err(in_capabilities("bounding set"))?;
            }
        }
    }
    rustix::thread::set_keep_capabilities(true).map_err(in_capabilities("keep"))?;
    become_user(account)?;
    if let Some(kept) = unit.capabilities {
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
        rustix::thread::set_capabilities(None, sets).map_err(in_capabilities("sets"))?;
        for capability in kept.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .map_err(in_capabilities("ambient set"))?;
        }
    }
    rustix::thread::set_keep_capabilities(false).map_err(in_capabilities("keep"))?;
    // The emergency shell is the operator's, who may become anyone.
    if unit.terminal.is_none() {
        rustix::thread::set_no_new_privs(true).map_err(in_capabilities("no_new_privs"))?;
    }
    Ok(())
}

fn become_user(account: &Account) -> Result<(), Failure> {
    let groups: Vec<_> = account.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    let (uid, gid) = (rustix::process::Uid::from_raw(account.uid), rustix::process::Gid::from_raw(account.gid));
    match rustix::thread::set_thread_groups(&groups) {
        // In a user namespace of one user there are no groups to choose from; who is that user already stays it.
        Err(rustix::io::Errno::PERM) if rustix::process::getuid() == uid && rustix::process::getgid() == gid => {}
        result => result.map_err(at(Stage::User, "supplementary groups"))?,
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Stage::User, "group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Stage::User, "user"))
}

/// Last, as it closes what the steps before need. In a container the host's kernel may have no such rules; the unit's log says
/// so, and the unit runs without.
fn confine_it(unit: &Unit, layout: &Layout) -> Result<(), Failure> {
    let Some(stated) = &unit.confine else { return Ok(()) };
    match confine::confine(unit, stated, layout) {
        Err(reason) if std::env::var_os(CONTAINER_VARIABLE).is_some() => {
            eprintln!("aios-init: the unit runs unconfined: {reason}");
            Ok(())
        }
        result => result.map_err(|reason| Failure::new(Stage::Confine, reason)),
    }
}

/// PID 1 opens everything close-on-exec; this is the second lock on that door.
fn close_on_exec(report: &OwnedFd) {
    let _ = rustix::io::fcntl_setfd(report, rustix::io::FdFlags::CLOEXEC);
    // SAFETY: marks descriptors, closes none, takes no pointers. A kernel before 5.11 refuses, harmlessly.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

fn execute(unit: &Unit, environment: &[(String, String)]) -> Result<Infallible, Failure> {
    let c_string =
        |text: String| CString::new(text).map_err(|_| Failure::new(Stage::Exec, "NUL character in the command"));
    let arguments = unit.command.iter().cloned().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let variables = variables.map(c_string).collect::<Result<Vec<_>, _>>()?;
    let program = arguments.first().ok_or_else(|| Failure::new(Stage::Exec, "empty command"))?;
    nix::unistd::execve(program, &arguments, &variables)
        .map_err(|error| Failure::new(Stage::Exec, format!("{}: {}", unit.command[0], error.desc())))
}
