//! The console: one line per event, stamped with the seconds since the kernel started.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

const CONSOLE: &str = "/dev/console";

/// A console that takes no bytes for this long loses the rest of the line: PID 1 must not hang on a serial line.
const PATIENCE: Duration = Duration::from_millis(200);

/// After such a loss nothing is waited for during this time, so that a stuck console and a talkative unit together do not
/// hold PID 1.
const DISTRUST: Duration = Duration::from_secs(10);

/// A pipe that reports room takes so many bytes without blocking (`PIPE_BUF`).
const CHUNK_BYTES: usize = 4096;

static TO_STDOUT: AtomicBool = AtomicBool::new(false);

/// Milliseconds since the kernel started, until which the console is not waited for.
static DISTRUSTED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// In a container the console is whatever PID 1 was started with.
pub fn use_stdout() {
    TO_STDOUT.store(true, Ordering::Relaxed);
}

/// Time since the kernel started, suspended time included (`CLOCK_BOOTTIME`).
pub fn since_kernel_start() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Prints `[ssss.mmm] aios-init: <text>`; nothing is reported when the console cannot be written.
pub fn say(text: impl Display) {
    write_line(&format!("aios-init: {text}"));
}

/// Prints a stamped line without init's own name, for mirrored unit output.
pub fn write_line(text: &str) {
    let line = format!("[{:8.3}] {text}\n", since_kernel_start().as_secs_f64());
    if TO_STDOUT.load(Ordering::Relaxed) {
        write_patiently(&mut std::io::stdout().lock(), line.as_bytes());
        return;
    }
    let opened =
        OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC).open(CONSOLE);
    if let Ok(mut console) = opened {
        write_patiently(&mut console, line.as_bytes());
    }
}

fn write_patiently<W: Write + AsFd>(out: &mut W, mut bytes: &[u8]) {
    let trusted = milliseconds(since_kernel_start()) >= DISTRUSTED_UNTIL.load(Ordering::Relaxed);
    let deadline = Instant::now() + if trusted { PATIENCE } else { Duration::ZERO };
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return };
        let writable = poll(&mut [PollFd::new(&*out, PollFlags::OUT)], Some(&timeout));
        if !matches!(writable, Ok(1..)) {
            DISTRUSTED_UNTIL.store(milliseconds(since_kernel_start() + DISTRUST), Ordering::Relaxed);
            return;
        }
        match out.write(&bytes[..bytes.len().min(CHUNK_BYTES)]) {
            Ok(0) | Err(_) => return,
            Ok(written) => bytes = &bytes[written..],
        }
    }
    let _ = out.flush();
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
