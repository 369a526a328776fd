//! `firewall.confirm`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pending::{self, Now, Pending};
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Risk, Serial, Tool, ToolSpec},
};

pub struct Confirm;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether a change waited for this.
    confirmed: bool,
}

impl Tool for Confirm {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.confirm",
        description: "Keeps the last change of the firewall, which would be taken back otherwise. Call it only once the device is \
                      seen to be reachable.",
        examples: &[Example { goal: "keep the new firewall rules", arguments: "{}" }],
        needs: &["firewall:confirm:table"],
        risk: Risk::High,
        serial: Some(Serial::Firewall),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("firewall:confirm:table").changes(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let Some(pending) = Pending::read(host)? else { return Ok(Output { confirmed: false }) };
        if pending.is_due(&Now::of(host)?) {
            let text = "the time to confirm is over: the change is being taken back; make it again";
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        pending::forget(host)?;
        Ok(Output { confirmed: true })
    }
}
