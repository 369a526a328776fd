//! `/proc/stat`: what the processors have done since boot.

use crate::{
    error::{Code, ToolError},
    host::Host,
};

pub const PATH: &str = "/proc/stat";

/// Counters since boot.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcStat {
    /// All processors together.
    pub total: Times,
    /// Each processor that is on, with its number.
    pub processors: Vec<(u32, Times)>,
    /// Changes from one thread to another.
    pub context_switches: u64,
    /// Processes and threads that were started.
    pub forks: u64,
    /// Threads that run or could.
    pub running: u64,
    /// Threads that wait for a device.
    pub blocked: u64,
}

/// Where processor time went, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    pub user: u64,
    pub system: u64,
    pub idle: u64,
    /// Idle while something waited for a device.
    pub waiting: u64,
    /// For the kernel's interrupts.
    pub interrupts: u64,
    /// Taken by the machine that this one runs in.
    pub stolen: u64,
}

impl ProcStat {
    /// The counters now.
    pub fn now(host: &Host) -> Result<ProcStat, ToolError> {
        Self::parse(&host.text(PATH)?)
            .ok_or_else(|| ToolError::new(Code::Failed, format!("{PATH} is not what proc(5) describes")))
    }

    fn parse(text: &str) -> Option<ProcStat> {
        let mut stat = ProcStat {
            total: Times::default(),
            processors: Vec::new(),
            context_switches: 0,
            forks: 0,
            running: 0,
            blocked: 0,
        };
        let mut has_total = false;
        for line in text.lines() {
            let Some((key, values)) = line.split_once(' ') else { continue };
            match key {
                "cpu" => {
                    stat.total = Times::parse(values)?;
                    has_total = true;
                }
                "ctxt" => stat.context_switches = values.parse().ok()?,
                "processes" => stat.forks = values.parse().ok()?,
                "procs_running" => stat.running = values.parse().ok()?,
                "procs_blocked" => stat.blocked = values.parse().ok()?,
                _ => {
                    if let Some(number) = key.strip_prefix("cpu") {
                        stat.processors.push((number.parse().ok()?, Times::parse(values)?));
                    }
                }
            }
        }
        has_total.then_some(stat)
    }
}

impl Times {
    fn parse(values: &str) -> Option<Times> {
        let values: Vec<u64> = values.split_ascii_whitespace().map_while(|value| value.parse().ok()).collect();
        let at = |index: usize| values.get(index).copied();
        Some(Times {
            // The kernel counts a guest's time as the user's too.
            user: at(0)?.saturating_add(at(1)?),
            system: at(2)?,
            idle: at(3)?,
            waiting: at(4).unwrap_or_default(),
            interrupts: at(5).unwrap_or_default().saturating_add(at(6).unwrap_or_default()),
            stolen: at(7).unwrap_or_default(),
        })
    }

    /// What was added since `before`. The kernel's idle counters can go back by a little.
    pub fn since(self, before: Times) -> Times {
        Times {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            waiting: self.waiting.saturating_sub(before.waiting),
            interrupts: self.interrupts.saturating_sub(before.interrupts),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    /// All of it.
    pub fn total(self) -> u64 {
        [self.user, self.system, self.idle, self.waiting, self.interrupts, self.stolen]
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// `part` of this in percent; 0 of nothing.
    pub fn percent(self, part: u64) -> f64 {
        crate::text::tenths(part as f64 * 100.0 / self.total().max(1) as f64)
    }

    /// What was neither idle nor waiting, in percent.
    pub fn busy_percent(self) -> f64 {
        self.percent(self.total().saturating_sub(self.idle.saturating_add(self.waiting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "cpu  10 5 20 60 5 1 1 3 9 0\ncpu0 10 5 20 60 5 1 1 3 9 0\ncpu3 0 0 0 0\nintr 5 1 2\nctxt 77\nbtime 9\nprocesses 8\nprocs_running 2\nprocs_blocked 1\nsoftirq 1 2\n";

    #[test]
    fn counters_are_read_by_their_names() {
        let stat = ProcStat::parse(TEXT).expect("stat");
        let total = Times { user: 15, system: 20, idle: 60, waiting: 5, interrupts: 2, stolen: 3 };
        assert_eq!((stat.total, stat.processors.len(), stat.processors[1].0), (total, 2, 3));
        assert_eq!((stat.context_switches, stat.forks, stat.running, stat.blocked), (77, 8, 2, 1));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for damaged in ["", "ctxt 1\n", "cpu 1 2 3\n", "cpu  1 2 3 4\ncpux 1 2 3 4\n", "cpu  1 2 3 4\nctxt many\n"] {
            assert_eq!(ProcStat::parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn shares_add_up_and_counters_that_go_back_do_no_harm() {
        let before = Times { idle: 100, ..Times::default() };
        let now = Times { user: 30, idle: 99, waiting: 10, ..Times::default() };
        let used = now.since(before);
        assert_eq!((used.idle, used.busy_percent(), used.percent(used.waiting)), (0, 75.0, 25.0));
        assert_eq!(Times::default().busy_percent(), 0.0);
    }
}
