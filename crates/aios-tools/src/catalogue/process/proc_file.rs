//! Files of `/proc/<pid>`. Names and command lines in them are chosen by whoever runs the process.

use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use super::pid::Pid;
use crate::{
    error::{Code, ToolError},
    host::Host,
    text::plain,
};

/// `PF_KTHREAD` (include/linux/sched.h): a thread of the kernel.
pub(super) const KERNEL_THREAD: u64 = 0x0020_0000;
/// Longest name shown, in characters. The kernel keeps 15 bytes for a program and a little more for its own threads.
const NAME_MAX: usize = 64;

/// `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stat {
    /// Id.
    pub pid: Pid,
    /// Name, without control characters.
    pub name: String,
    /// State, as a word.
    pub state: &'static str,
    /// Id of the parent; 0 for those that the kernel started, and for those whose parent is outside of what is visible.
    pub parent: i32,
    /// Time on a processor, of all its threads.
    pub cpu: Duration,
    /// Priority: -20 (first) to 19 (last).
    pub nice: i32,
    /// Threads.
    pub threads: u32,
    /// Start, in clock ticks after the kernel's.
    pub start_ticks: u64,
    /// Memory that is really there, in bytes.
    pub resident_bytes: u64,
    flags: u64,
}

impl Stat {
    /// The process `pid`'s.
    pub fn of(pid: Pid, host: &Host) -> Result<Stat, ToolError> {
        let path = format!("/proc/{pid}/stat");
        let text = host.text(&path).map_err(|error| match error.code {
            // A process that ends while its file is read gives ESRCH.
            Code::NotFound | Code::Failed => no_process(pid),
            _ => error,
        })?;
        Self::parse(&text).ok_or_else(|| ToolError::new(Code::Failed, format!("{path} is not what proc(5) describes")))
    }

    /// All processes, without those that end meanwhile.
    pub fn all(host: &Host) -> Vec<Stat> {
        pids(host).into_iter().filter_map(|pid| Stat::of(pid, host).ok()).collect()
    }

    /// `pid (name) state ppid ...`: the name may hold anything, brackets and line ends included.
    fn parse(text: &str) -> Option<Stat> {
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 3, as proc(5) does.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = number(14)?.checked_add(number(15)?)?;
        Some(Stat {
            pid: pid.parse::<i32>().ok()?.try_into().ok()?,
            name: plain(name, NAME_MAX),
            state: state_word(fields.first()?),
            parent: fields.get(1)?.parse().ok()?,
            cpu: of_ticks(ticks),
            nice: fields.get(19 - 3)?.parse().ok()?,
            threads: number(20)?.try_into().ok()?,
            start_ticks: number(22)?,
            resident_bytes: number(24)?.checked_mul(page_size() as u64)?,
            flags: number(9)?,
        })
    }

    /// Whether it is a thread of the kernel.
    pub fn is_of_kernel(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Start, in seconds after the kernel's.
    pub fn started_s(&self) -> f64 {
        of_ticks(self.start_ticks).as_secs_f64()
    }
}

/// Ids of all processes that are visible.
fn pids(host: &Host) -> Vec<Pid> {
    let ids = host.names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok()?.try_into().ok());
    let mut ids: Vec<Pid> = ids.collect();
    ids.sort();
    ids
}

/// The failure of a call about a process that is not there.
pub fn no_process(pid: Pid) -> ToolError {
    ToolError::new(Code::NotFound, format!("there is no process {pid}; process.list lists them"))
}

fn of_ticks(ticks: u64) -> Duration {
    let per_second = clock_ticks_per_second().max(1);
    Duration::from_secs(ticks / per_second) + Duration::from_secs(ticks % per_second) / per_second as u32
}

fn state_word(letter: &str) -> &'static str {
    match letter {
        "R" => "running",
        "S" => "sleeping",
        "D" => "waiting-for-disk",
        "Z" => "zombie",
        "T" => "stopped",
        "t" => "traced",
        "X" | "x" => "dead",
        "I" => "idle",
        "P" => "parked",
        _ => "unknown",
    }
}

/// The command line, word by word: at most `words_max` words of `length_max` characters. Empty for threads of the kernel.
pub fn command(pid: Pid, host: &Host, words_max: usize, length_max: usize) -> Vec<String> {
    let text = host.text(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = text.trim_end_matches('\0').split('\0').filter(|_| !text.is_empty());
    words.take(words_max).map(|word| plain(word, length_max)).collect()
}

/// `key: value` lines, as in `/proc/<pid>/status` and `/proc/<pid>/io`: the first value of a key, which no name can forge
/// because the kernel escapes line ends in `Name:`.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// A value of `/proc/<pid>/status` in bytes; the kernel gives `kB`, which are 1024.
pub fn bytes(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The user that a process acts as (`Uid:`, the effective one).
pub fn user_id(status: &str) -> Option<u32> {
    value(status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "42 (a) b) (c\n) R 7 1 1 0 -1 4194304 0 0 0 0 250 50 0 0 20 -5 3 0 1000 8192 2 184467440737095516 0";

    #[test]
    fn a_name_with_brackets_and_line_ends_hides_nothing() {
        let stat = Stat::parse(LINE).expect("stat");
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a) b) (c\u{FFFD}", "running", 7));
        assert_eq!((stat.nice, stat.threads, stat.start_ticks), (-5, 3, 1000));
        assert_eq!(stat.resident_bytes, 2 * page_size() as u64);
        assert_eq!(stat.cpu, of_ticks(300));
        assert!(!stat.is_of_kernel());
    }

    #[test]
    fn no_cut_or_changed_file_makes_the_parser_panic() {
        for end in 0..LINE.len() {
            let cut = LINE.get(..end).unwrap_or_default();
            let _ = Stat::parse(cut);
        }
        for bad in ["", "()", "x (a) R 1", "1 (a) R", &LINE.replace("250", "18446744073709551615")] {
            assert_eq!(Stat::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn values_have_their_unit() {
        let status = "Name:\ta\\nUid: 7\nUid:\t1\t2\t3\t4\nVmRSS:\t  12 kB\nVmSwap:\t12\n";
        assert_eq!(user_id(status), Some(2));
        assert_eq!(bytes(status, "VmRSS"), Some(12 << 10));
        assert_eq!(bytes(status, "VmSwap"), None);
        assert_eq!(bytes(status, "Vm"), None);
    }
}
