//! Which ports of 127.0.0.1 lead into the guest.

use std::net::TcpListener;

use crate::StartError;

/// The guest's OpenAI-compatible API.
pub const GUEST_API: u16 = 8080;
/// The guest's management console.
pub const GUEST_CONSOLE: u16 = 9090;

/// Ports of 127.0.0.1 forwarded to [`GUEST_API`] and [`GUEST_CONSOLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwards {
    pub api: u16,
    pub console: u16,
}

impl Forwards {
    /// The developer's ports: `AIOS_PORT` exactly, if set, else the guest's own numbers or the next free ones.
    pub fn for_developer(asked: Option<u16>) -> Result<Self, StartError> {
        let api = match asked {
            Some(port) if is_free(port) => port,
            Some(port) => return Err(StartError::PortTaken { port, variable: "AIOS_PORT" }),
            None => next_free(GUEST_API, None)?,
        };
        Ok(Forwards { api, console: next_free(GUEST_CONSOLE, Some(api))? })
    }

    /// Any two free ports, for machines that run beside others.
    pub fn any() -> Result<Self, StartError> {
        // Both are held at once, so that they differ.
        let listeners = [bind(0)?, bind(0)?];
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(StartError::io("read a free port's number"))
        };
        Ok(Forwards { api: port(&listeners[0])?, console: port(&listeners[1])? })
    }
}

fn bind(port: u16) -> Result<TcpListener, StartError> {
    TcpListener::bind(("127.0.0.1", port)).map_err(StartError::io("find a free port on 127.0.0.1"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn next_free(from: u16, except: Option<u16>) -> Result<u16, StartError> {
    match (from..from.saturating_add(200)).find(|port| Some(*port) != except && is_free(*port)) {
        Some(port) => Ok(port),
        None => Ok(Forwards::any()?.api),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_stepped_over_when_none_was_asked_for() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap().port();
        assert_ne!(next_free(taken, None).unwrap(), taken);
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_refused_by_name() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap().port();
        let error = Forwards::for_developer(Some(taken)).unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()) && error.contains("AIOS_PORT"), "{error}");
    }

    #[test]
    fn the_two_ports_differ() {
        let free = Forwards::any().unwrap();
        assert_ne!(free.api, free.console);
        let asked = Forwards::for_developer(Some(free.api)).unwrap();
        assert_eq!(asked.api, free.api);
        assert_ne!(asked.api, asked.console);
    }
}
