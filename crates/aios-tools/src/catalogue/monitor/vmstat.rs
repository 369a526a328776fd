//! `monitor.vmstat`

use std::{collections::BTreeMap, thread, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Bounded,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

const PATH: &str = "/proc/vmstat";

pub struct Vmstat;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// How long it is measured, in milliseconds, 50 to 5000.
    #[serde(default)]
    interval_ms: Bounded<50, 5000, 500>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// Read from storage, KiB a second.
    read_kib_per_s: u64,
    /// Written to storage, KiB a second.
    written_kib_per_s: u64,
    /// Pages that came from swap, a second.
    swapped_in_per_s: u64,
    /// Pages that went to swap, a second.
    swapped_out_per_s: u64,
    /// Times that a page was not where a program looked for it, a second.
    faults_per_s: u64,
    /// Of these, those that had to wait for storage.
    major_faults_per_s: u64,
    /// Pages that the kernel took back to have free ones, a second.
    reclaimed_per_s: u64,
    /// Processes that were ended for want of memory, since boot.
    out_of_memory_kills: u64,
}

impl Tool for Vmstat {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.vmstat",
        description: "Measures for interval_ms what the memory management does: page faults, swapping, storage traffic; and counts processes killed for want of memory since boot.",
        examples: &[Example { goal: "does the device swap", arguments: "{}" }],
        needs: &["monitor:read:vmstat"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("monitor:read:vmstat").sees(PATH)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let interval = Duration::from_millis(input.interval_ms.get());
        let before = host.text(PATH)?;
        thread::sleep(interval);
        Ok(between(&before, &host.text(PATH)?, interval.as_secs_f64()))
    }
}

/// A counter that this kernel does not have counts as 0.
fn between(before: &str, now: &str, seconds: f64) -> Output {
    let counters = |text| -> BTreeMap<String, u64> {
        let pairs = str::lines(text).filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect()
    };
    let (before, now) = (counters(before), counters(now));
    let rate = |keys: &[&str]| {
        let sum = |of: &BTreeMap<String, u64>| {
            keys.iter().filter_map(|key| of.get(*key)).fold(0_u64, |sum, value| sum.saturating_add(*value))
        };
        (sum(&now).saturating_sub(sum(&before)) as f64 / seconds).round() as u64
    };
    Output {
        read_kib_per_s: rate(&["pgpgin"]),
        written_kib_per_s: rate(&["pgpgout"]),
        swapped_in_per_s: rate(&["pswpin"]),
        swapped_out_per_s: rate(&["pswpout"]),
        faults_per_s: rate(&["pgfault"]),
        major_faults_per_s: rate(&["pgmajfault"]),
        reclaimed_per_s: rate(&["pgsteal_kswapd", "pgsteal_direct"]),
        out_of_memory_kills: now.get("oom_kill").copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_totals_stay_totals() {
        let before = "pgfault 100\npgsteal_kswapd 5\npgsteal_direct 5\noom_kill 2\nnonsense\npgpgin x\n";
        let now = "pgfault 200\npgsteal_kswapd 10\npgsteal_direct 10\noom_kill 3\n";
        let output = between(before, now, 0.5);
        assert_eq!((output.faults_per_s, output.reclaimed_per_s, output.out_of_memory_kills), (200, 20, 3));
        assert_eq!((output.read_kib_per_s, between(now, before, 0.5).faults_per_s), (0, 0));
    }

    #[test]
    fn this_machine_faults() {
        let input = Input { interval_ms: 50.try_into().expect("interval") };
        assert!(Vmstat::run(input, &Host::device()).is_ok());
    }
}
