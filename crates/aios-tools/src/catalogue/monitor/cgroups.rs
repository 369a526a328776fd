//! `monitor.cgroups`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pressure::UNITS;
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    text::{plain, tenths},
    tool::{Example, Tool, ToolSpec},
};

/// Units that are shown at most.
const UNITS_MAX: usize = 128;

pub struct Cgroups;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Units that have a control group, the first 128 by name.
    units: Vec<Usage>,
}

/// Use of one unit with all its processes. A value that the kernel does not count is absent.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
struct Usage {
    /// Unit.
    unit: String,
    /// Processor time since it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_s: Option<f64>,
    /// Memory now.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// The most that this ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
    /// Memory that it may have; absent for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_max_bytes: Option<u64>,
    /// Times that it was ended for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    out_of_memory_kills: Option<u64>,
    /// Processes and threads now.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<u64>,
    /// Processes and threads that it may have; absent for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_max: Option<u64>,
    /// Read from storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes: Option<u64>,
    /// Written to storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    written_bytes: Option<u64>,
}

impl Tool for Cgroups {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.cgroups",
        description: "Shows what each unit (service) uses with all its processes: processor time (seconds), memory (bytes), tasks, storage; beside its limits.",
        examples: &[Example { goal: "which service uses the most memory", arguments: "{}" }],
        needs: &["monitor:read:cgroups"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("monitor:read:cgroups").sees(UNITS)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        if !host.path(UNITS).is_dir() {
            let text = format!(
                "{UNITS} does not exist: the units have no control groups (version 2) here; service.list knows them"
            );
            return Err(ToolError::new(Code::Unsupported, text));
        }
        let names =
            host.names(UNITS).into_iter().filter(|name| host.path(format!("{UNITS}/{name}/cgroup.procs")).is_file());
        Ok(Output { units: names.take(UNITS_MAX).map(|name| usage(&name, host)).collect() })
    }
}

fn usage(unit: &str, host: &Host) -> Usage {
    let file = |name: &str| host.text(format!("{UNITS}/{unit}/{name}")).ok();
    // `max`, which is no number, means that there is no limit.
    let number = |name: &str| file(name)?.trim().parse().ok();
    let io = file("io.stat");
    Usage {
        unit: plain(unit, 64),
        cpu_s: file("cpu.stat").and_then(|text| field(&text, "usage_usec")).map(|time| tenths(time as f64 / 1e6)),
        memory_bytes: number("memory.current"),
        memory_peak_bytes: number("memory.peak"),
        memory_max_bytes: number("memory.max"),
        out_of_memory_kills: file("memory.events").and_then(|text| field(&text, "oom_kill")),
        tasks: number("pids.current"),
        tasks_max: number("pids.max"),
        read_bytes: io.as_deref().map(|text| sum(text, "rbytes=")),
        written_bytes: io.as_deref().map(|text| sum(text, "wbytes=")),
    }
}

/// `key value` lines.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// `8:0 rbytes=1 wbytes=2 ...` lines, one a disk.
fn sum(text: &str, key: &str) -> u64 {
    let values = text.split_ascii_whitespace().filter_map(|field| field.strip_prefix(key)?.parse().ok());
    values.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn a_unit_is_shown_with_what_the_kernel_counts() {
        let system = FakeInit::start(&[]);
        let file = |name: &str, text: &str| system.file(&format!("{UNITS}/{name}"), text);
        file("runtime/cgroup.procs", "7\n");
        file("runtime/cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
        file("runtime/memory.current", "4096\n");
        file("runtime/memory.max", "max\n");
        file("runtime/memory.events", "oom 2\noom_kill 1\n");
        file("runtime/io.stat", "8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=7 wbytes=x\n");
        file("bare/cgroup.procs", "");
        file("cgroup.procs", "");
        let units = Cgroups::run(Input {}, &system.host()).expect("cgroups").units;
        assert_eq!(units[0], Usage { unit: "bare".into(), ..Usage::default() });
        let expected = Usage {
            unit: "runtime".into(),
            cpu_s: Some(2.5),
            memory_bytes: Some(4096),
            out_of_memory_kills: Some(1),
            read_bytes: Some(12),
            written_bytes: Some(6),
            ..Usage::default()
        };
        assert_eq!(units[1..], [expected]);
    }

    #[test]
    fn a_system_without_control_groups_says_so() {
        let failure = Cgroups::run(Input {}, &Host::below("/nonexistent")).expect_err("no groups");
        assert_eq!(failure.code, Code::Unsupported);
    }
}
