//! QEMU's machine protocol: lines of JSON on a Unix socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{QmpError, process::connect_socket};

/// An open control connection. QEMU serves one at a time, so connections are short.
pub struct Qmp {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

/// QEMU answers at once; this covers a host that is busy.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

impl Qmp {
    /// Connects, waiting for a QEMU that is still opening its socket.
    pub fn connect_to_starting(path: &Path) -> Result<Self, QmpError> {
        let started = Instant::now();
        loop {
            match connect_socket(path) {
                Ok(stream) => return Self::greet(path, stream),
                Err(source) if started.elapsed() >= PATIENCE => return Err(io_error(path)(source)),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// Connects to a QEMU that runs.
    pub fn connect(path: &Path) -> Result<Self, QmpError> {
        Self::greet(path, connect_socket(path).map_err(io_error(path))?)
    }

    fn greet(path: &Path, stream: UnixStream) -> Result<Self, QmpError> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(io_error(path))?;
        let mut qmp = Qmp { path: path.into(), reader: BufReader::new(stream) };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Malformed { path: path.into(), line: greeting.to_string() });
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Performs a command without arguments and returns its result.
    pub fn execute(&mut self, command: &str) -> Result<Value, QmpError> {
        self.execute_with(command, json!({}))
    }

    pub fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let request = json!({ "execute": command, "arguments": arguments });
        // A wait for an event may have left less.
        self.reader.get_ref().set_read_timeout(Some(PATIENCE)).map_err(io_error(&self.path))?;
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(io_error(&self.path))?;
        loop {
            let mut answer = self.read()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason given").to_owned();
                return Err(QmpError::Refused { command: command.into(), reason });
            }
            // Anything else is an event, and what is waited for is asked for before it comes.
        }
    }

    /// Waits for the next event of this name: its data. QEMU tells events only to who is connected when they happen.
    pub fn wait_event(&mut self, name: &str, patience: Duration) -> Result<Value, QmpError> {
        let asked = Instant::now();
        while let Some(left) = patience.checked_sub(asked.elapsed()).filter(|left| !left.is_zero()) {
            self.reader.get_ref().set_read_timeout(Some(left)).map_err(io_error(&self.path))?;
            let mut message = match self.read() {
                Err(QmpError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => break,
                message => message?,
            };
            if message["event"] == name {
                return Ok(message["data"].take());
            }
        }
        Err(QmpError::NoEvent { name: name.into(), after: patience })
    }

    fn read(&mut self) -> Result<Value, QmpError> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).map_err(io_error(&self.path))?;
        if read == 0 {
            return Err(io_error(&self.path)(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line).map_err(|_| QmpError::Malformed { path: self.path.clone(), line })
    }
}

/// Presses the machine's power button until `ended` says, after a wait of the time it is given, that QEMU has ended:
/// whether it did within `patience`. A guest that is still loading the button's driver does not see the first press, and
/// one that is ending does not mind a further one.
pub fn power_down(path: &Path, patience: Duration, mut ended: impl FnMut(Duration) -> bool) -> Result<bool, QmpError> {
    const PRESS_AGAIN: Duration = Duration::from_secs(2);
    let asked = Instant::now();
    while let Some(left) = patience.checked_sub(asked.elapsed()) {
        let pressed = Qmp::connect(path).and_then(|mut qmp| qmp.execute("system_powerdown"));
        if ended(left.min(PRESS_AGAIN)) {
            return Ok(true);
        }
        pressed?;
    }
    Ok(false)
}

/// Ends QEMU without the guest's knowledge.
pub fn quit(path: &Path) -> Result<(), QmpError> {
    Qmp::connect(path)?.execute("quit").map(drop)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> QmpError {
    let path = path.to_owned();
    move |source| QmpError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::{Architecture, process::Guarded};

    fn stopped_qemu(socket: &Path) -> Guarded {
        let mut command = Command::new(Architecture::X86_64.qemu());
        command.args(["-nodefaults", "-display", "none", "-accel", "tcg", "-m", "16M", "-S", "-qmp"]);
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        Guarded::spawn(command.stdin(Stdio::null())).unwrap()
    }

    #[test]
    fn a_real_qemu_answers_refuses_and_quits() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let mut qemu = stopped_qemu(&socket);
        let mut qmp = Qmp::connect_to_starting(&socket).unwrap();
        assert_eq!(qmp.execute("query-status").unwrap()["status"], "prelaunch");
        let error = qmp.wait_event("RESET", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("no RESET"), "{error}");
        let error = qmp.execute("make-coffee").unwrap_err().to_string();
        assert!(error.contains("refused make-coffee"), "{error}");
        drop(qmp);
        quit(&socket).unwrap();
        assert!(qemu.wait(Duration::from_secs(20)).unwrap().success());
    }
}
