//! `monitor.cpu`

use std::{thread, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proc_stat::{self, ProcStat, Times};
use crate::{
    access::Access,
    args::Bounded,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// Processors that are shown one by one.
const PROCESSORS_MAX: usize = 64;

pub struct Cpu;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// How long it is measured, in milliseconds, 50 to 5000.
    #[serde(default)]
    interval_ms: Bounded<50, 5000, 500>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// All processors together, 100 when none is ever idle.
    busy_percent: f64,
    /// For programs.
    user_percent: f64,
    /// For the kernel.
    system_percent: f64,
    /// Idle while something waited for a disk or another device.
    waiting_percent: f64,
    /// For interrupts.
    interrupts_percent: f64,
    /// Taken by the machine that this one runs in.
    stolen_percent: f64,
    /// Each processor, the first 64.
    processors: Vec<Processor>,
    /// Changes from one thread to another, a second.
    context_switches_per_s: u64,
    /// Processes and threads started, a second.
    forks_per_s: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Processor {
    /// Number.
    processor: u32,
    /// Share of its time that it worked.
    busy_percent: f64,
}

impl Tool for Cpu {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.cpu",
        description: "Measures for interval_ms how busy the processors are, in percent, and with what.",
        examples: &[
            Example { goal: "how busy is the processor", arguments: "{}" },
            Example { goal: "how busy is it over five seconds", arguments: r#"{"interval_ms": 5000}"# },
        ],
        needs: &["monitor:read:cpu"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("monitor:read:cpu").sees(proc_stat::PATH)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let interval = Duration::from_millis(input.interval_ms.get());
        let before = ProcStat::now(host)?;
        thread::sleep(interval);
        Ok(between(&before, &ProcStat::now(host)?, interval.as_secs_f64()))
    }
}

fn between(before: &ProcStat, now: &ProcStat, seconds: f64) -> Output {
    let used = now.total.since(before.total);
    let earlier = |number: u32| -> Times {
        // A processor that was switched on meanwhile began with nothing.
        before.processors.iter().find(|(other, _)| *other == number).map(|(_, times)| *times).unwrap_or_default()
    };
    let processor = |(number, times): &(u32, Times)| Processor {
        processor: *number,
        busy_percent: times.since(earlier(*number)).busy_percent(),
    };
    let per_second = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    Output {
        busy_percent: used.busy_percent(),
        user_percent: used.percent(used.user),
        system_percent: used.percent(used.system),
        waiting_percent: used.percent(used.waiting),
        interrupts_percent: used.percent(used.interrupts),
        stolen_percent: used.percent(used.stolen),
        processors: now.processors.iter().take(PROCESSORS_MAX).map(processor).collect(),
        context_switches_per_s: per_second(now.context_switches, before.context_switches),
        forks_per_s: per_second(now.forks, before.forks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_between_two_looks_is_told() {
        let times = |user, idle| Times { user, idle, ..Times::default() };
        let stat = |total, second, context_switches| ProcStat {
            total,
            processors: vec![(0, times(0, 0)), (1, second)],
            context_switches,
            forks: 0,
            running: 1,
            blocked: 0,
        };
        let output = between(&stat(times(10, 10), times(5, 5), 100), &stat(times(40, 20), times(5, 9), 350), 0.5);
        assert_eq!((output.busy_percent, output.user_percent, output.context_switches_per_s), (75.0, 75.0, 500));
        assert_eq!(output.processors.iter().map(|one| one.busy_percent).collect::<Vec<_>>(), [0.0, 0.0]);
    }

    #[test]
    fn this_machine_has_processors() {
        let input = Input { interval_ms: 50.try_into().expect("interval") };
        let output = Cpu::run(input, &Host::device()).expect("cpu");
        assert!(!output.processors.is_empty() && (0.0..=100.0).contains(&output.busy_percent));
    }
}
