//! The control socket's mechanics: clients, their lines and their answers. What requests mean is [`crate::run`]'s business.
//!
//! A client can be hostile, or merely stopped. So everything is bounded: the number of clients, the length of a request,
//! the bytes that wait for a client to read them, and the time it takes to ask. Nothing here blocks.

mod client;

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use aios_core::control::{Request, Response};
use rustix::event::PollFd;
use rustix::event::PollFlags;

use self::client::Client;
use crate::layout;
use crate::supervisor::Time;

/// Clients at a time. One more takes the place of one that has not asked yet, or is sent away.
pub const CLIENTS_MAX: usize = 64;
/// Clients at a time of others than root, so that they cannot lock root out.
pub const UNPRIVILEGED_CLIENTS_MAX: usize = 32;
/// How long `accept` rests after it failed, for example for want of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(500);

/// Names a client for as long as it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// A request that was read and understood.
#[derive(Debug)]
pub struct Asked {
    pub client: ClientId,
    pub request: Request,
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    clients: Vec<(ClientId, Client)>,
    next_id: u64,
    accept_after: Time,
}

impl Server {
    /// Listens on `path`, which is replaced if it exists.
    pub fn listen(path: &Path) -> io::Result<Self> {
        layout::make_way(path)?;
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        // Everyone may ask for the status; each request is checked against the peer's credentials.
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(Server { listener, clients: Vec::new(), next_id: 0, accept_after: Time::ZERO })
    }

    /// What to wait for.
    pub fn poll_fds(&self, now: Time) -> impl Iterator<Item = PollFd<'_>> {
        let accepting = if now >= self.accept_after { PollFlags::IN } else { PollFlags::empty() };
        let listener = PollFd::from_borrowed_fd(self.listener.as_fd(), accepting);
        std::iter::once(listener).chain(self.clients.iter().map(|(_, client)| client.poll_fd()))
    }

    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let accept = (now < self.accept_after).then_some(self.accept_after);
        self.clients.iter().filter_map(|(_, client)| client.deadline()).chain(accept).min()
    }

    /// Accepts, reads and writes as far as that goes without waiting. Gives the requests that are complete and allowed.
    pub fn turn(&mut self, now: Time) -> Vec<Asked> {
        self.accept(now);
        let mut asked = Vec::new();
        for (id, client) in &mut self.clients {
            if let Some(request) = client.turn(now) {
                asked.push(Asked { client: *id, request });
            }
        }
        self.clients.retain(|(_, client)| !client.is_gone());
        asked
    }

    pub fn is_connected(&self, client: ClientId) -> bool {
        self.clients.iter().any(|(id, _)| *id == client)
    }

    /// Whether the client takes more lines now; a slow one makes its log wait in the ring, where it costs nothing.
    pub fn has_room(&self, client: ClientId) -> bool {
        self.clients.iter().any(|(id, connected)| *id == client && connected.has_room())
    }

    /// Adds a response to what the client is to read.
    pub fn send(&mut self, client: ClientId, response: &Response, now: Time) {
        if let Some(client) = self.find(client) {
            client.send(response, now);
        }
    }

    /// No more responses come for this client.
    pub fn finish(&mut self, client: ClientId, now: Time) {
        if let Some(client) = self.find(client) {
            client.finish(now);
        }
        self.clients.retain(|(_, client)| !client.is_gone());
    }

    fn find(&mut self, client: ClientId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|(id, _)| *id == client).map(|(_, client)| client)
    }

    fn accept(&mut self, now: Time) {
        // The bound keeps a flood of connections from holding the loop here.
        for _ in 0..CLIENTS_MAX {
            if now < self.accept_after {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let Ok(client) = Client::new(stream, now) else { continue };
                    if self.make_room_for(&client) {
                        self.clients.push((ClientId(self.next_id), client));
                        self.next_id += 1;
                    } else {
                        client.refuse("too many clients of PID 1; try again");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.accept_after = now + ACCEPT_REST,
            }
        }
    }

    /// Where all places are taken, the client that has been silent for longest goes: one that asks at once is always heard.
    fn make_room_for(&mut self, client: &Client) -> bool {
        let unprivileged = self.clients.iter().filter(|(_, other)| !other.is_privileged()).count();
        let crowded = !client.is_privileged() && unprivileged >= UNPRIVILEGED_CLIENTS_MAX;
        if !crowded && self.clients.len() < CLIENTS_MAX {
            return true;
        }
        let may_go = |other: &Client| other.is_silent() && (!crowded || !other.is_privileged());
        let silent = self.clients.iter().position(|(_, other)| may_go(other));
        silent.map(|at| self.clients.remove(at)).is_some()
    }
}
