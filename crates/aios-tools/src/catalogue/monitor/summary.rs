//! `monitor.summary`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{thread, time::Duration};

use super::{
    disk, load, memory, pressure,
    proc_stat::{self, ProcStat},
    temperature,
};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// How long the processor is looked at.
const INTERVAL: Duration = Duration::from_millis(300);

pub struct Summary;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// How busy the processors are.
    cpu_busy_percent: f64,
    /// Processors.
    processors: usize,
    /// Load averages over 1, 5 and 15 minutes.
    load_averages: [f64; 3],
    /// Memory of the machine.
    memory_total_bytes: u64,
    /// What programs could still get.
    memory_available_bytes: u64,
    /// What is not available, in percent.
    memory_used_percent: f64,
    /// Room on the root and the data partition.
    filesystems: Vec<disk::Room>,
    /// Waiting for processor, memory and disks; absent where the kernel does not count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<pressure::Output>,
    /// The hottest thermal zone; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature_c: Option<f64>,
    /// Seconds since the kernel started.
    uptime_s: f64,
}

impl Tool for Summary {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.summary",
        description: "Shows at a glance how the device is used: processor, load, memory, room on disk, pressure, temperature, uptime.",
        examples: &[Example { goal: "how is the device doing", arguments: "{}" }],
        needs: &["monitor:read:summary"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        let access =
            Access::needs("monitor:read:summary").sees(proc_stat::PATH).sees(memory::PATH).sees(pressure::FOLDER);
        temperature::visible(disk::visible(load::PATHS.into_iter().fold(access, Access::sees)))
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let before = ProcStat::now(host)?;
        thread::sleep(INTERVAL);
        let used = ProcStat::now(host)?.total.since(before.total);
        let (load, memory) = (load::now(host)?, memory::now(host)?);
        Ok(Output {
            cpu_busy_percent: used.busy_percent(),
            processors: load.processors,
            load_averages: load.averages,
            memory_total_bytes: memory.total_bytes,
            memory_available_bytes: memory.available_bytes,
            memory_used_percent: memory.used_percent,
            filesystems: disk::usual(host),
            pressure: pressure::now(host).ok(),
            temperature_c: temperature::highest_now(host),
            uptime_s: load.uptime_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_summed_up() {
        let output = Summary::run(Input {}, &Host::device()).expect("summary");
        assert!(output.processors > 0 && output.memory_total_bytes > 0 && output.uptime_s > 0.0);
    }

    #[test]
    fn what_every_device_has_must_be_there() {
        assert!(Summary::run(Input {}, &Host::below("/nonexistent")).is_err());
    }
}
