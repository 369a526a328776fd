//! `self.hostname`

use aios_core::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings;
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    init,
    tool::{Example, Tool, ToolSpec},
};

pub struct Hostname;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Name in force.
    hostname: String,
    /// Name that the configuration says; it comes into force at the next boot.
    configured: String,
}

impl Tool for Hostname {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.hostname",
        description: "Shows the host name in force and the configured one. self.set_config with the key system.hostname changes it for the next boot.",
        examples: &[Example { goal: "what is this device called", arguments: "{}" }],
        needs: &["self:read:hostname"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        settings::visible(Access::needs("self:read:hostname").talks_to(paths::INIT_SOCKET))
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        // A sandbox may have a host name of its own, so PID 1 is asked.
        Ok(Output { hostname: init::status(host)?.hostname, configured: settings::in_force(host).0.system.hostname })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn both_names_are_told() {
        let init = FakeInit::start(&[]);
        init.file(paths::DEVICE_CONFIG, "system.hostname = \"next\"");
        let output = Hostname::run(Input {}, &init.host()).expect("hostname");
        assert_eq!((output.hostname.as_str(), output.configured.as_str()), ("test", "next"));
    }
}
