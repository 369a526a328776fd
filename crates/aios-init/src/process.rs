//! Processes of units: how one is created, and what PID 1 keeps of it while it runs.
//!
//! The child does its own set-up between `fork` and `execve`, so that a slow disk holds up the unit and not PID 1. A
//! failed step is reported through a close-on-exec pipe: the end of the pipe without a report means the program runs.

mod account;
mod child;
mod confine;
mod directories;
mod group;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

pub use self::group::{Group, Groups};
use crate::failure::{Failure, Stage};
use crate::layout::Layout;
use crate::logs::Cutter;
use crate::unit::Unit;

/// A report is the stage's code and then the reason, cut to this many bytes: one write to a pipe, which is atomic.
const REPORT_BYTES: usize = 2048;
/// Read from a unit's output at one time, so that a flood from one unit does not keep PID 1 from the others.
const OUTPUT_BYTES_AT_ONCE: usize = 64 * 1024;

/// One run of a unit: its main process and all others of it.
#[derive(Debug)]
pub struct Run {
    pub main: Pid,
    pub main_ended: bool,
    pub group: Group,
    set_up: Option<File>,
    output: Option<File>,
    cutter: Cutter,
}

/// What the set-up pipe tells.
#[derive(Debug, PartialEq, Eq)]
pub enum SetUp {
    /// Nothing yet, or all was told before.
    Pending,
    /// The program is executed.
    Executed,
    Failed(Failure),
}

/// Creates the main process of a unit; it joins `group` by itself.
pub fn spawn(unit: &Unit, layout: &Layout, group: Group) -> Result<Run, Failure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::new(Stage::Fork, format!("pipe: {error}")));
    let (set_up, report) = pipe()?;
    let (output, child_output) = pipe()?;
    for end in [&set_up, &output] {
        rustix::io::ioctl_fionbio(end, true).map_err(|error| Failure::new(Stage::Fork, format!("pipe: {error}")))?;
    }
    let orders = child::Orders { unit, layout, group: &group, output: &child_output };
    // SAFETY: PID 1 has a single thread, so the child may use the allocator and the standard library as usual.
    let forked = unsafe { nix::unistd::fork() };
    match forked {
        Ok(nix::unistd::ForkResult::Child) => child::become_program(&orders, &report),
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            let main = Pid::from_raw(child.as_raw()).expect("invariant: the child of a fork has a positive pid");
            Ok(Run {
                main,
                main_ended: false,
                group: group.of_session(main),
                set_up: Some(File::from(set_up)),
                output: unit.terminal.is_none().then(|| File::from(output)),
                cutter: Cutter::default(),
            })
        }
        Err(error) => Err(Failure::new(Stage::Fork, error.desc())),
    }
}

impl Run {
    /// The pipes to watch for input: set-up report and output.
    pub fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.set_up.iter().chain(&self.output).map(AsFd::as_fd)
    }

    /// Reads the set-up pipe; says [`SetUp::Executed`] or [`SetUp::Failed`] once.
    pub fn read_set_up(&mut self) -> SetUp {
        let Some(pipe) = &mut self.set_up else { return SetUp::Pending };
        let mut report = [0; REPORT_BYTES];
        let told = match pipe.read(&mut report) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return SetUp::Pending;
            }
            Ok(0) => SetUp::Executed,
            Ok(length) => SetUp::Failed(Failure::new(
                Stage::from_code(report[0]).unwrap_or(Stage::Exec),
                String::from_utf8_lossy(&report[1..length]).into_owned(),
            )),
            Err(error) => SetUp::Failed(Failure::new(Stage::Fork, format!("set-up pipe: {error}"))),
        };
        self.set_up = None;
        told
    }

    /// Reads what the unit wrote and hands over each line. `last` when no more is awaited.
    pub fn read_output(&mut self, last: bool, mut emit: impl FnMut(String)) {
        let Some(pipe) = &mut self.output else { return };
        let mut buffer = vec![0; OUTPUT_BYTES_AT_ONCE];
        let ended = match pipe.read(&mut buffer) {
            Ok(0) => true,
            Ok(length) => {
                self.cutter.feed(&buffer[..length], &mut emit);
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if ended || last {
            self.cutter.finish(&mut emit);
            self.output = None;
        }
    }

    /// Asks every process of the unit to end.
    pub fn terminate(&self) {
        let mut processes = self.group.processes();
        // A child that has just been made is not in its group yet.
        if !self.main_ended && !processes.contains(&self.main) {
            processes.push(self.main);
        }
        for pid in processes {
            // It may have ended since it was listed. A stopped process sees SIGTERM only when it goes on.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
    }

    /// Ends every process of the unit, also a child that is not in its group yet.
    pub fn kill(&self) {
        self.group.kill();
        if !self.main_ended {
            let _ = rustix::process::kill_process(self.main, Signal::KILL);
        }
    }

    /// Neither the main process nor any other of the unit is left.
    pub fn is_over(&self) -> bool {
        self.main_ended && self.group.is_empty()
    }

    /// Whether a process that speaks to PID 1 belongs to this run.
    pub fn owns(&self, pid: Pid) -> bool {
        (pid == self.main && !self.main_ended) || self.group.contains(pid)
    }
}

/// Keeps a descriptor that `dup2` must not overwrite out of the way of 0, 1 and 2.
fn above_standard_streams(fd: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}
