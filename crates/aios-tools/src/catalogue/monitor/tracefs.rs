//! Counting the kernel's trace events, each in a trace instance of its own, without eBPF.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    error::{Code, ToolError},
    host::Host,
};

/// Where PID 1, or the kernel at the first access, mounts tracefs.
pub const FOLDER: &str = "/sys/kernel/tracing";
/// Trace instances.
pub const INSTANCES: &str = "/sys/kernel/tracing/instances";
/// Names of our instances begin so.
const PREFIX: &str = "aios-";
/// Ring buffer of a processor: events are only counted, so that what is overwritten is no loss.
const BUFFER_KIB: &str = "16";

/// The right to trace: one call at a time.
#[derive(Debug)]
pub struct Tracing<'a> {
    host: &'a Host,
    /// Locked as long as it is open.
    _lock: File,
}

/// A trace instance that counts one event, removed at the end.
#[derive(Debug)]
pub struct Counter {
    folder: PathBuf,
    switch: PathBuf,
}

impl<'a> Tracing<'a> {
    /// Takes the right to trace, and removes what a call that was ended has left behind.
    pub fn begin(host: &'a Host) -> Result<Self, ToolError> {
        let lock = File::open(host.path(INSTANCES)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ToolError::new(
                Code::Unsupported,
                format!("{INSTANCES} does not exist: tracefs is not mounted at {FOLDER}, or the kernel has no tracing (CONFIG_FTRACE)"),
            ),
            _ => refused(INSTANCES, &error),
        })?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => {
                ToolError::new(Code::FailedPrecondition, "another call is tracing; try again when it has ended")
            }
            errno => refused(INSTANCES, &errno.into()),
        })?;
        for name in host.names(INSTANCES).into_iter().filter(|name| name.starts_with(PREFIX)) {
            let _ = fs::remove_dir(host.path(format!("{INSTANCES}/{name}")));
        }
        Ok(Tracing { host, _lock: lock })
    }

    /// Makes a counter of `event`, for example `sched/sched_switch`, that does not count yet; `number` tells it from others.
    pub fn counter(&self, event: &str, number: usize) -> Result<Counter, ToolError> {
        let folder = self.host.path(format!("{INSTANCES}/{PREFIX}{number}"));
        fs::create_dir(&folder).map_err(|error| refused(INSTANCES, &error))?;
        let counter = Counter { switch: folder.join("events").join(event).join("enable"), folder };
        if !counter.switch.exists() {
            let text = format!("the kernel has no trace event {event}; {FOLDER}/available_events lists them");
            return Err(ToolError::new(Code::NotFound, text));
        }
        put(&counter.folder.join("buffer_size_kb"), BUFFER_KIB).map_err(|error| refused("buffer_size_kb", &error))?;
        Ok(counter)
    }
}

impl Counter {
    /// Begins or ends counting.
    pub fn switch(&self, on: bool) -> Result<(), ToolError> {
        put(&self.switch, if on { "1" } else { "0" }).map_err(|error| refused(self.switch.display(), &error))
    }

    /// Events so far, on all processors.
    pub fn read(&self) -> Result<u64, ToolError> {
        let folder = self.folder.join("per_cpu");
        let failed = |error: io::Error| ToolError::io(&folder, &error);
        let mut sum: u64 = 0;
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let text = fs::read_to_string(entry.map_err(failed)?.path().join("stats")).map_err(failed)?;
            sum = sum.saturating_add(events(&text));
        }
        Ok(sum)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // An instance is a folder that the kernel fills: rmdir(2) takes it away as a whole, and ends its events.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn put(path: &std::path::Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

fn refused(what: impl std::fmt::Display, error: &io::Error) -> ToolError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let text = format!("{what}: {error}: the kernel (lockdown) or the sandbox does not let this be traced");
        return ToolError::new(Code::PermissionDenied, text);
    }
    ToolError::of_io(what, error)
}

/// `per_cpu/cpuN/stats`: `entries: 5`, `overrun: 6` and others. What is kept, overwritten or dropped has happened.
fn events(stats: &str) -> u64 {
    let field = |key: &str| -> u64 {
        let value = stats.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    };
    ["entries", "overrun", "commit overrun", "dropped events"].into_iter().map(field).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn what_was_overwritten_counts_too() {
        let stats = "entries: 5\noverrun: 60\ncommit overrun: 1\nbytes: 700\noldest event ts: 1.2\nnow ts: 3.4\ndropped events: 3\nread events: 0\n";
        assert_eq!((events(stats), events(""), events("entries: many\n")), (69, 0, 0));
    }

    #[test]
    fn a_counter_adds_up_the_processors() {
        let system = FakeInit::start(&[]);
        let folder = system.host().path(format!("{INSTANCES}/aios-0"));
        for cpu in ["cpu0", "cpu1"] {
            system.file(&format!("{INSTANCES}/aios-0/per_cpu/{cpu}/stats"), "entries: 4\n");
        }
        let counter = Counter { switch: folder.join("enable"), folder };
        assert_eq!(counter.read(), Ok(8));
        assert_eq!(counter.switch(true).map_err(|error| error.code), Err(Code::NotFound));
    }

    #[test]
    fn what_another_call_left_is_removed_and_two_do_not_trace_at_once() {
        let system = FakeInit::start(&[]);
        for name in ["aios-0", "other"] {
            fs::create_dir_all(system.host().path(format!("{INSTANCES}/{name}"))).expect("create");
        }
        let host = system.host();
        let tracing = Tracing::begin(&host).expect("tracing");
        assert_eq!(host.names(INSTANCES), ["other"]);
        assert_eq!(Tracing::begin(&host).map_err(|error| error.code).err(), Some(Code::FailedPrecondition));
        assert_eq!(tracing.counter("sched/none", 1).map_err(|error| error.code).err(), Some(Code::NotFound));
        assert_eq!(host.names(INSTANCES), ["other"]);
    }

    #[test]
    fn a_kernel_without_tracing_says_so() {
        let failure = Tracing::begin(&Host::below("/nonexistent")).map(|_| ()).expect_err("no tracefs");
        assert_eq!(failure.code, Code::Unsupported);
    }
}
