//! One call, as the daemon sees it: streams to read, a deadline, and a report at the end.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    pipe::PipeFlags,
};

use crate::{
    Error, Exit, Limits, Outcome, STDERR_TAIL, Usage,
    wire::{self, Done, Failure, Report},
};

/// How long the server may take to end a call that it was asked to end.
const ENDING: Duration = Duration::from_secs(10);
/// The kernel holds the limit against time that it counts in whole ticks, which on a busy machine is up to so many times
/// the exact time that it reports.
const CPU_TICK_ERROR: u32 = 2;
/// Bytes of the length that goes before the result.
const PREFIX: usize = 8;

/// A call that was asked for.
pub struct Call {
    control: OwnedFd,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    started: Instant,
    deadline: Instant,
    limits: Limits,
    result: Vec<u8>,
    tail: Vec<u8>,
    /// Why the end was asked for.
    stopped: Option<Exit>,
}

/// Why there is no outcome.
pub enum Lost {
    /// Nothing was run.
    Refused(Failure),
    /// The server is gone, or does not answer.
    Server,
    /// This side failed.
    Io(io::Error),
}

impl Call {
    /// Opens the call's streams; gives the ends that belong to the other side: control, result, standard error.
    pub fn open(started: Instant, timeout: Duration, limits: Limits) -> Result<(Call, [OwnedFd; 3]), Error> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (control, their_control) = wire::pair().map_err(Error::io("control socket"))?;
        let (output, their_output) = pipe().map_err(Error::io("pipe for the result"))?;
        let (errors, their_errors) = pipe().map_err(Error::io("pipe for standard error"))?;
        for ours in [&output, &errors] {
            rustix::io::ioctl_fionbio(ours, true).map_err(|error| Error::Io { what: "pipe", source: error.into() })?;
        }
        let call = Call {
            control,
            output: Some(output),
            errors: Some(errors),
            started,
            deadline: started + timeout,
            limits,
            result: Vec::new(),
            tail: Vec::new(),
            stopped: None,
        };
        Ok((call, [their_control, their_output, their_errors]))
    }

    /// Reads until the report of the end.
    pub fn wait(mut self) -> Result<Outcome, Lost> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if self.stopped.is_some() {
                    return Err(Lost::Server);
                }
                self.stop(Exit::TimedOut);
                continue;
            }
            let ready = self.ready(left).map_err(Lost::Io)?;
            if ready.output {
                self.read_output().map_err(Lost::Io)?;
            }
            if ready.errors {
                self.read_errors().map_err(Lost::Io)?;
            }
            if ready.control {
                let report = match wire::receive(self.control.as_fd()) {
                    Ok(Some((report, _))) => report,
                    Ok(None) | Err(_) => return Err(Lost::Server),
                };
                match report {
                    Report::Failed(failure) => return Err(Lost::Refused(failure)),
                    Report::Done(done) => {
                        self.read_output().and_then(|()| self.read_errors()).map_err(Lost::Io)?;
                        return Ok(self.outcome(&done));
                    }
                }
            }
        }
    }

    fn ready(&self, left: Duration) -> io::Result<Ready> {
        // A stream that has ended is watched as the control socket a second time, which changes nothing.
        let output = self.output.as_ref().unwrap_or(&self.control);
        let errors = self.errors.as_ref().unwrap_or(&self.control);
        let mut watched = [output, errors, &self.control].map(|stream| PollFd::new(stream, PollFlags::IN));
        poll(&mut watched, Some(left))?;
        let [output, errors, control] = watched.map(|stream| !stream.revents().is_empty());
        Ok(Ready { output: output && self.output.is_some(), errors: errors && self.errors.is_some(), control })
    }

    /// Asks for the end of the call.
    fn stop(&mut self, why: Exit) {
        if self.stopped.is_none() {
            self.stopped = Some(why);
            self.deadline = Instant::now() + ENDING;
            // If it is not heard the server is gone, which shows soon.
            let _ = wire::send(self.control.as_fd(), &(), &[]);
        }
    }

    fn read_output(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64 << 10];
        while let Some(stream) = &self.output {
            match read(stream, &mut bytes)? {
                Read::Bytes(length) => {
                    let room =
                        (PREFIX as u64).saturating_add(self.limits.output_max).saturating_sub(self.result.len() as u64);
                    let kept = length.min(usize::try_from(room).unwrap_or(usize::MAX));
                    self.result.extend_from_slice(&bytes[..kept]);
                    if kept < length {
                        self.output = None;
                        self.stop(Exit::OutputTooLarge);
                    }
                }
                Read::End => self.output = None,
                Read::NothingYet => break,
            }
        }
        Ok(())
    }

    fn read_errors(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        while let Some(stream) = &self.errors {
            match read(stream, &mut bytes)? {
                Read::Bytes(length) => {
                    self.tail.extend_from_slice(&bytes[..length]);
                    let surplus = self.tail.len().saturating_sub(STDERR_TAIL);
                    self.tail.drain(..surplus);
                }
                Read::End => self.errors = None,
                Read::NothingYet => break,
            }
            // A writer that never stops must not keep the deadline from being seen.
            if Instant::now() >= self.deadline {
                break;
            }
        }
        Ok(())
    }

    fn outcome(self, done: &Done) -> Outcome {
        let status = ExitStatus::from_raw(done.status);
        let whole = whole(self.result);
        let exit = match (self.stopped, status.code(), status.signal()) {
            (Some(why), ..) => why,
            _ if done.out_of_memory => Exit::OutOfMemory,
            (None, Some(0), _) if whole.is_some() => Exit::Returned,
            (None, Some(code), _) => Exit::Exited(code),
            // The first process of a pid namespace hears of its processor time only by the signal that nobody can ignore.
            (None, None, Some(libc::SIGKILL)) if done.cpu * CPU_TICK_ERROR >= self.limits.cpu_time => {
                Exit::OutOfCpuTime
            }
            (None, None, signal) => Exit::Signalled(signal.unwrap_or(libc::SIGKILL)),
        };
        let output = if exit == Exit::Returned { whole.unwrap_or_default() } else { Vec::new() };
        let wall = self.started.elapsed();
        let usage = Usage { cpu: done.cpu, memory_peak: done.memory_peak, wall };
        Outcome { exit, output, stderr: String::from_utf8_lossy(&self.tail).into_owned(), usage }
    }
}

