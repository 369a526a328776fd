//! `monitor.trace`

use std::{thread, time::Duration, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tracefs::{INSTANCES, Tracing};
use crate::{
    access::{Access, Privilege},
    args::Bounded,
    error::ToolError,
    host::Host,
    tool::{Example, Risk, Tool, ToolSpec},
};

/// Events of one call at most.
const EVENTS_MAX: usize = 8;

pub struct Trace;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Trace events to count, 1 to 8, each as `group/event`.
    #[schemars(length(min = 1, max = 8))]
    events: Events,
    /// How long, in milliseconds, 50 to 10000.
    #[serde(default)]
    duration_ms: Bounded<50, 10_000, 1000>,
}

/// Several events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
struct Events(Vec<String>);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was counted, in the order asked for.
    events: Vec<Count>,
    /// How long.
    duration_s: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Count {
    /// Event.
    event: String,
    /// Times that it happened.
    count: u64,
    /// The same a second.
    per_s: f64,
}

impl TryFrom<Vec<String>> for Events {
    type Error = String;

    fn try_from(events: Vec<String>) -> Result<Self, String> {
        let is_word = |word: &str| {
            (1..=64).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let is_event = |event: &str| event.split_once('/').is_some_and(|(group, name)| is_word(group) && is_word(name));
        if let Some(bad) = events.iter().find(|event| !is_event(event)) {
            return Err(format!("{bad:?} is not a trace event; one is for example sched/sched_switch"));
        }
        match events.len() {
            1..=EVENTS_MAX => Ok(Events(events)),
            length => Err(format!("{length} events: name 1 to {EVENTS_MAX}")),
        }
    }
}

impl Tool for Trace {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.trace",
        description: "Counts trace events of the kernel (tracefs, no eBPF) for duration_ms on all processors: thread switches, system calls, interrupts and others.",
        examples: &[
            Example {
                goal: "how many system calls and thread switches are there",
                arguments: r#"{"events": ["raw_syscalls/sys_enter", "sched/sched_switch"]}"#,
            },
            Example {
                goal: "how often do programs start, over five seconds",
                arguments: r#"{"events": ["sched/sched_process_exec"], "duration_ms": 5000}"#,
            },
        ],
        needs: &["monitor:trace:{events}"],
        // It makes and removes trace instances, and costs a little time at each event.
        risk: Risk::Medium,
        timeout: Duration::from_secs(20),
        sinks: &["/events"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::default().changes(INSTANCES).with(Privilege::WriteAll);
        input.events.0.iter().fold(access, |access, event| access.and(format!("monitor:trace:{event}")))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let tracing = Tracing::begin(host)?;
        let events = input.events.0;
        let counters = events.iter().enumerate().map(|(number, event)| tracing.counter(event, number));
        let counters = counters.collect::<Result<Vec<_>, _>>()?;
        let begin = Instant::now();
        counters.iter().try_for_each(|counter| counter.switch(true))?;
        thread::sleep(Duration::from_millis(input.duration_ms.get()));
        counters.iter().try_for_each(|counter| counter.switch(false))?;
        let duration_s = begin.elapsed().as_secs_f64();
        let count = |(event, counter): (String, &super::tracefs::Counter)| -> Result<Count, ToolError> {
            let count = counter.read()?;
            Ok(Count { event, count, per_s: crate::text::tenths(count as f64 / duration_s) })
        };
        let events = events.into_iter().zip(&counters).map(count).collect::<Result<_, _>>()?;
        Ok(Output { events, duration_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn what_is_no_event_is_refused() {
        for bad in [&["sched"][..], &["../x/y"], &["a/b/c"], &["/b"], &["a/"], &["a/."], &[], &["a/b"; 9]] {
            let events: Vec<String> = bad.iter().map(ToString::to_string).collect();
            assert!(Events::try_from(events).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_event_takes_a_capability_of_its_own() {
        let input = serde_json::from_value(serde_json::json!({"events": ["a/b", "c/d"]})).expect("arguments");
        assert_eq!(Trace::access(&input).capabilities, ["monitor:trace:a/b", "monitor:trace:c/d"]);
    }

    #[test]
    fn thread_switches_are_counted_where_the_kernel_lets_this_be_traced() {
        let arguments =
            serde_json::json!({"events": ["sched/sched_switch", "raw_syscalls/sys_enter"], "duration_ms": 300});
        match Trace::run(serde_json::from_value(arguments).expect("arguments"), &Host::device()) {
            Ok(output) => {
                // This very call sleeps, which takes a system call and a switch.
                assert!(output.events.iter().all(|event| event.count > 0), "{output:?}");
                assert!(Host::device().names(INSTANCES).iter().all(|name| !name.starts_with("aios-")));
            }
            Err(failure) => assert!(matches!(failure.code, Code::Unsupported | Code::PermissionDenied), "{failure}"),
        }
    }
}
