//! What the daemon, the fork server and a call's process say to each other over sockets that keep message bounds.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Profile, groups::Groups, layers::Layers};

/// Longest message. What may be longer, the profile and the input, travels in memory that the message hands over.
const MESSAGE_MAX: usize = 16 << 10;
/// Most descriptors in one message.
const DESCRIPTORS_MAX: usize = 4;

/// First message to the server.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Where calls' control groups are made.
    pub groups: Option<Groups>,
    /// Layers in force.
    pub layers: Layers,
}

/// The server's answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Layers that this machine lacks, with the reason.
    pub missing: Vec<(String, String)>,
}

/// Asks for a call. The descriptors with it are, in this order: the memory with the profile and then the input; the
/// call's control socket; where the result goes; where standard output and error go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Bytes of the profile at the beginning of the memory.
    pub profile_length: usize,
}

/// What comes over a call's control socket. The daemon says nothing there but one message of any content, which means
/// "end the call", as does closing it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Nothing was run.
    Failed(Failure),
    /// The call has ended and all its processes with it.
    Done(Done),
}

/// Why nothing was run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done.
    pub stage: String,
    /// The granted path that it was about.
    pub path: Option<PathBuf>,
    /// The system's error number.
    pub errno: i32,
    /// It is a layer of the sandbox that the machine lacks, for this reason.
    pub unsupported: Option<String>,
}

/// How a call ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Status as of `wait(2)`.
    pub status: i32,
    /// Time on processors.
    pub cpu: Duration,
    /// Most memory held at once, in bytes.
    pub memory_peak: u64,
    /// The kernel ended it for want of memory.
    pub out_of_memory: bool,
}

impl Failure {
    /// A step of confinement failed.
    pub fn at(stage: &str) -> impl Fn(io::Error) -> Failure {
        move |error| Failure { stage: stage.into(), path: None, errno: number(&error), unsupported: None }
    }

    /// The same for steps done through rustix.
    pub fn during(stage: &str) -> impl Fn(rustix::io::Errno) -> Failure {
        move |error| Failure::at(stage)(error.into())
    }

    /// A granted path can't be shown.
    pub fn path(path: &std::path::Path) -> impl Fn(rustix::io::Errno) -> Failure {
        move |error| Failure {
            stage: "granted path".into(),
            path: Some(path.into()),
            errno: error.raw_os_error(),
            unsupported: None,
        }
    }

    /// A layer is missing.
    pub fn unsupported(layer: &str, reason: impl ToString) -> Failure {
        Failure { stage: layer.into(), path: None, errno: 0, unsupported: Some(reason.to_string()) }
    }
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let source = io::Error::from_raw_os_error(failure.errno);
        match (failure.path, failure.unsupported) {
            (_, Some(reason)) => Error::Unsupported { feature: failure.stage, reason },
            (Some(path), None) => Error::Path { path, source },
            (None, None) => Error::Setup { stage: failure.stage, source },
        }
    }
}

/// Two connected sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair =
        rustix::net::socketpair(rustix::net::AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok(pair)
}

/// Sends one message. A socket whose other end is closed gives an error, never a signal.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags))?;
    Ok(())
}

/// Receives one message; `None` when the other end is closed.
pub fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, descriptors)))
}

/// Memory with the profile and the input, which nobody can change any more.
pub fn seal(profile: &Profile, input: &[u8]) -> io::Result<(OwnedFd, Request)> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let memory = rustix::fs::memfd_create(c"sandbox-input", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let profile = serde_json::to_vec(profile)?;
    for mut part in [&profile[..], input] {
        while !part.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&memory, part))?;
            part = &part[written..];
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok((memory, Request { profile_length: profile.len() }))
}

/// Bytes of the memory from `start` on, at most `length`.
pub fn unseal(memory: impl AsFd, start: usize, length: Option<usize>) -> io::Result<Vec<u8>> {
    let size = rustix::fs::fstat(&memory)?.st_size as usize;
    let end = length.map_or(size, |length| size.min(start.saturating_add(length)));
    let mut bytes = vec![0; end.saturating_sub(start)];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = rustix::io::pread(&memory, &mut bytes[filled..], (start + filled) as u64)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
    }
    Ok(bytes)
}
