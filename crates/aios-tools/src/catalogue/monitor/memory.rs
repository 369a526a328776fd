//! `monitor.memory`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    text::tenths,
    tool::{Example, Tool, ToolSpec},
};

pub const PATH: &str = "/proc/meminfo";

pub struct Memory;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// Memory of the machine.
    pub total_bytes: u64,
    /// What programs could still get, caches given up.
    pub available_bytes: u64,
    /// What is not available, in percent.
    pub used_percent: f64,
    /// Unused altogether.
    free_bytes: u64,
    /// Contents of files, given up when needed.
    cached_bytes: u64,
    /// Waiting to be written to storage.
    dirty_bytes: u64,
    /// Shared memory and file systems in memory.
    shared_bytes: u64,
    /// The kernel's own.
    kernel_bytes: u64,
    /// Swap.
    swap_total_bytes: u64,
    /// Unused swap.
    swap_free_bytes: u64,
}

impl Tool for Memory {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.memory",
        description: "Shows how much memory the device has, what is in use and for what, and swap; in bytes.",
        examples: &[Example { goal: "is there enough memory", arguments: "{}" }],
        needs: &["monitor:read:memory"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("monitor:read:memory").sees(PATH)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        now(host)
    }
}

/// Memory now.
pub fn now(host: &Host) -> Result<Output, ToolError> {
    parse(&host.text(PATH)?)
        .ok_or_else(|| ToolError::new(Code::Failed, format!("{PATH} is not what proc(5) describes")))
}

fn parse(text: &str) -> Option<Output> {
    let bytes = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total_bytes, available_bytes) = (bytes("MemTotal")?, bytes("MemAvailable")?);
    let used = total_bytes.saturating_sub(available_bytes);
    Some(Output {
        total_bytes,
        available_bytes,
        used_percent: tenths(used as f64 * 100.0 / total_bytes.max(1) as f64),
        free_bytes: bytes("MemFree")?,
        cached_bytes: bytes("Cached")?,
        dirty_bytes: bytes("Dirty").unwrap_or_default(),
        shared_bytes: bytes("Shmem").unwrap_or_default(),
        kernel_bytes: bytes("Slab").unwrap_or_default(),
        swap_total_bytes: bytes("SwapTotal").unwrap_or_default(),
        swap_free_bytes: bytes("SwapFree").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  250 kB\nCached:  90 kB\nSwapCached:  1 kB\nHugePages_Total: 0\n";

    #[test]
    fn values_are_bytes() {
        let output = parse(TEXT).expect("memory");
        assert_eq!((output.total_bytes, output.cached_bytes, output.used_percent), (1000 << 10, 90 << 10, 75.0));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for damaged in
            ["", "MemTotal: 1 kB", &TEXT.replace("1000 kB", "1000"), &TEXT.replace("250", "18446744073709551615")]
        {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        let output = now(&Host::device()).expect("memory");
        assert!(output.total_bytes >= output.available_bytes && output.available_bytes > 0);
    }
}
