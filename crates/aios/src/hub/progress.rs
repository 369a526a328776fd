//! How far a download is: one line that changes on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use aios_models::store::size_text;

/// Between two states of the line.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// Between two lines of a log.
const IN_LOG: Duration = Duration::from_secs(10);

/// Tells how far a download is, on standard error.
pub struct Progress {
    name: String,
    terminal: bool,
    total: u64,
    first: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// For the download of `name`.
    pub fn new(name: &str) -> Progress {
        let now = Instant::now();
        Progress {
            name: name.to_owned(),
            terminal: io::stderr().is_terminal(),
            total: 0,
            first: 0,
            started: now,
            told: now,
        }
    }

    /// It begins, with `present` of `total` bytes there already.
    pub(super) fn begin(&mut self, present: u64, total: u64) {
        let now = Instant::now();
        (self.total, self.first, self.started, self.told) = (total, present, now, now);
        match present {
            0 => eprintln!("{}: {}", self.name, size_text(total)),
            _ => eprintln!("{}: {}, going on after {}", self.name, size_text(total), size_text(present)),
        }
    }

    /// So many bytes are there.
    pub(super) fn advance(&mut self, position: u64) {
        let pause = if self.terminal { ON_TERMINAL } else { IN_LOG };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = line(&self.name, self.first, position, self.total, self.started.elapsed());
        if self.terminal {
            // Erases what an earlier, longer line left.
            eprint!("\r{line}\u{1b}[K");
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// Something else is to be said.
    pub(super) fn interrupt(&mut self) {
        if self.terminal {
            eprintln!();
        }
    }

    /// All of it is there.
    pub(super) fn end(&mut self) {
        let line = line(&self.name, self.first, self.total, self.total, self.started.elapsed());
        match self.terminal {
            true => eprintln!("\r{line}\u{1b}[K"),
            false => eprintln!("{line}"),
        }
    }
}

fn line(name: &str, first: u64, position: u64, total: u64, elapsed: Duration) -> String {
    let percent = position * 100 / total.max(1);
    let speed = position.saturating_sub(first) as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (total - position) as f64 / speed.max(1.0);
    let rest = if position == total { String::new() } else { format!(", {left:.0} s left") };
    format!("{name}: {percent:3} %  {} of {}  {:.1} MB/s{rest}", size_text(position), size_text(total), speed / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_speed_from_where_this_attempt_began() {
        let text = line("a.gguf", 50_000_000, 75_000_000, 100_000_000, Duration::from_secs(5));
        assert_eq!(text, "a.gguf:  75 %  75.0 MB of 100.0 MB  5.0 MB/s, 5 s left");
        assert_eq!(line("a", 0, 0, 0, Duration::ZERO), "a:   0 %  0.0 kB of 0.0 kB  0.0 MB/s");
    }
}
