//! `plugin.remove`

use std::{ffi::CString, time::Duration};

use aios_core::paths;
use aios_plugins::name::Name;
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::installed;
use crate::{
    access::Access,
    beneath::Tree,
    catalogue::fs::remove::remove,
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Remove;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the plugin.
    plugin: Name,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Files and folders that are gone, its data included.
    removed: u64,
}

impl Tool for Remove {
    const SPEC: ToolSpec = ToolSpec {
        name: "plugin.remove",
        description: "Removes a plugin with all that it kept.",
        examples: &[Example { goal: "remove the plugin pump-stats", arguments: r#"{"plugin": "pump-stats"}"# }],
        needs: &["plugin:remove:{plugin}"],
        risk: Risk::High,
        reversible: true,
        timeout: Duration::from_secs(60),
        sinks: &["/plugin"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let mut access = Access::needs(format!("plugin:remove:{}", input.plugin));
        access.write.push(paths::PLUGINS.into());
        access
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let folder = installed::folder(&input.plugin);
        if !host.path(&folder).exists() {
            return Ok(Inverse::Nothing);
        }
        Ok(Inverse::Paths { paths: vec![folder] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if !host.path(installed::folder(&input.plugin)).exists() {
            return Err(installed::missing(&input.plugin));
        }
        let place = Tree::of(host)?.place(&installed::folder(&input.plugin))?;
        let name = CString::new(place.name.as_str()).expect("invariant: a name holds no zero byte");
        let removed = remove(&place.folder, &name).map_err(|error| match error {
            Errno::NOENT => installed::missing(&input.plugin),
            error => place.failed(error),
        })?;
        place.sync()?;
        Ok(Output { removed })
    }
}
