//! `monitor.load`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proc_stat::{self, ProcStat};
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

pub const PATHS: [&str; 2] = ["/proc/loadavg", "/proc/uptime"];

pub struct Load;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Threads that ran or waited for the processor or a device, on average over 1, 5 and 15 minutes.
    pub averages: [f64; 3],
    /// Processors that share this load.
    pub processors: usize,
    /// Threads that run now or could.
    running: u64,
    /// Threads that wait for a device.
    blocked: u64,
    /// All threads.
    threads: u64,
    /// Seconds since the kernel started.
    pub uptime_s: f64,
}

impl Tool for Load {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.load",
        description: "Shows the load averages over 1, 5 and 15 minutes beside the number of processors, and the uptime (seconds).",
        examples: &[Example { goal: "is the device overloaded", arguments: "{}" }],
        needs: &["monitor:read:load"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        PATHS.into_iter().fold(Access::needs("monitor:read:load").sees(proc_stat::PATH), Access::sees)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        now(host)
    }
}

/// The load now.
pub fn now(host: &Host) -> Result<Output, ToolError> {
    let [load, uptime] = PATHS;
    let damaged = |path| ToolError::new(Code::Failed, format!("{path} is not what proc(5) describes"));
    let (averages, threads) = parse(&host.text(load)?).ok_or_else(|| damaged(load))?;
    let text = host.text(uptime)?;
    let uptime_s = text.split(' ').next().and_then(|text| text.parse().ok()).ok_or_else(|| damaged(uptime))?;
    let stat = ProcStat::now(host)?;
    Ok(Output {
        averages,
        processors: stat.processors.len(),
        running: stat.running,
        blocked: stat.blocked,
        threads,
        uptime_s,
    })
}

/// `0.1 0.2 0.3 running/threads pid`.
fn parse(text: &str) -> Option<([f64; 3], u64)> {
    let mut fields = text.split_ascii_whitespace();
    let mut average = || fields.next()?.parse().ok().filter(|value: &f64| value.is_finite());
    let averages = [average()?, average()?, average()?];
    Some((averages, fields.next()?.split_once('/')?.1.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_read_and_damage_refused() {
        assert_eq!(parse("0.50 1.25 2.00 3/450 12345\n"), Some(([0.5, 1.25, 2.0], 450)));
        for damaged in ["", "1 2", "1 2 3 4", "a 2 3 1/2", "NaN 2 3 1/2"] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
        assert!(now(&Host::device()).expect("load").processors > 0);
    }
}
