//! The fork server: one thread, no secrets, a child for each call.

use std::{
    env, fs,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{CWD, Mode, OFlags},
    pipe::PipeFlags,
    process::Signal,
};

use crate::{
    Identity, Network, Processes, Profile, child,
    groups::{Group, Groups},
    layers::{Layer, Layers},
    plan::Plan,
    sys::{self, Cloned},
    wire::{self, Done, Failure, Hello, Report, Request, Setup},
};

/// What runs in a call's process: takes the call's input and gives its result, both of any content.
pub type Handler = fn(&[u8]) -> Vec<u8>;

/// Argument that makes a program the fork server. Somebody who gives it by hand gets a process that waits for requests
/// on its standard input and has no more rights than they have.
pub(crate) const ARGUMENT: &str = "aios-sandbox-fork-server";

/// How soon a group is looked at again whose processes are still ending.
const ENDING: Duration = Duration::from_millis(1);

/// Becomes the fork server if this process was started as one by [`Sandbox::start`](crate::Sandbox::start), and then
/// never returns. To be called first in `main`, while there is one thread.
pub fn serve_if_asked(handler: Handler) {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == ARGUMENT) && arguments.next().is_none() {
        match serve(handler) {
            Ok(()) => sys::exit(0),
            Err(error) => {
                let _ = writeln!(io::stderr(), "fork server: {error}");
                sys::exit(1)
            }
        }
    }
}

/// A running call.
struct Call {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    control: OwnedFd,
    group: Option<Group>,
    /// The child's hold on the server: closed when the server is gone.
    _lease: OwnedFd,
    /// The end that was reaped, while other processes of the call are still ending.
    ended: Option<(i32, libc::rusage)>,
    /// The daemon has asked for the end, or is gone.
    cancelled: bool,
}

/// Serves until the daemon is gone.
fn serve(handler: Handler) -> io::Result<()> {
    // What the daemon left open by mistake ends here.
    sys::close_from(3)?;
    let requests = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    let Some((setup, _)) = wire::receive::<Setup>(requests.as_fd())? else { return Ok(()) };
    wire::send(requests.as_fd(), &Hello { missing: missing() }, &[])?;
    let mut server = Server {
        handler,
        groups: setup.groups,
        layers: setup.layers,
        filters: Default::default(),
        calls: Vec::new(),
        next: 0,
    };
    while server.step(requests.as_fd())? {}
    // Calls end with this process, by the signal that each asked for; groups also reach what left its parent.
    for call in &server.calls {
        call.kill();
    }
    if let Some(groups) = &server.groups {
        groups.sweep();
    }
    Ok(())
}

/// Layers that this machine lacks.
fn missing() -> Vec<(String, String)> {
    let mut missing = Vec::new();
    match sys::landlock_abi() {
        Ok(abi) if abi >= child::LANDLOCK_ABI => {}
        Ok(abi) => missing.push((
            "Landlock".into(),
            format!("the kernel has version {abi} of its interface, needed is {} (Linux 6.12)", child::LANDLOCK_ABI),
        )),
        Err(error) => missing.push(("Landlock".into(), error.to_string())),
    }
    if let Err(error) = fs::metadata("/proc/self/uid_map") {
        missing.push(("user namespaces".into(), format!("/proc/self/uid_map: {error}")));
    }
    missing
}

struct Server {
    handler: Handler,
    groups: Option<Groups>,
    layers: Layers,
    filters: child::filter::Cache,
    calls: Vec<Call>,
    /// Number of the next call.
    next: u64,
}

