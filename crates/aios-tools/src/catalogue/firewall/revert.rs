//! `firewall.revert`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    nft,
    pending::{self, Now, Pending},
};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Risk, Serial, Tool, ToolSpec},
};

pub struct Revert;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether a change waited to be confirmed, and is taken back now.
    reverted: bool,
}

impl Tool for Revert {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.revert",
        description: "Takes the last change of the firewall back at once, where it waits to be confirmed.",
        examples: &[Example { goal: "take the new firewall rules back", arguments: "{}" }],
        needs: &["firewall:revert:table"],
        risk: Risk::High,
        serial: Some(Serial::Firewall),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        nft::access("firewall:revert:table").changes(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let Some(pending) = Pending::read(host)? else { return Ok(Output { reverted: false }) };
        pending.revert(host, &Now::of(host)?)?;
        Ok(Output { reverted: true })
    }
}
