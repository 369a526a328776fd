//! `pkg.slots`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rauc::{self, Slot};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

pub struct Slots;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Boot name of the slot that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    booted: Option<String>,
    /// Slot that the boot loader tries first.
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<String>,
    /// Slots.
    slots: Vec<Slot>,
}

impl Tool for Slots {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.slots",
        description: "Shows the slots of the system (RAUC): which one runs, which one is started next, which ones are good.",
        examples: &[Example { goal: "which system slot is running", arguments: "{}" }],
        needs: &["pkg:read:slots"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        rauc::access("pkg:read:slots")
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let rauc::Status { booted, primary, slots } = rauc::status(host)?;
        Ok(Output { booted, primary, slots })
    }
}
