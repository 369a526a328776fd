//! Errors: one enum for starting a machine, one for waiting on it, one for its control socket.

use std::{fmt, io, path::PathBuf, process::ExitStatus, time::Duration};

use crate::Architecture;

/// A machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{program} is not installed: apt-get install {package}")]
    MissingProgram { program: &'static str, package: &'static str },
    #[error("no UEFI firmware for {architecture} found (looked for {looked}): apt-get install {package}")]
    MissingFirmware { architecture: Architecture, looked: String, package: &'static str },
    #[error("{architecture} machines start by UEFI only: boot with FIRMWARE=uefi")]
    NoBios { architecture: Architecture },
    #[error("board {board} does not start {asked}: {instead}")]
    Unsuited { board: String, asked: &'static str, instead: &'static str },
    #[error("the card {image} does not start: {reason}")]
    Card { image: PathBuf, reason: String },
    #[error("{path} is not there: build it with `make aios_{board}_defconfig && make`")]
    MissingImage { path: PathBuf, board: String },
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("{program} failed ({status}) to {doing}: {stderr}")]
    Program { program: &'static str, doing: String, status: ExitStatus, stderr: String },
    #[error("port {port} of 127.0.0.1, asked for by {variable}, is taken: choose another, or leave {variable} unset")]
    PortTaken { port: u16, variable: &'static str },
    #[error("{variable}={value}: {reason}")]
    BadVariable { variable: &'static str, value: String, reason: String },
    #[error("a machine is already running (process {pid}): stop it with `make down`")]
    AlreadyRunning { pid: u32 },
    #[error("another aios-vm is starting a machine in {path}: wait for it")]
    Locked { path: PathBuf },
    #[error("qemu ended at once ({status}): {stderr}")]
    EndedAtOnce { status: ExitStatus, stderr: String },
}

impl StartError {
    /// Wraps an I/O error with what was being done, for use in `map_err`.
    pub fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
        move |source| StartError::Io { doing: doing.to_string(), source }
    }
}

/// A machine did not do what was waited for. Each message ends with the last lines of its console.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("\"{marker}\" was not on the console within {} s; the console ends:\n{tail}", .after.as_secs())]
    Timeout { marker: String, after: Duration, tail: String },
    #[error(
        "qemu ended ({status}) before \"{marker}\" was on the console; qemu said: {stderr}; the console ends:\n{tail}"
    )]
    Ended { marker: String, status: ExitStatus, stderr: String, tail: String },
    #[error("the kernel panicked before \"{marker}\" was on the console; the console ends:\n{tail}")]
    Panicked { marker: String, tail: String },
    #[error("a unit failed before the machine was ready: {line}; the console ends:\n{tail}")]
    UnitFailed { line: String, tail: String },
    #[error("qemu still runs {} s after it was asked to power off; the console ends:\n{tail}", .after.as_secs())]
    StillRunning { after: Duration, tail: String },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot read the console log {path}: {source}")]
    Log { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

/// QEMU's control socket did not obey.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    #[error("cannot talk to qemu on {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("qemu refused {command}: {reason}")]
    Refused { command: String, reason: String },
    #[error("qemu's answer on {path} is not QMP: {line}")]
    Malformed { path: PathBuf, line: String },
    #[error("qemu told of no {name} within {} s", .after.as_secs_f64())]
    NoEvent { name: String, after: Duration },
}
