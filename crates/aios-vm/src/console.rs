//! The guest's serial console: read from QEMU's log of it, written through its socket.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::process::connect_socket;

/// What init says once, when every unit is Ready.
pub const ALL_READY: &str = "aios-init: all units Ready";
/// The first line from the initial RAM file system.
pub const STAGE_1: &str = "aios-init: stage 1";
/// The first line of PID 1 on the root file system.
pub const PID_1: &str = "aios-init: PID 1 ";
/// The last line before the machine ends.
pub const POWER_OFF: &str = "aios-init: power off now";
const PANIC: &str = "Kernel panic";

/// How often the log is looked at; this bounds the error of a measured time.
pub const POLL: Duration = Duration::from_millis(5);

/// A growing console log.
#[derive(Debug)]
pub struct ConsoleLog {
    path: PathBuf,
    /// Bytes of the log that were read.
    offset: u64,
    /// Lines read, without terminal control sequences; the last one may be incomplete.
    lines: Vec<String>,
    partial: Vec<u8>,
    /// The first line that a search looks at.
    cursor: usize,
}

impl ConsoleLog {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        ConsoleLog { path: path.into(), offset: 0, lines: Vec::new(), partial: Vec::new(), cursor: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what has come since. A log that is not there yet is empty.
    pub fn refresh(&mut self) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() <= self.offset {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut new = Vec::new();
        self.offset += file.read_to_end(&mut new)? as u64;
        for byte in new {
            if byte == b'\n' {
                self.lines.push(clean(&self.partial));
                self.partial.clear();
            } else {
                self.partial.push(byte);
            }
        }
        Ok(())
    }

    /// The first line from the cursor on that contains `text`.
    pub fn find(&self, text: &str) -> Option<String> {
        self.lines[self.cursor..].iter().find(|line| line.contains(text)).cloned()
    }

    /// The first line from the cursor on that tells of a kernel panic.
    pub fn find_panic(&self) -> Option<String> {
        self.find(PANIC)
    }

    /// The first line from the cursor on in which init gives a unit up.
    pub fn find_failed_unit(&self) -> Option<String> {
        let failed = |line: &&String| line.contains("aios-init: unit ") && line.contains(": Failed");
        self.lines[self.cursor..].iter().find(failed).cloned()
    }

    /// Later searches look only at lines that are still to come.
    pub fn skip_seen(&mut self) {
        self.cursor = self.lines.len();
    }

    /// The last non-empty line, complete or not.
    pub fn last_line(&self) -> String {
        let partial = clean(&self.partial);
        if !partial.trim().is_empty() {
            return partial;
        }
        self.lines.iter().rev().find(|line| !line.trim().is_empty()).cloned().unwrap_or_default()
    }

    /// The last `count` non-empty lines.
    pub fn tail(&self, count: usize) -> String {
        let partial = clean(&self.partial);
        let mut last: Vec<&str> = self.lines.iter().map(String::as_str).chain([partial.as_str()]).collect();
        last.retain(|line| !line.trim().is_empty());
        last[last.len().saturating_sub(count)..].join("\n")
    }

    /// Everything, from the first line on.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.lines.join("\n"), clean(&self.partial))
    }
}

/// A held connection to the console's socket. What the guest prints there is drained, so that it never blocks the guest;
/// the log has it.
#[derive(Debug)]
pub struct ConsoleInput {
    stream: UnixStream,
}

impl ConsoleInput {
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = connect_socket(socket)?;
        let mut drain = stream.try_clone()?;
        std::thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
        Ok(ConsoleInput { stream })
    }

    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())
    }
}

/// Seconds since the kernel's start that init stamped onto a line: `[   3.217] aios-init: ...`. The firmware's last text may
/// stand before it, because it does not always end its line.
pub fn stamp(line: &str) -> Option<Duration> {
    let (before, _) = line.split_once("] aios-init: ")?;
    let (_, stamp) = before.rsplit_once('[')?;
    Duration::try_from_secs_f64(stamp.trim().parse().ok()?).ok()
}

/// Text without ANSI control sequences and other control characters.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                // A control sequence is `ESC [`, parameters, and one final letter or sign; other escapes are one sign long.
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => clean.push(' '),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> (tempfile::TempDir, ConsoleLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, text).unwrap();
        let mut log = ConsoleLog::new(path);
        log.refresh().unwrap();
        (dir, log)
    }

    #[test]
    fn a_marker_is_found_once_its_line_is_complete() {
        let (_dir, mut log) = log("[   1.500] aios-init: stage 1\r\n[   2.000] aios-init: all units Re");
        assert!(log.find(STAGE_1).is_some());
        assert!(log.find(ALL_READY).is_none());
        let mut file = File::options().append(true).open(log.path()).unwrap();
        file.write_all(b"ady (3 units, 2.0 s since kernel start)\r\n").unwrap();
        log.refresh().unwrap();
        assert!(log.find(ALL_READY).unwrap().ends_with("kernel start)"));
    }

    #[test]
    fn after_skip_seen_only_new_lines_count() {
        let (_dir, mut log) = log("aios-init: all units Ready\n");
        log.skip_seen();
        assert!(log.find(ALL_READY).is_none());
    }

    #[test]
    fn terminal_control_sequences_are_no_text() {
        let (_dir, log) = log("\x1b[2J\x1b[01;01H\x1bcSea\x1b[1mBIOS\x1b[0m\r\n\n\x07");
        assert_eq!(log.last_line(), "SeaBIOS");
    }

    #[test]
    fn a_failed_unit_and_a_panic_are_recognised() {
        let (_dir, log) =
            log("[ 1.0] aios-init: unit runtime: Failed (start): exit 1\n[ 2.0] Kernel panic - not syncing\n");
        assert!(log.find_failed_unit().unwrap().contains("runtime"));
        assert!(log.find_panic().is_some());
    }

    #[test]
    fn the_tail_has_no_empty_lines() {
        let (_dir, log) = log("one\n\n \ntwo\nthree");
        assert_eq!(log.tail(2), "two\nthree");
    }

    #[test]
    fn the_kernels_clock_is_read_off_a_line() {
        assert_eq!(stamp("[   3.250] aios-init: stage 1"), Some(Duration::from_millis(3250)));
        assert_eq!(stamp("Booting from ROM..[   2.004] aios-init: stage 1"), Some(Duration::from_millis(2004)));
        assert_eq!(stamp("SeaBIOS [1]"), None);
    }
}
