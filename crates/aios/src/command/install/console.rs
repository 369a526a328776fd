//! What an installation says, and where: to whoever typed the command, or also to the console of the machine.

use std::{
    fmt::Display,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    time::{Duration, Instant},
};

use rustix::{fs::OFlags, time::ClockId};

use crate::install::{Progress, Step};

const CONSOLE: &str = "/dev/console";

/// How often progress is said.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// Says what happens.
pub struct Console {
    machine: Option<File>,
    began: Instant,
    said: Instant,
    step: Option<Step>,
}

impl Console {
    /// Speaks to standard output alone.
    pub fn terminal() -> Self {
        let now = Instant::now();
        Console { machine: None, began: now, said: now, step: None }
    }

    /// Speaks to the machine's console, too; the lines look like those of PID 1.
    pub fn machine() -> Self {
        // A console that takes nothing must not hold up the installation.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32;
        let machine = OpenOptions::new().write(true).custom_flags(flags).open(CONSOLE).ok();
        Console { machine, ..Console::terminal() }
    }

    /// Says a line. Nobody may be listening, and that is all right.
    pub fn say(&mut self, text: impl Display) {
        let _ = writeln!(std::io::stdout(), "{text}");
        if let Some(console) = &mut self.machine {
            let now = rustix::time::clock_gettime(ClockId::Boottime);
            let seconds = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
            let _ = console.write_all(format!("[{seconds:8.3}] aios-install: {text}\n").as_bytes());
        }
    }
}

impl Progress for Console {
    fn at(&mut self, step: Step, partition: &str, done: u64, total: u64) {
        if self.step != Some(step) {
            self.step = Some(step);
            self.began = Instant::now();
            self.said = self.began;
        }
        if done == total || self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.say(line(step, partition, done, total, self.began.elapsed()));
        }
    }
}

fn line(step: Step, partition: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let verb = match step {
        Step::Writing => "writing",
        Step::Checking => "reading back",
    };
    let percent = done.saturating_mul(100) / total.max(1);
    let speed = done as f64 / 1e6 / elapsed.as_secs_f64().max(0.001);
    format!("{verb}: {percent} % of {:.0} MB, {speed:.1} MB/s ({partition})", total as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_in_percent_and_megabytes_a_second() {
        let text = line(Step::Writing, "root-a", 40_000_000, 160_000_000, Duration::from_secs(4));
        assert_eq!(text, "writing: 25 % of 160 MB, 10.0 MB/s (root-a)");
        let text = line(Step::Checking, "models", 5, 5, Duration::ZERO);
        assert!(text.starts_with("reading back: 100 % of 0 MB, "), "{text}");
    }
}
