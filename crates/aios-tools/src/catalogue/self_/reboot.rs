//! `self.reboot`

use std::time::Duration;

use aios_core::{control::Request, paths};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    init,
    tool::{Example, Risk, Tool, ToolSpec},
};

/// PID 1 agrees at once, and then stops the units.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Reboot;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether PID 1 has begun to stop the units.
    begun: bool,
}

impl Tool for Reboot {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.reboot",
        description: "Stops all units in order and starts the machine again. The device can't be reached meanwhile.",
        examples: &[Example { goal: "start the device anew", arguments: "{}" }],
        needs: &["self:reboot:device"],
        risk: Risk::Critical,
        idempotent: false,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:reboot:device").talks_to(paths::INIT_SOCKET)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        init::order(host, &Request::Reboot, PATIENCE)?;
        Ok(Output { begun: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn pid_1_is_asked_for_it() {
        let init = FakeInit::start(&["a"]);
        assert!(Reboot::run(Input {}, &init.host()).expect("reboot").begun);
        assert_eq!(init.orders(), [Request::Reboot]);
    }
}
