//! The daemon's handle on the sandbox.

use std::{
    fmt::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{Error, Outcome, Profile, groups::Groups, layers::Layers, server, wire};

mod call;

/// How long the server may take for its first word, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a sandbox is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program that calls [`serve_if_asked`](crate::serve_if_asked). The default is the running one.
    pub program: PathBuf,
    /// What to do where the machine hands no control groups down to this process.
    pub enforcement: Enforcement,
    /// Layers to leave out.
    #[cfg(feature = "mutation")]
    pub without: std::collections::BTreeSet<crate::Layer>,
}

/// What to do where limits on memory and processes can't be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Refuse to start.
    #[default]
    Required,
    /// Go without those limits. For tests in containers that have no controllers; never on a device.
    WhereOffered,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            program: "/proc/self/exe".into(),
            enforcement: Enforcement::Required,
            #[cfg(feature = "mutation")]
            without: std::collections::BTreeSet::new(),
        }
    }
}

/// Runs calls, each in a process that reaches only what its profile names. To be shared between threads.
#[derive(Debug)]
pub struct Sandbox {
    options: Options,
    groups: Option<Groups>,
    server: Mutex<Option<Server>>,
}

/// A running fork server.
#[derive(Debug)]
struct Server {
    process: Child,
    requests: OwnedFd,
    /// Tells servers apart, so that two threads that see one die start only one.
    generation: u64,
}

impl Sandbox {
    /// Starts the fork server. [`Error::Unsupported`] if this machine lacks a layer.
    pub fn start(options: Options) -> Result<Sandbox, Error> {
        let groups = Groups::prepare(options.enforcement)?;
        let sandbox = Sandbox { options, groups, server: Mutex::new(None) };
        let server = sandbox.spawn(0)?;
        *sandbox.lock() = Some(server);
        Ok(sandbox)
    }

    /// Runs the handler with `input` under `profile`, for `timeout` at most. Blocks until the call and all its processes
    /// have ended.
    ///
    /// An error means that nothing was run, but for [`Error::ServerDied`]: then what was done is not known. How a call
    /// that was run has ended is in the [`Outcome`].
    pub fn run(&self, profile: &Profile, input: &[u8], timeout: Duration) -> Result<Outcome, Error> {
        profile.check()?;
        let started = Instant::now();
        let (memory, request) = wire::seal(profile, input).map_err(Error::io("memory for the input"))?;
        let (call, descriptors) = call::Call::open(started, timeout, profile.limits)?;
        let [control, output, errors] = &descriptors;
        let descriptors_sent = [memory.as_fd(), control.as_fd(), output.as_fd(), errors.as_fd()];
        let generation = self.submit(&request, &descriptors_sent)?;
        // Their other ends tell the end of the call, so this side keeps none open.
        drop(descriptors);
        drop(memory);
        call.wait().map_err(|lost| match lost {
            call::Lost::Refused(failure) => failure.into(),
            call::Lost::Io(source) => Error::Io { what: "call", source },
            call::Lost::Server => Error::ServerDied { how: self.bury(generation) },
        })
    }

    /// Number of the fork server's process, for those who watch over it.
    pub fn server_pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|server| server.process.id())
    }

    /// Hands a request to the server. A server that is found dead is replaced: it has not seen the request.
    fn submit(&self, request: &wire::Request, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<u64, Error> {
        let mut server = self.lock();
        let generation = match &*server {
            Some(running) => match wire::send(running.requests.as_fd(), request, descriptors) {
                Ok(()) => return Ok(running.generation),
                Err(_) => running.generation,
            },
            None => 0,
        };
        if let Some(dead) = server.take() {
            self.clear(dead);
        }
        let fresh = self.spawn(generation + 1)?;
        let sent = wire::send(fresh.requests.as_fd(), request, descriptors);
        let generation = fresh.generation;
        *server = Some(fresh);
        sent.map_err(Error::io("request to the fork server")).map(|()| generation)
    }

    /// Takes leave of a server that has died or does not answer; says how it ended.
    fn bury(&self, generation: u64) -> String {
        let mut server = self.lock();
        match server.take() {
            Some(dead) if dead.generation == generation => self.clear(dead),
            other => {
                *server = other;
                "another call has found it".into()
            }
        }
    }

    /// Ends a server and what it left.
    fn clear(&self, mut dead: Server) -> String {
        drop(dead.requests);
        let how = match dead.process.try_wait() {
            Ok(Some(status)) => describe(status),
            _ => {
                let _ = dead.process.kill();
                dead.process.wait().map_or_else(|error| error.to_string(), |_| "it did not answer".into())
            }
        };
        if let Some(groups) = &self.groups {
            groups.sweep();
        }
        how
    }

    fn spawn(&self, generation: u64) -> Result<Server, Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Start { what, source }
        };
        let (requests, theirs) = wire::pair().map_err(failed("socket"))?;
        let program = &self.options.program;
        let process = Command::new(program)
            .arg0("aios-sandbox")
            .arg(server::ARGUMENT)
            .env_clear()
            .current_dir("/")
            // Keys pressed at the daemon's terminal are for the daemon, which ends the server in its own time.
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed(&program.display().to_string()))?;
        let mut server = Server { process, requests, generation };
        match greet(&server, wire::Setup { groups: self.groups.clone(), layers: self.layers() }) {
            Ok(hello) if hello.missing.is_empty() => Ok(server),
            other => {
                let _ = server.process.kill();
                let _ = server.process.wait();
                Err(match other {
                    Ok(hello) => refusal(&hello),
                    Err(source) => Error::Start { what: "first word".into(), source },
                })
            }
        }
    }

    /// All of them, but in tests of the layers.
    fn layers(&self) -> Layers {
        #[cfg(feature = "mutation")]
        return Layers::without(&self.options.without);
        #[cfg(not(feature = "mutation"))]
        Layers::default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(Server { mut process, requests, .. }) = self.lock().take() {
            // It ends its calls and itself when nobody can ask for more.
            drop(requests);
            let deadline = Instant::now() + PATIENCE;
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(groups) = &self.groups {
            groups.remove();
        }
    }
}

/// Tells the server what it needs to know, and hears what the machine lacks.
fn greet(server: &Server, setup: wire::Setup) -> std::io::Result<wire::Hello> {
    wire::send(server.requests.as_fd(), &setup, &[])?;
    if !call::readable(server.requests.as_fd(), Some(PATIENCE))? {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    match wire::receive(server.requests.as_fd())? {
        Some((hello, _)) => Ok(hello),
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

fn refusal(hello: &wire::Hello) -> Error {
    let mut feature = String::new();
    let mut reason = String::new();
    for (layer, why) in &hello.missing {
        let comma = if feature.is_empty() { "" } else { ", " };
        let _ = write!(feature, "{comma}{layer}");
        let _ = write!(reason, "{comma}{why}");
    }
    Error::Unsupported { feature, reason }
}

fn describe(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
