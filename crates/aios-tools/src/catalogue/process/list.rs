//! `process.list`

use std::{cmp::Reverse, collections::BTreeMap, thread, time::Duration, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pid::Pid,
    proc_file::{Stat, command, user_id},
};
use crate::{
    access::Access,
    args::Bounded,
    error::ToolError,
    host::Host,
    text::{plain, tenths},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Words and characters of each that are shown of a command line here; `process.show` has more.
const COMMAND_WORDS: usize = 8;
const COMMAND_LENGTH: usize = 120;

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What comes first: the most processor time, the most memory, or the lowest id.
    #[serde(default)]
    sort: Sort,
    /// Processes in the answer at most, 1 to 200.
    #[serde(default)]
    limit: Bounded<1, 200, 15>,
    /// How long processor time is measured, in milliseconds, 0 to 3000; 0: since the start of each process.
    #[serde(default)]
    interval_ms: Bounded<0, 3000, 300>,
    /// Whether threads of the kernel are shown too.
    #[serde(default)]
    kernel: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Sort {
    #[default]
    Cpu,
    Memory,
    Pid,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The first ones in the order asked for.
    processes: Vec<Process>,
    /// How many there are.
    total: usize,
    /// Whether some are left out.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Process {
    /// Id.
    pid: Pid,
    /// Start in clock ticks after the kernel's: with the pid, what `process.signal` and `process.priority` ask for.
    start_ticks: u64,
    /// Name.
    name: String,
    /// Beginning of the command line.
    command: String,
    /// The user that it acts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<u32>,
    /// `running`, `sleeping`, `waiting-for-disk`, `stopped`, `zombie` or another word of that kind.
    state: &'static str,
    /// Processor time in percent of one processor.
    cpu_percent: f64,
    /// Memory that is really there.
    memory_bytes: u64,
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.list",
        description: "Lists processes with their use of processor (percent of one processor, measured over interval_ms) and memory (bytes), the busiest first.",
        examples: &[
            Example { goal: "what keeps the processor busy", arguments: "{}" },
            Example {
                goal: "the five processes with the most memory",
                arguments: r#"{"sort": "memory", "limit": 5, "interval_ms": 0}"#,
            },
        ],
        needs: &["process:read:all"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("process:read:all").among_processes()
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut found = measure(host, Duration::from_millis(input.interval_ms.get()));
        found.retain(|(stat, _)| input.kernel || !stat.is_of_kernel());
        match input.sort {
            Sort::Cpu => found.sort_by(|(a, busy_a), (b, busy_b)| busy_b.total_cmp(busy_a).then(a.pid.cmp(&b.pid))),
            Sort::Memory => found.sort_by_key(|(stat, _)| (Reverse(stat.resident_bytes), stat.pid)),
            Sort::Pid => found.sort_by_key(|(stat, _)| stat.pid),
        }
        let total = found.len();
        let processes: Vec<Process> =
            found.into_iter().take(input.limit.length()).map(|(stat, busy)| describe(stat, busy, host)).collect();
        Ok(Output { truncated: processes.len() < total, processes, total })
    }
}

/// All processes, each with its share of one processor during `interval`, or since it started.
fn measure(host: &Host, interval: Duration) -> Vec<(Stat, f64)> {
    if interval.is_zero() {
        let uptime = host.text("/proc/uptime").unwrap_or_default();
        let now: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        return with_shares(Stat::all(host), |stat| stat.cpu.as_secs_f64() / (now - stat.started_s()).max(0.01));
    }
    let before = Stat::all(host);
    let begin = Instant::now();
    thread::sleep(interval);
    let elapsed = begin.elapsed();
    between(before, Stat::all(host), elapsed)
}

/// Shares in the time between two looks.
fn between(before: Vec<Stat>, now: Vec<Stat>, elapsed: Duration) -> Vec<(Stat, f64)> {
    let before: BTreeMap<(Pid, u64), Duration> =
        before.into_iter().map(|stat| ((stat.pid, stat.start_ticks), stat.cpu)).collect();
    with_shares(now, |stat| {
        // One that started meanwhile has used all its time meanwhile.
        let earlier = before.get(&(stat.pid, stat.start_ticks)).copied().unwrap_or_default();
        stat.cpu.saturating_sub(earlier).as_secs_f64() / elapsed.as_secs_f64()
    })
}

fn with_shares(stats: Vec<Stat>, share: impl Fn(&Stat) -> f64) -> Vec<(Stat, f64)> {
    let with_share = |stat: Stat| {
        let share = share(&stat);
        (stat, share)
    };
    stats.into_iter().map(with_share).collect()
}

fn describe(stat: Stat, busy: f64, host: &Host) -> Process {
    let status = host.text(format!("/proc/{}/status", stat.pid)).unwrap_or_default();
    let command = command(stat.pid, host, COMMAND_WORDS, COMMAND_LENGTH).join(" ");
    Process {
        pid: stat.pid,
        start_ticks: stat.start_ticks,
        name: stat.name,
        command: plain(&command, COMMAND_LENGTH),
        user_id: user_id(&status),
        state: stat.state,
        cpu_percent: tenths(busy * 100.0),
        memory_bytes: stat.resident_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::process::fixture::Fixture;

    fn list(fixture: &Fixture, arguments: serde_json::Value) -> Output {
        List::run(serde_json::from_value(arguments).expect("arguments"), &fixture.host()).expect("list")
    }

    fn pids(output: &Output) -> Vec<i32> {
        output.processes.iter().map(|process| process.pid.into()).collect()
    }

    #[test]
    fn the_largest_come_first_and_the_rest_is_said_to_be_there() {
        let fixture = Fixture::new();
        fixture.process(1, "init", 0, 1);
        fixture.process(10, "a", 1, 2);
        fixture.process(9, "b", 1, 3);
        fixture.kernel_thread(2, "kthreadd");
        let output = list(&fixture, serde_json::json!({"sort": "memory", "limit": 2, "interval_ms": 0}));
        assert_eq!((pids(&output), output.total, output.truncated), (vec![10, 9], 3, true));
        assert_eq!(output.processes[0].command, "/usr/bin/a --flag two words");
        assert_eq!(output.processes[0].user_id, Some(10));
        let output = list(&fixture, serde_json::json!({"sort": "pid", "kernel": true, "interval_ms": 1}));
        assert_eq!((pids(&output), output.truncated), (vec![1, 2, 9, 10], false));
    }

    #[test]
    fn a_used_id_inherits_no_processor_time() {
        let stat = |start_ticks, cpu_ms| {
            let fixture = Fixture::new();
            fixture.process(7, "a", 1, start_ticks);
            let mut stat = Stat::of(7.try_into().expect("pid"), &fixture.host()).expect("stat");
            stat.cpu = Duration::from_millis(cpu_ms);
            stat
        };
        let share = |before, now| between(vec![before], vec![now], Duration::from_millis(500))[0].1;
        assert_eq!(share(stat(1, 1000), stat(1, 1250)), 0.5);
        assert_eq!(share(stat(1, 1000), stat(2, 250)), 0.5);
        assert_eq!(share(stat(1, 1000), stat(1, 900)), 0.0);
    }

    #[test]
    fn this_process_is_among_those_of_this_machine() {
        let found = measure(&Host::device(), Duration::from_millis(10));
        let me = rustix::process::getpid();
        assert!(found.iter().any(|(stat, share)| stat.pid.to_system() == me && share.is_finite()));
    }
}
