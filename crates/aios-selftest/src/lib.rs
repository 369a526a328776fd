//! What a device's kernel and hardware must do, tried on the device itself.
//!
//! Each check does the thing and measures it: it never reads a configuration and believes it. A check whose hardware is
//! not there is skipped and says what is missing. Nothing is written but below [`Options::data`] and to the disks that
//! [`Options::scratch`] names.

mod clock;
mod disk;
mod firmware;
mod kernel;
mod memory;
mod network;
mod power;
pub mod probe;
mod quota;
mod scheduler;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

pub use self::disk::{ScratchDisk, ScratchError};

/// What may be done.
#[derive(Debug)]
pub struct Options {
    /// Folder for files that are written and removed again.
    pub data: PathBuf,
    /// Disks that may be overwritten.
    pub scratch: Vec<ScratchDisk>,
    /// Whether the machine may be suspended for some seconds.
    pub suspend: bool,
}

/// One thing that is tried.
#[derive(Debug)]
pub struct Check {
    /// Name to ask for it.
    pub name: &'static str,
    /// What is true when it passes.
    pub about: &'static str,
    run: fn(&Options) -> Result<String, Problem>,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the check.
    pub check: &'static str,
    /// Whether it passed.
    pub result: Verdict,
    /// What was measured, what is wrong, or what is missing.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// Whether a check passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It did what it must.
    Pass,
    /// It did not.
    Fail,
    /// It can't be tried on this machine.
    Skip,
}

/// Why a check did not pass.
#[derive(Debug)]
enum Problem {
    Failed(String),
    Absent(String),
}

/// Every check, in the order in which they run.
pub const CHECKS: &[Check] = &[
    Check { name: "interrupts", about: "every processor gets interrupts", run: clock::interrupts },
    Check { name: "timers", about: "a timer of 1 ms fires within 2 ms", run: clock::timers },
    Check { name: "clocks", about: "clocks never run backwards, on no processor", run: clock::monotonic },
    Check { name: "affinity", about: "a thread runs on the processor that it is bound to", run: scheduler::affinity },
    Check { name: "deadline", about: "SCHED_DEADLINE meets its deadlines under load", run: scheduler::deadline },
    Check {
        name: "inheritance",
        about: "a lock lends its holder the priority of who waits",
        run: scheduler::inheritance,
    },
    Check { name: "memory", about: "a group over its memory limit is killed alone", run: memory::limit },
    Check { name: "quota", about: "a project over its disk quota is stopped alone", run: quota::project },
    Check { name: "disks", about: "what is written to a disk is what is read from it", run: disk::integrity },
    Check { name: "network", about: "every interface with an address reaches its gateway", run: network::gateways },
    Check { name: "acpi", about: "the firmware describes the machine", run: firmware::description },
    Check { name: "pcie", about: "devices on PCI are enumerated and have drivers", run: firmware::pci },
    Check { name: "iommu", about: "devices are behind an IOMMU", run: firmware::iommu },
    Check { name: "governor", about: "a frequency governor is in charge", run: power::governor },
    Check { name: "suspend", about: "the machine sleeps and wakes by its clock", run: power::suspend },
];

impl Check {
    /// Does it. Takes up to some seconds.
    pub fn run(&self, options: &Options) -> Report {
        let started = Instant::now();
        let (result, detail) = match (self.run)(options) {
            Ok(measured) => (Verdict::Pass, measured),
            Err(Problem::Failed(reason)) => (Verdict::Fail, reason),
            Err(Problem::Absent(reason)) => (Verdict::Skip, reason),
        };
        Report { check: self.name, result, detail, seconds: started.elapsed().as_secs_f64() }
    }
}

impl Problem {
    /// An operation that ought to work did not.
    fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Problem {
        move |error| Problem::Failed(format!("{what}: {error}"))
    }
}

fn failed<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Failed(reason.into()))
}

fn absent<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Absent(reason.into()))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_name_of_its_own() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
