//! How a wait is shown: one line rewritten on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    time::{Duration, Instant},
};

/// A wait in progress.
pub struct Progress {
    started: Instant,
    on_terminal: bool,
    last_shown: Option<Instant>,
}

/// A person sees movement; a log is not flooded.
const TERMINAL_STEP: Duration = Duration::from_millis(200);
const LOG_STEP: Duration = Duration::from_secs(10);

impl Progress {
    pub fn start() -> Self {
        Progress { started: Instant::now(), on_terminal: stdout().is_terminal(), last_shown: None }
    }

    /// Shows the elapsed time and the console's last line, if it is time to.
    pub fn show(&mut self, console_line: &str) {
        let step = if self.on_terminal { TERMINAL_STEP } else { LOG_STEP };
        if self.last_shown.is_some_and(|shown| shown.elapsed() < step) {
            return;
        }
        self.last_shown = Some(Instant::now());
        let line = format!("{:6.1} s  {}", self.started.elapsed().as_secs_f64(), console_line.trim());
        if self.on_terminal {
            let short: String = line.chars().take(columns().saturating_sub(1)).collect();
            print!("\r\x1b[2K{short}");
            // A terminal that is gone ends the wait by its signal.
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    }

    /// Clears the rewritten line.
    pub fn finish(self) {
        if self.on_terminal {
            print!("\r\x1b[2K");
            let _ = stdout().flush();
        }
    }
}

fn columns() -> usize {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}
