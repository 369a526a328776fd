//! Signals to PID 1, read from a descriptor. All are blocked, so that none can end or interrupt it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Init;
use crate::Mode;
use crate::shutdown::Kind;

#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    pub fn open() -> nix::Result<Self> {
        let mut blocked = SigSet::all();
        // A fault in PID 1 itself must not become an endless loop over a blocked signal.
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT, Signal::SIGTRAP]
        {
            blocked.remove(fault);
        }
        blocked.thread_block()?;
        let mut read = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPWR, Signal::SIGUSR2] {
            read.add(signal);
        }
        SignalFd::with_flags(&read, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Signals)
    }

    fn next(&self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Init {
    /// SIGINT is ctrl-alt-del. SIGTERM and SIGUSR2 are what busybox's `reboot` and `poweroff` send to PID 1; to a
    /// container, SIGTERM is the host's wish that it end.
    pub(super) fn take_signals(&mut self) {
        let Some(signals) = &self.signals else { return };
        let taken: Vec<Signal> = std::iter::from_fn(|| signals.next()).collect();
        for signal in taken {
            match (signal, self.mode) {
                (Signal::SIGINT, _) | (Signal::SIGTERM, Mode::Machine) => self.end(Kind::Reboot),
                (Signal::SIGTERM, Mode::Container) | (Signal::SIGPWR | Signal::SIGUSR2, _) => self.end(Kind::PowerOff),
                // The end of a child is found by asking for ended children, whether or not its signal came.
                _ => {}
            }
        }
    }
}
