//! The functions of WASI preview 1 that a plugin gets: its own arguments, input and output, clocks, randomness, and files
//! below the folders that the call hands over.
//!
//! There is none for sockets, processes and signals, and none that makes or follows a link. Whatever goes wrong that a
//! program can deal with is an error number; what ends the call is a [`Stop`].

mod abi;
mod files;
mod memory;
mod paths;
mod streams;
mod system;

use std::{fmt, time::Instant};

use wasmi::{Caller, Engine, Linker, ResourceLimiter, StoreLimits};

use self::{abi::Errno, files::Files, memory::Memory, streams::Tail};
pub(crate) use files::Folder;

/// Name of the module that the functions are imported from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What one call of a function costs, in fuel, beside what it does: a call of the system, mostly.
const CALL_COST: u64 = 200;
/// Bytes that the host copies for one unit of fuel.
const BYTES_PER_FUEL: u64 = 16;
/// What a new file or folder takes of the bytes that may be written: about what it takes on the disk.
const ENTRY_COST: u64 = 4096;

/// All that a module's functions work on.
#[derive(Debug)]
pub(crate) struct State {
    files: Files,
    arguments: Vec<Vec<u8>>,
    input: Vec<u8>,
    input_read: usize,
    output: Vec<u8>,
    output_max: u64,
    errors: Tail,
    /// Bytes that may still be written to files.
    write: u64,
    deadline: Instant,
    /// Fuel that functions used beyond what was at hand.
    debt: u64,
    memory: Option<wasmi::Memory>,
    limits: StoreLimits,
}

/// What a call may use.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Bytes of output.
    pub output: u64,
    /// Bytes written to files.
    pub write: u64,
    /// When it is ended.
    pub deadline: Instant,
}

/// What ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The module ended itself.
    Exit(u32),
    /// It wrote more output than it may.
    Output,
    /// It wrote more to files than it may.
    Write,
    /// Its time is up, or would be before what it waits for.
    Time,
}

/// Why a function did not do what it was asked for.
enum Fail {
    /// The program is told.
    Errno(Errno),
    /// The call ends.
    Stop(Stop),
}

/// A module's memory, and what its functions work on.
struct Guest<'a> {
    memory: Memory<'a>,
    state: &'a mut State,
    /// Fuel that this call costs.
    cost: u64,
}

type Done = Result<(), Fail>;

impl State {
    /// What a call with these arguments and this input works on.
    pub(crate) fn new(arguments: &[&str], input: Vec<u8>, folders: Vec<Folder>, bounds: &Bounds) -> State {
        State {
            files: Files::new(folders),
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            input,
            input_read: 0,
            output: Vec::new(),
            output_max: bounds.output,
            errors: Tail::default(),
            write: bounds.write,
            deadline: bounds.deadline,
            debt: 0,
            memory: None,
            limits: StoreLimits::default(),
        }
    }

    /// One that nothing runs with.
    pub(crate) fn idle() -> State {
        State::new(&[], Vec::new(), Vec::new(), &Bounds { output: 0, write: 0, deadline: Instant::now() })
    }

    pub(crate) fn with_limits(self, limits: StoreLimits) -> State {
        State { limits, ..self }
    }

    pub(crate) fn limits(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limits
    }

    pub(crate) fn set_memory(&mut self, memory: wasmi::Memory) {
        self.memory = Some(memory);
    }

    /// Takes the fuel that functions used beyond what was at hand.
    pub(crate) fn take_debt(&mut self) -> u64 {
        std::mem::take(&mut self.debt)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What it wrote, and the end of what it complained about.
    pub(crate) fn into_output(self) -> (Vec<u8>, String) {
        let errors = self.errors.text();
        (self.output, errors)
    }

    /// Takes `bytes` of what may be written.
    fn spend(&mut self, bytes: u64) -> Done {
        self.write = self.write.checked_sub(bytes).ok_or(Fail::Stop(Stop::Write))?;
        Ok(())
    }
}

impl Guest<'_> {
    /// Makes this call cost what copying `bytes` costs.
    fn copies(&mut self, bytes: u64) {
        self.cost = self.cost.saturating_add(bytes / BYTES_PER_FUEL);
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Exit(code) => write!(f, "ended with status {code}"),
            Stop::Output => f.write_str("too much output"),
            Stop::Write => f.write_str("too much written"),
            Stop::Time => f.write_str("out of time"),
        }
    }
}

impl wasmi::errors::HostError for Stop {}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Fail {
        Fail::Errno(errno)
    }
}

impl From<rustix::io::Errno> for Fail {
    fn from(error: rustix::io::Errno) -> Fail {
        Fail::Errno(Errno::of(error))
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Fail {
        rustix::io::Errno::from_io_error(&error).map_or(Fail::Errno(Errno::IO), Fail::from)
    }
}

/// Calls `function`, and answers the module with an error number.
fn run(mut caller: Caller<'_, State>, function: impl FnOnce(&mut Guest<'_>) -> Done) -> Result<u32, wasmi::Error> {
    let stop = |stop: Stop| Err(wasmi::Error::host(stop));
    let fuel = caller.get_fuel()?;
    if Instant::now() >= caller.data().deadline {
        return stop(Stop::Time);
    }
    let memory = caller.data().memory.expect("invariant: no code runs before the memory is known");
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let mut guest = Guest { memory: Memory::new(bytes), state, cost: CALL_COST };
    let done = function(&mut guest);
    let cost = guest.cost;
    caller.data_mut().debt += cost.saturating_sub(fuel);
    caller.set_fuel(fuel.saturating_sub(cost))?;
    match done {
        Ok(()) => Ok(Errno::SUCCESS.code()),
        Err(Fail::Errno(errno)) => Ok(errno.code()),
        Err(Fail::Stop(reason)) => stop(reason),
    }
}

