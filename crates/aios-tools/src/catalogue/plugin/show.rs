//! `plugin.show`

use aios_plugins::name::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{installed, package::Described};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Show;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the plugin.
    plugin: Name,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What it says about itself.
    plugin: Described,
    /// Name of the key that vouches for it; absent where nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// Why it can't be called; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Tool for Show {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.show",
        description: "Shows a plugin: its tools with the schemas of their arguments and results, the folders that it can be handed, \
                      its limits, and who signed it.",
        examples: &[Example { goal: "what can the plugin pump-stats do", arguments: r#"{"plugin": "pump-stats"}"# }],
        needs: &["plugin:read:{plugin}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("plugin:read:{}", input.plugin));
        installed::with_trust(access).sees(installed::folder(&input.plugin))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let package = installed::load(host, &input.plugin)?;
        let (signed_by, problem) = match installed::trusted(host, &package) {
            Ok(signed_by) => (signed_by, None),
            Err(error) => (None, Some(error.message)),
        };
        Ok(Output { plugin: Described::of(&package), signed_by, problem })
    }
}
