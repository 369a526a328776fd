//! QEMU's processes: none outlives the aios-vm that owns it.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal, test_kill_process};

use crate::{Architecture, StartError};

pub const QEMU_IMG: &str = "qemu-img";

/// How often a process's end is looked for.
const POLL: Duration = Duration::from_millis(20);

/// A child that is killed when this value is dropped.
#[derive(Debug)]
pub struct Guarded {
    child: Option<Child>,
}

impl Guarded {
    /// Spawns a child that is also killed by the kernel when the spawning *thread* ends in any way.
    pub fn spawn(command: &mut Command) -> Result<Self, StartError> {
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        Self::spawn_to_detach(command)
    }

    /// Spawns a child that [`Guarded::detach`] may later let go of; until then a drop kills it.
    pub fn spawn_to_detach(command: &mut Command) -> Result<Self, StartError> {
        let child = command.spawn().map_err(missing_or_io(command))?;
        Ok(Guarded { child: Some(child) })
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.stdout.take()
    }

    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.as_mut()?.stderr.take()
    }

    /// The exit status, once the child has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Waits up to `patience` for the child's end.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if started.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for the child's end, however long that takes.
    pub fn wait_for_end(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait(),
            None => Err(io::Error::other("the process was detached")),
        }
    }

    /// Kills the child and collects it.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets the child outlive this value and this process.
    pub fn detach(&mut self) {
        self.child = None;
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program of QEMU's to its end and returns what it printed.
pub fn run(program: &'static str, args: &[&std::ffi::OsStr], doing: &str) -> Result<String, StartError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command.output().map_err(missing_or_io(&command))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(StartError::Program { program, doing: doing.into(), status: output.status, stderr })
}

fn missing_or_io(command: &Command) -> impl FnOnce(io::Error) -> StartError + use<> {
    let name = command.get_program().to_string_lossy().into_owned();
    move |source| match package_of(&name) {
        Some((program, package)) if source.kind() == io::ErrorKind::NotFound => {
            StartError::MissingProgram { program, package }
        }
        _ => StartError::Io { doing: format!("start {name}"), source },
    }
}

/// A program of QEMU's, and the Debian package that has it.
fn package_of(name: &str) -> Option<(&'static str, &'static str)> {
    let system = |architecture: Architecture| (architecture.qemu(), architecture.qemu_package());
    [(QEMU_IMG, "qemu-utils"), system(Architecture::X86_64), system(Architecture::Aarch64)]
        .into_iter()
        .find(|(program, _)| *program == name)
}

/// Connects to a Unix socket. Its address holds 107 bytes, which a deep checkout exceeds; a directory's descriptor is a
/// short name for the same place.
pub(crate) fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    match (UnixStream::connect(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::InvalidInput => {
            let directory = fs::File::open(parent)?;
            UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
        }
        (connected, ..) => connected,
    }
}

/// Whether process `pid` has `part` on its command line. A process id alone may have gone to somebody else.
pub fn runs_with(pid: u32, part: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(part))
}

/// Waits up to `patience` for the end of a process that is not our child.
pub fn wait_for_end_of(pid: u32, patience: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < patience {
        let gone = i32::try_from(pid).ok().and_then(Pid::from_raw).is_none_or(|pid| test_kill_process(pid).is_err());
        if gone || is_zombie(pid) {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}

/// Kills a process that is not our child.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A dead process whose parent has not collected it holds no file, socket or port.
fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null());
        command
    }

    #[test]
    fn a_dropped_guard_leaves_no_process() {
        let guarded = Guarded::spawn(&mut sleeper()).unwrap();
        let pid = guarded.id();
        assert!(runs_with(pid, "60"));
        drop(guarded);
        assert!(!runs_with(pid, "60"));
    }

    #[test]
    fn a_child_dies_with_the_thread_that_spawned_it() {
        let pid = std::thread::spawn(|| {
            let guarded = Guarded::spawn(&mut sleeper()).unwrap();
            let pid = guarded.id();
            std::mem::forget(guarded);
            pid
        })
        .join()
        .unwrap();
        assert!(wait_for_end_of(pid, Duration::from_secs(10)));
    }

    #[test]
    fn a_foreign_process_with_the_same_number_is_not_ours() {
        let guarded = Guarded::spawn(&mut sleeper()).unwrap();
        assert!(!runs_with(guarded.id(), "/no/such/aios-conf.img"));
    }

    #[test]
    fn a_program_that_fails_is_named_with_what_it_said() {
        let error = run(QEMU_IMG, &["info".as_ref(), "/no/such/file".as_ref()], "read a disk").unwrap_err().to_string();
        assert!(error.contains("qemu-img failed") && error.contains("/no/such/file"), "{error}");
    }
}
