//! Client of PID 1's control socket.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use aios_core::control::{Request, Response};
use anyhow::{Context, Result, bail};

/// A request on its way; the answers come one by one.
pub struct Answers {
    lines: std::io::Lines<BufReader<UnixStream>>,
}

/// Sends one request to PID 1.
pub fn ask(socket: &Path, request: &Request) -> Result<Answers> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!("can't reach PID 1 at {} (is this an aiOS device, and are you root?)", socket.display())
    })?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context("PID 1 did not take the request")?;
    Ok(Answers { lines: BufReader::new(stream).lines() })
}

/// Sends a request that is answered once. An error that PID 1 reports is an error here.
pub fn ask_once(socket: &Path, request: &Request) -> Result<Response> {
    match ask(socket, request)?.next() {
        Some(answer) => answer,
        None => bail!("PID 1 closed the connection without an answer"),
    }
}

impl Iterator for Answers {
    type Item = Result<Response>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error).context("the connection to PID 1 broke")),
        };
        Some(match serde_json::from_str(&line) {
            Ok(Response::Error { message }) => Err(anyhow::anyhow!(message)),
            Ok(response) => Ok(response),
            Err(error) => Err(error)
                .context("PID 1 answered something this version of `aios` does not know (reboot after an update?)"),
        })
    }
}