/// What there is to read.
struct Ready {
    output: bool,
    errors: bool,
    control: bool,
}

enum Read {
    Bytes(usize),
    NothingYet,
    End,
}

fn read(stream: &OwnedFd, bytes: &mut [u8]) -> io::Result<Read> {
    match rustix::io::retry_on_intr(|| rustix::io::read(stream, &mut *bytes)) {
        Ok(0) => Ok(Read::End),
        Ok(length) => Ok(Read::Bytes(length)),
        Err(Errno::AGAIN) => Ok(Read::NothingYet),
        Err(error) => Err(error.into()),
    }
}

/// The result, if as much came as its length says.
fn whole(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let complete = u64::from_le_bytes(*length) == rest.len() as u64;
    complete.then(|| bytes.split_off(PREFIX))
}

/// Waits until there is something to read; `false` if there was not in time.
pub fn readable(socket: BorrowedFd<'_>, patience: Option<Duration>) -> io::Result<bool> {
    let mut watched = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut watched, patience)?;
    Ok(!watched[0].revents().is_empty())
}

fn poll(watched: &mut [PollFd<'_>], patience: Option<Duration>) -> io::Result<()> {
    let patience = patience.map(Timespec::try_from).transpose().map_err(|_| io::ErrorKind::InvalidInput)?;
    match rustix::event::poll(watched, patience.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_counts_only_when_it_is_whole() {
        let framed = |length: u64, bytes: &[u8]| [&length.to_le_bytes()[..], bytes].concat();
        assert_eq!(whole(framed(3, b"abc")), Some(b"abc".to_vec()));
        assert_eq!(whole(framed(0, b"")), Some(Vec::new()));
        assert_eq!(whole(framed(4, b"abc")), None);
        assert_eq!(whole(framed(2, b"abc")), None);
        assert_eq!(whole(b"short".to_vec()), None);
    }
}
