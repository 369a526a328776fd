//! `plugin.call_high`

use std::time::Duration;

use aios_plugins::manifest::Risk as PluginRisk;

use super::handed::{self, Input, Output};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

pub struct CallHigh;

impl Tool for CallHigh {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.call_high",
        description: "Calls a tool of high risk that a plugin gives, as plugin.call calls the others.",
        examples: &[Example {
            goal: "drop the old logs of the pumps",
            arguments: r#"{"plugin": "pump-stats", "tool": "prune", "arguments": {"days": 90}, "write": {"archive": "/srv/pumps"}}"#,
        }],
        needs: &["plugin:call:{plugin}/{tool}", "fs:read:{read}", "fs:write:{write}"],
        risk: Risk::High,
        idempotent: false,
        reversible: true,
        // Longest of a manifest, and reading the plugin.
        timeout: Duration::from_secs(70),
        // What a plugin does with its arguments only its maker knows.
        sinks: &["/plugin", "/tool", "/arguments", "/write"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        handed::access(input)
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        handed::inverse(input, host)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        handed::run(input, host, PluginRisk::High..=PluginRisk::High)
    }
}
