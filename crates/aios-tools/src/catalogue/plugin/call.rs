//! `plugin.call`

use std::time::Duration;

use aios_plugins::manifest::Risk as PluginRisk;

use super::handed::{self, Input, Output};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

pub struct Call;

impl Tool for Call {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.call",
        description: "Calls a tool of low or medium risk that a plugin gives, with the folders that it is to work in. It sees those, its own data folder, \
                      and nothing else: no network, no processes. plugin.show has its arguments.",
        examples: &[Example {
            goal: "mean pressure of pump 2",
            arguments: r#"{"plugin": "pump-stats", "tool": "summary", "arguments": {"column": "pressure"}, "read": {"logs": "/var/log/pump-2"}}"#,
        }],
        needs: &["plugin:call:{plugin}/{tool}", "fs:read:{read}", "fs:write:{write}"],
        risk: Risk::Medium,
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
        handed::run(input, host, PluginRisk::Low..=PluginRisk::Medium)
    }
}
