//! `monitor.pressure`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::UnitName,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

pub const FOLDER: &str = "/proc/pressure";
/// Control groups of the units.
pub const UNITS: &str = "/sys/fs/cgroup/aios";

pub struct Pressure;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only what this unit waits for; absent for the whole device.
    #[serde(default)]
    unit: Option<UnitName>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Waiting for a processor.
    pub cpu: Stalls,
    /// Waiting for memory.
    pub memory: Stalls,
    /// Waiting for disks.
    pub io: Stalls,
}

/// Shares of time in which something had to wait, in percent, over the last 10, 60 and 300 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Stalls {
    /// At least one thread waited.
    pub some_percent: [f64; 3],
    /// All threads waited, and nothing went on.
    pub full_percent: [f64; 3],
}

impl Tool for Pressure {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.pressure",
        description: "Shows how much time (percent over the last 10, 60, 300 seconds) was lost waiting for processor, memory and disks, on the device or in one unit.",
        examples: &[
            Example { goal: "what is the device short of", arguments: "{}" },
            Example { goal: "what does the model runtime wait for", arguments: r#"{"unit": "runtime"}"# },
        ],
        needs: &["monitor:read:pressure"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs("monitor:read:pressure");
        match &input.unit {
            None => access.sees(FOLDER),
            Some(unit) => access.sees(format!("{UNITS}/{unit}")),
        }
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        match input.unit {
            None => now(host),
            Some(unit) => all(host, |what| format!("{UNITS}/{unit}/{what}.pressure")),
        }
    }
}

/// The device's pressure.
pub fn now(host: &Host) -> Result<Output, ToolError> {
    all(host, |what| format!("{FOLDER}/{what}"))
}

fn all(host: &Host, path: impl Fn(&str) -> String) -> Result<Output, ToolError> {
    let read = |what: &str| {
        let path = path(what);
        let text = host.text(&path).map_err(|error| match error.code {
            Code::NotFound => ToolError::new(
                Code::NotFound,
                format!("{path} does not exist: no such unit runs, or the kernel counts no pressure (CONFIG_PSI)"),
            ),
            // A kernel that was started with psi=0.
            Code::Unsupported => {
                ToolError::new(Code::Unsupported, format!("{path}: the kernel counts no pressure (psi=0)"))
            }
            _ => error,
        })?;
        parse(&text).ok_or_else(|| ToolError::new(Code::Failed, format!("{path} is not what the kernel documents")))
    };
    Ok(Output { cpu: read("cpu")?, memory: read("memory")?, io: read("io")? })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`, which older kernels leave out for processors.
fn parse(text: &str) -> Option<Stalls> {
    let line = |kind: &str| {
        let fields = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |key: &str| {
            let value = fields.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))?;
            value.parse().ok().filter(|value: &f64| value.is_finite())
        };
        Some([value("avg10")?, value("avg60")?, value("avg300")?])
    };
    Some(Stalls { some_percent: line("some")?, full_percent: line("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    const TEXT: &str =
        "some avg10=1.50 avg60=2.00 avg300=0.25 total=9\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=3\n";

    #[test]
    fn both_lines_are_read_and_damage_refused() {
        assert_eq!(parse(TEXT), Some(Stalls { some_percent: [1.5, 2.0, 0.25], full_percent: [0.5, 0.0, 0.0] }));
        let some = TEXT.lines().next().expect("line");
        assert_eq!(parse(some), Some(Stalls { some_percent: [1.5, 2.0, 0.25], full_percent: [0.0; 3] }));
        for damaged in ["", "some", "some avg10=1", "full avg10=1 avg60=1 avg300=1", &some.replace("1.50", "inf")] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_unit_has_a_pressure_of_its_own() {
        let system = FakeInit::start(&[]);
        for what in ["cpu", "memory", "io"] {
            system.file(&format!("{UNITS}/runtime/{what}.pressure"), TEXT);
        }
        let run = |unit: &str| Pressure::run(Input { unit: unit.to_owned().try_into().ok() }, &system.host());
        assert_eq!(run("runtime").expect("pressure").memory.full_percent[0], 0.5);
        assert_eq!(run("network").map_err(|error| error.code).err(), Some(Code::NotFound));
    }
}
