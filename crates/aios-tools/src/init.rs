//! Client of PID 1's control socket.

#[cfg(test)]
pub mod fake;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use aios_core::{
    control::{LogLine, Request, Response, SystemStatus, UnitStatus},
    paths,
};

use crate::{
    args::UnitName,
    error::{Code, ToolError},
    host::Host,
};

/// Longest answer, in bytes: more than a full log of a unit in JSON.
const ANSWER_MAX: u64 = 16 << 20;
/// PID 1 answers at once what it knows.
const PATIENCE: Duration = Duration::from_secs(5);

/// State of the system with all its units.
pub fn status(host: &Host) -> Result<SystemStatus, ToolError> {
    match ask(host, &Request::Status { unit: None }, PATIENCE)? {
        Response::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

/// State of one unit; [`Code::NotFound`] where there is none of that name.
pub fn unit(host: &Host, name: &UnitName) -> Result<UnitStatus, ToolError> {
    status(host)?
        .units
        .into_iter()
        .find(|unit| unit.name == name.as_str())
        .ok_or_else(|| ToolError::new(Code::NotFound, format!("there is no unit {name}; service.list lists the units")))
}

/// Has PID 1 do something, and waits for it, `patience` at most.
pub fn order(host: &Host, request: &Request, patience: Duration) -> Result<(), ToolError> {
    match ask(host, request, patience)? {
        Response::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// The last `lines` lines that a unit wrote.
pub fn log(host: &Host, unit: &UnitName, lines: usize) -> Result<Vec<LogLine>, ToolError> {
    let request = Request::Log { unit: unit.to_string(), follow: false, lines: Some(lines) };
    let mut answers = send(host, &request, PATIENCE)?;
    let mut found = Vec::new();
    while let Some(answer) = answers.next()? {
        match answer {
            Response::Log(line) => found.push(line),
            Response::Error { message } => return Err(ToolError::new(Code::Failed, message)),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(found)
}

fn ask(host: &Host, request: &Request, patience: Duration) -> Result<Response, ToolError> {
    match send(host, request, patience)?.next()? {
        Some(Response::Error { message }) => Err(ToolError::new(Code::Failed, message)),
        Some(answer) => Ok(answer),
        None => Err(ToolError::new(Code::Unavailable, "PID 1 closed the connection without an answer")),
    }
}

/// Answers that come one by one.
struct Answers {
    reader: BufReader<io::Take<UnixStream>>,
    patience: Duration,
}

fn send(host: &Host, request: &Request, patience: Duration) -> Result<Answers, ToolError> {
    let failed = |error: io::Error| ToolError::of_io(format_args!("PID 1 ({})", paths::INIT_SOCKET), &error);
    let mut stream = UnixStream::connect(host.path(paths::INIT_SOCKET)).map_err(|error| {
        let text = format!("PID 1 can't be reached at {}: {error}", paths::INIT_SOCKET);
        ToolError::new(Code::Unavailable, text)
    })?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut line = serde_json::to_string(request).expect("invariant: a request is JSON");
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    Ok(Answers { reader: BufReader::new(stream.take(ANSWER_MAX)), patience })
}

impl Answers {
    fn next(&mut self) -> Result<Option<Response>, ToolError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).map_err(|error| {
                let text = format!("PID 1 answered what this version does not know ({error}); reboot after an update");
                ToolError::new(Code::Failed, text)
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let text =
                    format!("no answer of PID 1 within {:?}; it goes on, service.status tells how far", self.patience);
                Err(ToolError::new(Code::TimedOut, text))
            }
            Err(error) => Err(ToolError::of_io("the connection to PID 1", &error)),
        }
    }
}

fn unexpected(answer: &Response) -> ToolError {
    ToolError::new(Code::Failed, format!("PID 1 answered something else than was asked: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::{fake::FakeInit, *};

    fn name(name: &str) -> UnitName {
        name.to_owned().try_into().expect("name")
    }

    #[test]
    fn units_are_told_apart() {
        let init = FakeInit::start(&["a", "b"]);
        assert_eq!(unit(&init.host(), &name("b")).expect("unit").name, "b");
        assert_eq!(unit(&init.host(), &name("c")).map_err(|error| error.code), Err(Code::NotFound));
    }

    #[test]
    fn a_log_has_as_many_lines_as_asked_for() {
        let init = FakeInit::start(&["a"]);
        let texts = |lines| -> Vec<String> {
            log(&init.host(), &name("a"), lines).expect("log").into_iter().map(|line| line.text).collect()
        };
        assert_eq!(texts(2), ["line 8", "line 9"]);
        assert_eq!(texts(0), [""; 0]);
        assert_eq!(log(&init.host(), &name("c"), 1).map_err(|error| error.code), Err(Code::Failed));
    }

    #[test]
    fn without_pid_1_the_failure_says_so() {
        let nobody = Host::below(tempfile::tempdir().expect("tempdir").path());
        assert_eq!(status(&nobody).map_err(|error| error.code), Err(Code::Unavailable));
    }
}
