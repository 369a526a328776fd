//! How a call ended.

use std::time::Duration;

/// How a call ended, and what it left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// The handler's result, whole when [`Exit::Returned`], otherwise empty.
    pub output: Vec<u8>,
    /// The last of what it wrote to standard output and error, at most [`STDERR_TAIL`] bytes. It comes from inside:
    /// treat it as tainted.
    pub stderr: String,
    /// What it used.
    pub usage: Usage,
}

/// Bytes kept of what a call wrote to standard output and error.
pub const STDERR_TAIL: usize = 16 << 10;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The handler returned, and its result is whole.
    Returned,
    /// The process ended itself with this code; 101 is a panic.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It ran longer than it was given, and was ended with all its processes.
    TimedOut,
    /// It needed more memory than it was given, and was ended with all its processes.
    OutOfMemory,
    /// It used more processor time than it was given.
    OutOfCpuTime,
    /// Its result was larger than allowed, and it was ended with all its processes.
    OutputTooLarge,
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of all its processes on processors.
    pub cpu: Duration,
    /// Most memory that it held at once, in bytes.
    pub memory_peak: u64,
    /// From the request to the end, confinement included.
    pub wall: Duration,
}
