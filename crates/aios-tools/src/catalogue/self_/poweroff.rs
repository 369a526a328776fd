//! `self.poweroff`

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

pub struct Poweroff;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether PID 1 has begun to stop the units.
    begun: bool,
}

impl Tool for Poweroff {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.poweroff",
        description: "Stops all units in order and switches the machine off. Only somebody at the device can switch it on again.",
        examples: &[Example { goal: "switch the device off", arguments: "{}" }],
        needs: &["self:poweroff:device"],
        risk: Risk::Critical,
        idempotent: false,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:poweroff:device").talks_to(paths::INIT_SOCKET)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        init::order(host, &Request::PowerOff, PATIENCE)?;
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
        assert!(Poweroff::run(Input {}, &init.host()).expect("poweroff").begun);
        assert_eq!(init.orders(), [Request::PowerOff]);
    }
}
