//! `plugin.verify`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{installed, package, package::Described};
use crate::{
    access::Access,
    args::AbsolutePath,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Verify;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder or tar archive with plugin.toml, plugin.wasm and plugin.sig.
    from: AbsolutePath,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether plugin.install would take it.
    right: bool,
    /// What it says about itself. Its digest is what plugin.install asks for.
    plugin: Described,
    /// Name of the key that vouches for it; absent where nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// What is wrong.
    problems: Vec<String>,
}

impl Tool for Verify {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.verify",
        description: "Checks a plugin that is not installed yet: its manifest, its module, its signature. Shows what it would be \
                      able to do, and the digest that plugin.install asks for. Runs none of its code.",
        examples: &[Example { goal: "is this plugin in order", arguments: r#"{"from": "/srv/pump-stats.tar"}"# }],
        needs: &["plugin:verify:plugins", "fs:read:{from}"],
        timeout: Duration::from_secs(30),
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        installed::with_trust(Access::needs("plugin:verify:plugins").reads(&input.from))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let package = package::read(host, &input.from)?;
        let (signed_by, distrust) = match installed::trusted(host, &package) {
            Ok(signed_by) => (signed_by, None),
            Err(error) => (None, Some(error.message)),
        };
        let unfit = package::check_module(&package).err().map(|error| error.message);
        let problems: Vec<String> = distrust.into_iter().chain(unfit).collect();
        Ok(Output { right: problems.is_empty(), plugin: Described::of(&package), signed_by, problems })
    }
}