impl Server {
    /// Waits for something to happen and does what it asks for; `false` when the daemon is gone.
    fn step(&mut self, requests: BorrowedFd<'_>) -> io::Result<bool> {
        let ending = self.calls.iter().any(|call| call.ended.is_some());
        let timeout = ending.then(|| Timespec::try_from(ENDING).expect("invariant: a millisecond is a time"));
        let ready: Vec<PollFlags> = {
            let mut watched = vec![PollFd::from_borrowed_fd(requests, PollFlags::IN)];
            for call in &self.calls {
                let running = if call.ended.is_none() { PollFlags::IN } else { PollFlags::empty() };
                watched.push(PollFd::from_borrowed_fd(call.pidfd.as_fd(), running));
                let listening = if call.cancelled { PollFlags::empty() } else { PollFlags::IN };
                watched.push(PollFd::from_borrowed_fd(call.control.as_fd(), listening));
            }
            match rustix::event::poll(&mut watched, timeout.as_ref()) {
                Ok(_) => watched.iter().map(PollFd::revents).collect(),
                Err(rustix::io::Errno::INTR) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        };
        for (call, ready) in self.calls.iter_mut().zip(ready[1..].chunks(2)) {
            if !ready[1].is_empty() && !call.cancelled {
                call.cancelled = true;
                // A message left unread would spoil the report that goes the other way.
                let _ = wire::receive::<()>(call.control.as_fd());
                call.kill();
            }
            if ready[0].contains(PollFlags::IN) && call.ended.is_none() {
                call.ended = sys::reap(call.pid)?;
                call.kill();
            }
        }
        self.calls.retain(|call| !call.is_over());
        if ready[0].is_empty() {
            return Ok(true);
        }
        match wire::receive::<Request>(requests) {
            Ok(None) => Ok(false),
            Ok(Some((request, descriptors))) => {
                self.accept(&request, descriptors);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a call, or tells why not.
    fn accept(&mut self, request: &Request, descriptors: Vec<OwnedFd>) {
        let Ok([memory, control, output, errors]) = <[OwnedFd; 4]>::try_from(descriptors) else {
            return;
        };
        let streams = child::Streams { memory, control: control.as_fd(), output, errors };
        match self.start(request, streams) {
            Ok((pid, pidfd, group, lease)) => {
                let call = Call { pid, pidfd, control, group, _lease: lease, ended: None, cancelled: false };
                self.calls.push(call);
            }
            Err(failure) => {
                let _ = wire::send(control.as_fd(), &Report::Failed(failure), &[]);
            }
        }
    }

    /// Makes the group of the next call, if there are groups.
    fn group(&mut self, profile: &Profile) -> io::Result<Option<Group>> {
        let Some(groups) = self.groups.as_ref().filter(|_| self.layers.has(Layer::ControlGroup)) else {
            return Ok(None);
        };
        loop {
            let number = self.next;
            self.next += 1;
            match groups.make(number, &profile.limits) {
                // Processes of an earlier server's call are still ending there.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map(Some),
            }
        }
    }

    fn start(
        &mut self,
        request: &Request,
        streams: child::Streams<'_>,
    ) -> Result<(libc::pid_t, OwnedFd, Option<Group>, OwnedFd), Failure> {
        let profile = wire::unseal(&streams.memory, 0, Some(request.profile_length)).map_err(Failure::at("input"))?;
        let profile: Profile =
            serde_json::from_slice(&profile).map_err(|error| Failure::at("profile")(error.into()))?;
        if self.groups.is_none() && profile.processes == Processes::Host {
            let reason = "without them not all processes of a call can be ended";
            return Err(Failure::unsupported("control groups (version 2)", reason));
        }
        let filters = self.filters.get(&profile)?;
        let plan = Plan::of(&profile, &self.layers)?;
        let group = self.group(&profile).map_err(Failure::at("control group"))?;
        let (wait, lease) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Failure::during("pipe"))?;
        let cloned =
            sys::clone3(namespaces(&profile, &self.layers), group.as_ref().map(|group| group.descriptor.as_fd()));
        match cloned {
            Ok(Cloned::Child) => {
                drop(lease);
                child::run(
                    child::Start {
                        layers: self.layers.clone(),
                        filters,
                        profile,
                        plan,
                        lease: wait,
                        streams,
                        input_at: request.profile_length,
                    },
                    self.handler,
                )
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let ready = map_users(&profile, pid)
                    .and_then(|()| rustix::io::write(&lease, b"g").map(drop).map_err(io::Error::from));
                if let Err(error) = ready {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                    reap_now(pid, &pidfd);
                    group.map(|group| group.remove());
                    return Err(Failure::at("user namespace")(error));
                }
                Ok((pid, pidfd, group, lease))
            }
            Err(error) => {
                group.map(|group| group.remove());
                Err(Failure::unsupported("namespaces", format!("clone3: {error}")))
            }
        }
    }
}

/// Namespaces that the child is born into. That of control groups follows when it is in its group.
fn namespaces(profile: &Profile, layers: &Layers) -> u64 {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
    if layers.has(Layer::UtsNamespace) {
        flags |= libc::CLONE_NEWUTS;
    }
    if profile.processes == Processes::Own && layers.has(Layer::PidNamespace) {
        flags |= libc::CLONE_NEWPID;
    }
    if profile.network == Network::None && layers.has(Layer::NetworkNamespace) {
        flags |= libc::CLONE_NEWNET;
    }
    if own_users(profile) {
        flags |= libc::CLONE_NEWUSER;
    }
    flags as u64
}

/// Whether the child has a user namespace. With a capability over the machine it can't have one.
pub(crate) fn own_users(profile: &Profile) -> bool {
    profile.capabilities.is_empty()
}

/// Root of the child's user namespace is the profile's identity outside, and nobody else exists there.
fn map_users(profile: &Profile, pid: libc::pid_t) -> io::Result<()> {
    if !own_users(profile) {
        return Ok(());
    }
    let (uid, gid) = outside(profile.identity);
    fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1"))
}

/// User and group of an identity on the machine.
pub(crate) fn outside(identity: Identity) -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    identity.outside((uid.as_raw(), gid.as_raw()))
}

fn reap_now(pid: libc::pid_t, pidfd: &OwnedFd) {
    let _ = rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None);
    let _ = sys::reap(pid);
}

impl Call {
    fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        if self.ended.is_none() {
            // The first process of a pid namespace takes all others with it.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Whether all its processes are gone; then it is reported.
    fn is_over(&self) -> bool {
        let Some((status, usage)) = &self.ended else { return false };
        let group = self.group.as_ref();
        let out_of_memory = group.is_some_and(Group::out_of_memory);
        let cpu = group.and_then(Group::cpu_microseconds).map(Duration::from_micros);
        let memory_peak = group.and_then(Group::memory_peak);
        if group.is_some_and(|group| !group.remove()) {
            return false;
        }
        let done = Done {
            status: *status,
            cpu: cpu.unwrap_or_else(|| time(usage.ru_utime) + time(usage.ru_stime)),
            memory_peak: memory_peak.unwrap_or(usage.ru_maxrss as u64 * 1024),
            out_of_memory,
        };
        let _ = wire::send(self.control.as_fd(), &Report::Done(done), &[]);
        true
    }
}

fn time(value: libc::timeval) -> Duration {
    Duration::from_secs(value.tv_sec as u64) + Duration::from_micros(value.tv_usec as u64)
}
