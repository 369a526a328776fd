//! One client of the control socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aios_core::control::{Request, Response};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::supervisor::Time;

/// A request is a verb and a unit's name.
pub const REQUEST_BYTES_MAX: usize = 4096;
/// A client that has so many bytes to read gets no more log lines.
const OUTPUT_BYTES_FULL: usize = 64 * 1024;
/// Time to send the whole request, and to read the end of the answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    privileged: bool,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The request is not complete.
    Asking {
        deadline: Time,
    },
    /// The request is being carried out.
    Served,
    /// Only the output is left to be read.
    Leaving {
        deadline: Time,
    },
    Gone,
}

impl Client {
    pub fn new(stream: UnixStream, now: Time) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let credentials = getsockopt(&stream, PeerCredentials)?;
        Ok(Client {
            stream,
            privileged: credentials.uid() == 0,
            phase: Phase::Asking { deadline: now + PATIENCE },
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// It has not asked for anything yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. })
    }

    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    pub fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_BYTES_FULL
    }

    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Asking { deadline } | Phase::Leaving { deadline } => Some(deadline),
            Phase::Served | Phase::Gone => None,
        }
    }

    pub fn poll_fd(&self) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        if matches!(self.phase, Phase::Asking { .. }) {
            flags |= PollFlags::IN;
        }
        if !self.output.is_empty() {
            flags |= PollFlags::OUT;
        }
        PollFd::from_borrowed_fd(self.stream.as_fd(), flags)
    }

    /// Reads and writes what can be; gives the request when it is complete and this client may make it.
    pub fn turn(&mut self, now: Time) -> Option<Request> {
        let request = match self.phase {
            Phase::Asking { .. } => self.read(now),
            _ => None,
        };
        self.write();
        if self.has_hung_up() || self.deadline().is_some_and(|deadline| deadline <= now) {
            self.phase = Phase::Gone;
            return None;
        }
        request
    }

    pub fn send(&mut self, response: &Response, now: Time) {
        match serde_json::to_vec(response) {
            Ok(line) => {
                self.output.extend_from_slice(&line);
                self.output.push(b'\n');
                self.write();
            }
            Err(_) => self.finish(now),
        }
    }

    /// The answer is complete: the connection ends when it is read.
    pub fn finish(&mut self, now: Time) {
        self.phase = Phase::Leaving { deadline: now + PATIENCE };
        self.write();
    }

    /// Says why and hangs up; what does not fit the socket's buffer is lost.
    pub fn refuse(mut self, message: &str) {
        self.send(&Response::Error { message: message.into() }, Time::ZERO);
    }

    fn read(&mut self, now: Time) -> Option<Request> {
        let mut buffer = [0; REQUEST_BYTES_MAX];
        loop {
            let ended = match self.stream.read(&mut buffer) {
                Ok(0) => true,
                Ok(length) => {
                    self.input.extend_from_slice(&buffer[..length]);
                    false
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.phase = Phase::Gone;
                    return None;
                }
            };
            let end_of_line = self.input.iter().position(|byte| *byte == b'\n');
            let end = end_of_line.or_else(|| ended.then_some(self.input.len()));
            match end {
                Some(0) if ended => self.phase = Phase::Gone,
                Some(end) if end <= REQUEST_BYTES_MAX => return self.understand(end, now),
                None if self.input.len() <= REQUEST_BYTES_MAX => continue,
                _ => self.reject(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"), now),
            }
            return None;
        }
    }

    fn understand(&mut self, end: usize, now: Time) -> Option<Request> {
        let line = std::mem::take(&mut self.input);
        match serde_json::from_slice(&line[..end]) {
            Ok(request) if self.privileged || matches!(request, Request::Status { .. }) => {
                self.phase = Phase::Served;
                return Some(request);
            }
            Ok(_) => self.reject("only root may do this; ask again with sudo or from the console".into(), now),
            Err(error) => self.reject(format!("not a request: {error}"), now),
        }
        None
    }

    fn reject(&mut self, message: String, now: Time) {
        self.input = Vec::new();
        self.send(&Response::Error { message }, now);
        self.finish(now);
    }

    fn write(&mut self) {
        while !self.output.is_empty() && self.phase != Phase::Gone {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.phase = Phase::Gone,
            }
        }
        if matches!(self.phase, Phase::Leaving { .. }) {
            self.phase = Phase::Gone;
        }
    }

    /// Both directions are closed. One that only said all it had to say is still there to listen.
    fn has_hung_up(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    const START: Time = Time::ZERO;

    fn connect() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours, START).unwrap(), theirs)
    }

    fn answer(theirs: UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(theirs).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_request_may_come_in_pieces_and_without_a_line_end() {
        let (mut client, mut theirs) = connect();
        theirs.write_all(b"{\"request\":").unwrap();
        assert_eq!(client.turn(START), None);
        theirs.write_all(b"\"status\"}").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.turn(START), Some(Request::Status { unit: None }));
        client.send(&Response::Done, START);
        client.finish(START);
        assert!(client.is_gone());
        assert_eq!(answer(theirs), "{\"response\":\"done\"}\n");
    }

    #[test]
    fn an_endless_request_is_cut_short_with_a_reason() {
        let (mut client, mut theirs) = connect();
        theirs.write_all(&[b'x'; 3 * REQUEST_BYTES_MAX]).unwrap();
        assert_eq!(client.turn(START), None);
        assert!(client.is_gone());
        drop(client);
        let mut reader = BufReader::new(theirs);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains("longer than"), "{line}");
    }

    #[test]
    fn a_client_that_says_nothing_is_dropped_in_time() {
        let (mut client, theirs) = connect();
        client.turn(START + PATIENCE - Duration::from_millis(1));
        assert!(!client.is_gone());
        client.turn(START + PATIENCE);
        assert!(client.is_gone());
        drop(theirs);
    }

    #[test]
    fn a_client_that_reads_nothing_gets_no_room_and_is_dropped_in_time() {
        let (mut client, mut theirs) = connect();
        theirs.write_all(b"{\"request\":\"status\"}\n").unwrap();
        assert!(client.turn(START).is_some());
        let mut sent = 0;
        while client.has_room() {
            client.send(&Response::Error { message: "x".repeat(1000) }, START);
            sent += 1;
            assert!(sent < 10_000, "the socket takes everything");
        }
        client.finish(START);
        client.turn(START + PATIENCE);
        assert!(client.is_gone());
    }

    #[test]
    fn a_client_that_hung_up_is_gone() {
        let (mut client, theirs) = connect();
        drop(theirs);
        client.turn(START);
        assert!(client.is_gone());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 1..9000)) {
            let (mut client, mut theirs) = connect();
            theirs.write_all(&bytes).unwrap();
            client.turn(START);
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            client.turn(START);
            prop_assert!(!client.is_silent());
        }
    }
}
