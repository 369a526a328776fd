//! How many threads compute.
//!
//! Models share one team of threads, and candle's pools are as large. candle sizes its pools once per process, at their
//! first use, by two environment variables; it has no other setting. Setting them also spares it a look into
//! `/proc/cpuinfo` at every matrix product.

use std::sync::OnceLock;
use std::thread::available_parallelism;

use aios_kernels::{Bandwidth, Team};

/// Read by candle's own pool for quantized products and by rayon's for the others.
const VARIABLES: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

static THREADS: OnceLock<usize> = OnceLock::new();

/// The threads that compute for all models of this process, as many as [`use_threads`] said.
pub(super) fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team::new(computing_threads()))
}

/// Bytes per second that these threads read of `memory`.
pub fn read_bandwidth(memory: &Bandwidth) -> f64 {
    memory.read(team())
}

/// How many threads compute for all models of this process.
pub fn computing_threads() -> usize {
    *THREADS.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// Whether the machine has more CPUs than threads that compute.
pub fn leaves_cpus_idle() -> bool {
    available_parallelism().is_ok_and(|cpus| usize::from(cpus) > computing_threads())
}

/// Why the number of threads can't be set.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// The process runs several threads already.
    #[error("the number of inference threads can only be set while the process has one thread; it has {0}")]
    TooLate(usize),
    /// `/proc` could not be read.
    #[error("can't count the threads of this process: /proc/self/task: {0}")]
    Uncounted(std::io::Error),
}

/// Sets the number of threads for all models of this process; 0 means one for each CPU the process may use.
///
/// Call it first in `main`: it refuses once there is a second thread. Without it, candle takes one thread per physical
/// core. A variable that is already set in the environment is overwritten.
pub fn use_threads(threads: usize) -> Result<(), ThreadsError> {
    let running = std::fs::read_dir("/proc/self/task").map_err(ThreadsError::Uncounted)?.count();
    if running != 1 {
        return Err(ThreadsError::TooLate(running));
    }
    let threads = if threads == 0 { available_parallelism().map_or(1, usize::from) } else { threads };
    let _ = THREADS.set(threads);
    for variable in VARIABLES {
        // SAFETY: this is the only thread of the process, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(variable, threads.to_string()) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_fixed_once_there_is_a_second_thread() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(use_threads(1), Err(ThreadsError::TooLate(2..)))));
        });
    }
}
