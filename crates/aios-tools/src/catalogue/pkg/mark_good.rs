//! `pkg.mark_good`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rauc::{self, SlotName};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct MarkGood;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the slot, as pkg.slots has it.
    slot: SlotName,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What the boot loader takes it for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_status: Option<String>,
}

impl Tool for MarkGood {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.mark_good",
        description: "Tells the boot loader that a slot of the system works, so that it is started again.",
        examples: &[Example { goal: "this system works, keep it", arguments: r#"{"slot": "rootfs.0"}"# }],
        needs: &["pkg:mark:{slot}"],
        risk: Risk::High,
        reversible: true,
        sinks: &["/slot"],
        serial: Some(Serial::Slots),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        rauc::access(format!("pkg:mark:{}", input.slot))
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let status = rauc::status(host)?;
        if status.slot(&input.slot)?.boot_status.as_deref() == Some("good") {
            return Ok(Inverse::Nothing);
        }
        Ok(Inverse::Call { tool: "pkg.mark_bad".to_owned(), arguments: json!({ "slot": input.slot }) })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        rauc::status(host)?.slot(&input.slot)?;
        rauc::mark(host, "mark-good", &input.slot)?;
        Ok(Output { boot_status: rauc::status(host)?.slot(&input.slot)?.boot_status.clone() })
    }
}
