//! `plugin.list`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{installed, package};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most plugins that are told of.
const PLUGINS_MAX: usize = 100;

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Plugins, by name. Up to 100.
    plugins: Vec<Plugin>,
    /// Whether there are more.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Plugin {
    /// Name.
    name: String,
    /// Version; absent where it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Names of its tools.
    tools: Vec<String>,
    /// Why it can't be called; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.list",
        description: "Lists the plugins on this device with their versions and tools, and what keeps one from being called.",
        examples: &[Example { goal: "which plugins are there", arguments: "{}" }],
        needs: &["plugin:read:plugins"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        installed::visible(Access::needs("plugin:read:plugins"))
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let names = installed::names(host);
        let truncated = names.len() > PLUGINS_MAX;
        let plugins = names.into_iter().take(PLUGINS_MAX).map(|name| match installed::load(host, &name) {
            Ok(plugin) => {
                let problem = installed::trusted(host, &plugin).err().map(|error| plain(&error.message, 300));
                let (name, version, tools) = package::names(&plugin);
                Plugin { name: name.into(), version: Some(version), tools, problem }
            }
            Err(error) => {
                let problem = Some(plain(&error.message, 300));
                Plugin { name: name.into(), version: None, tools: Vec::new(), problem }
            }
        });
        Ok(Output { plugins: plugins.collect(), truncated })
    }
}
