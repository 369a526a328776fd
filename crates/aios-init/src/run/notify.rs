//! `NOTIFY_SOCKET`: the datagrams by which units say that they are ready (`sd_notify(3)`).

use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt::PassCred};
use rustix::process::Pid;

use super::{Init, say};
use crate::layout;
use crate::supervisor::{Event, UnitId};

/// Longer datagrams are cut; `READY=1` comes first in every known library.
const DATAGRAM_BYTES: usize = 4096;
/// Kept of a `STATUS=` text.
const STATUS_CHARS: usize = 256;
/// Read in one turn, so that a flood from one unit does not keep PID 1 from the rest.
const DATAGRAMS_AT_ONCE: usize = 64;

#[derive(Debug)]
pub struct NotifySocket(UnixDatagram);

/// What one datagram says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notification {
    pub ready: bool,
    pub status: Option<String>,
}

impl NotifySocket {
    /// Binds to `path`, which is replaced if it exists.
    pub fn bind(path: &Path) -> io::Result<Self> {
        layout::make_way(path)?;
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, PassCred, &true)?;
        // Units run as many users; who speaks is told by the kernel with each datagram.
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(NotifySocket(socket))
    }

    /// The next datagram with its sender's process.
    fn receive(&self) -> Option<(Option<Pid>, Notification)> {
        let mut bytes = [0; DATAGRAM_BYTES];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        // There is room for the credentials alone: descriptors that a sender adds are not even received.
        let mut space = nix::cmsg_space!(UnixCredentials);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags).ok()?;
        let credentials = message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials),
            _ => None,
        });
        let length = message.bytes;
        // A sender outside PID 1's namespace has pid 0.
        let sender = credentials.and_then(|credentials| Pid::from_raw(credentials.pid()));
        Some((sender, Notification::parse(&bytes[..length])))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Notification {
    /// Lines of `NAME=value`; those that mean nothing to aiOS are skipped.
    fn parse(bytes: &[u8]) -> Self {
        let mut notification = Notification::default();
        for line in String::from_utf8_lossy(bytes).split('\n') {
            match line.split_once('=') {
                Some(("READY", "1")) => notification.ready = true,
                Some(("STATUS", text)) => {
                    let printable = text.chars().filter(|character| !character.is_control());
                    notification.status = Some(printable.take(STATUS_CHARS).collect());
                }
                _ => {}
            }
        }
        notification
    }
}

impl Init {
    pub(super) fn take_notifications(&mut self) {
        for _ in 0..DATAGRAMS_AT_ONCE {
            let Some((sender, notification)) = self.notify.as_ref().and_then(NotifySocket::receive) else { return };
            match sender.and_then(|pid| self.owner(pid)) {
                Some(unit) => {
                    if let Some(status) = notification.status {
                        self.record(unit).status = Some(status);
                    }
                    if notification.ready {
                        self.queue.push_back(Event::Notified(unit));
                    }
                }
                None if notification.ready => {
                    let sender = sender.map_or_else(|| "outside".into(), |pid| format!("{}", pid.as_raw_nonzero()));
                    say(format_args!("READY=1 from process {sender}, which is of no unit; ignored"));
                }
                None => {}
            }
        }
    }

    /// The unit that a process belongs to.
    fn owner(&self, pid: Pid) -> Option<UnitId> {
        let owns = |record: &super::UnitRecord| record.run.as_ref().is_some_and(|run| run.owns(pid));
        self.units.iter().position(owns).map(UnitId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_and_status_are_heard() {
        let heard = Notification::parse(b"STATUS=loading\x1b[31m model\nREADY=1\nWATCHDOG=1\n\xFF");
        assert_eq!(heard, Notification { ready: true, status: Some("loading[31m model".into()) });
        assert_eq!(Notification::parse(b"READY=0\nREADY"), Notification::default());
        let long = format!("STATUS={}", "x".repeat(1000));
        assert_eq!(Notification::parse(long.as_bytes()).status.map(|status| status.len()), Some(STATUS_CHARS));
    }
}