/// All functions: `name(arguments) => what does it`.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) => $does:path;)*) => {
        const FUNCTIONS: &[&str] = &[$(stringify!($name)),*];

        fn define(linker: &mut Linker<State>) -> Result<(), wasmi::errors::LinkerError> {
            $(linker.func_wrap(MODULE, stringify!($name), |caller: Caller<'_, State>, $($argument: $type),*| {
                run(caller, |guest| $does(guest, $($argument),*))
            })?;)*
            Ok(())
        }
    };
}

functions! {
    args_get(pointers: u32, texts: u32) => system::args_get;
    args_sizes_get(count: u32, bytes: u32) => system::args_sizes_get;
    environ_get(pointers: u32, texts: u32) => system::environ_get;
    environ_sizes_get(count: u32, bytes: u32) => system::environ_sizes_get;
    clock_res_get(clock: u32, at: u32) => system::clock_res_get;
    clock_time_get(clock: u32, precision: u64, at: u32) => system::clock_time_get;
    random_get(at: u32, length: u32) => system::random_get;
    sched_yield() => system::sched_yield;
    poll_oneoff(subscriptions: u32, events: u32, count: u32, at: u32) => system::poll_oneoff;
    fd_read(fd: u32, vectors: u32, count: u32, at: u32) => streams::fd_read;
    fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, at: u32) => streams::fd_pread;
    fd_write(fd: u32, vectors: u32, count: u32, at: u32) => streams::fd_write;
    fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, at: u32) => streams::fd_pwrite;
    fd_seek(fd: u32, offset: i64, whence: u32, at: u32) => files::fd_seek;
    fd_tell(fd: u32, at: u32) => files::fd_tell;
    fd_close(fd: u32) => files::fd_close;
    fd_renumber(from: u32, to: u32) => files::fd_renumber;
    fd_fdstat_get(fd: u32, at: u32) => files::fd_fdstat_get;
    fd_fdstat_set_flags(fd: u32, flags: u32) => files::fd_fdstat_set_flags;
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) => files::fd_fdstat_set_rights;
    fd_filestat_get(fd: u32, at: u32) => files::fd_filestat_get;
    fd_filestat_set_size(fd: u32, size: u64) => files::fd_filestat_set_size;
    fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32) => files::fd_filestat_set_times;
    fd_sync(fd: u32) => files::fd_sync;
    fd_datasync(fd: u32) => files::fd_sync;
    fd_advise(fd: u32, offset: u64, length: u64, advice: u32) => files::fd_advise;
    fd_allocate(fd: u32, offset: u64, length: u64) => files::fd_allocate;
    fd_prestat_get(fd: u32, at: u32) => files::fd_prestat_get;
    fd_prestat_dir_name(fd: u32, at: u32, length: u32) => files::fd_prestat_dir_name;
    fd_readdir(fd: u32, at: u32, length: u32, cookie: u64, used: u32) => paths::fd_readdir;
    path_open(
        fd: u32, look: u32, path: u32, length: u32, how: u32, base: u64, inheriting: u64, flags: u32, at: u32
    ) => paths::path_open;
    path_filestat_get(fd: u32, look: u32, path: u32, length: u32, at: u32) => paths::path_filestat_get;
    path_filestat_set_times(
        fd: u32, look: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32
    ) => paths::path_filestat_set_times;
    path_create_directory(fd: u32, path: u32, length: u32) => paths::path_create_directory;
    path_remove_directory(fd: u32, path: u32, length: u32) => paths::path_remove_directory;
    path_unlink_file(fd: u32, path: u32, length: u32) => paths::path_unlink_file;
    path_rename(fd: u32, path: u32, length: u32, to: u32, new: u32, new_length: u32) => paths::path_rename;
    path_link(
        fd: u32, look: u32, path: u32, length: u32, to: u32, new: u32, new_length: u32
    ) => paths::path_link;
    path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32) => paths::path_symlink;
    path_readlink(fd: u32, path: u32, length: u32, at: u32, room: u32, used: u32) => paths::path_readlink;
}

/// The one function that does not come back.
const EXIT: &str = "proc_exit";

/// Whether a plugin gets a function of this name.
pub(crate) fn is_function(name: &str) -> bool {
    name == EXIT || FUNCTIONS.contains(&name)
}

/// A linker with all functions.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>, wasmi::errors::LinkerError> {
    let mut linker = Linker::new(engine);
    define(&mut linker)?;
    linker.func_wrap(MODULE, EXIT, |_: Caller<'_, State>, code: u32| -> Result<(), wasmi::Error> {
        Err(wasmi::Error::host(Stop::Exit(code)))
    })?;
    Ok(linker)
}
