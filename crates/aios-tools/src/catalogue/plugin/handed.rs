//! Calls of plugins' tools.
//!
//! A plugin has no rights of its own but to its data folder. Every other folder is handed over by the call, which takes
//! the capabilities that reading or changing it takes; and the manifest says which folders it can be handed at all. So a
//! plugin does nothing for its caller that the caller could not do itself, and an approver sees the folders.

use std::collections::BTreeMap;

use aios_plugins::{
    CallError, Mount,
    manifest::{self, FolderAccess, Manifest, Risk},
    name::Name,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{installed, package};
use crate::{
    access::Access,
    args::AbsolutePath,
    beneath::Tree,
    error::{Code, ToolError},
    host::Host,
    tool::Inverse,
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the plugin.
    plugin: Name,
    /// Which of its tools.
    tool: Name,
    /// The tool's arguments, as plugin.show describes them.
    #[serde(default)]
    arguments: Map<String, Value>,
    /// Folders that it may read: the plugin's name for it, and where it is on the device.
    #[serde(default)]
    read: BTreeMap<Name, AbsolutePath>,
    /// Folders that it may read and change.
    #[serde(default)]
    write: BTreeMap<Name, AbsolutePath>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What the tool says, as its schema promises.
    result: Value,
}

/// What a call touches.
pub fn access(input: &Input) -> Access {
    let mut access = Access::needs(format!("plugin:call:{}/{}", input.plugin, input.tool));
    for path in input.read.values().chain(input.write.values()) {
        // The folder, and what is below.
        access = access.reads(path).and_below(format!("fs:read:{path}"));
    }
    for path in input.write.values() {
        access = access.writes(path).and_below(format!("fs:write:{path}"));
    }
    // One that is changed is shown once.
    access.read.retain(|path| !access.write.contains(path));
    installed::with_trust(access)
        .sees(installed::folder(&input.plugin))
        .changes(installed::part(&input.plugin, installed::DATA))
}

/// What undoes a call: all folders that it can change, as they are now.
pub fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
    let package = installed::load(host, &input.plugin)?;
    let changes = package.manifest().tool(&input.tool).is_some_and(|tool| tool.risk > Risk::Low);
    if !changes {
        return Ok(Inverse::Nothing);
    }
    let own = package.manifest().data.then(|| installed::part(&input.plugin, installed::DATA));
    let paths: Vec<AbsolutePath> = input.write.values().cloned().chain(own).collect();
    Ok(if paths.is_empty() { Inverse::Nothing } else { Inverse::Paths { paths } })
}

/// Calls a tool whose risk is one of `risks`.
pub fn run(input: Input, host: &Host, risks: std::ops::RangeInclusive<Risk>) -> Result<Output, ToolError> {
    let plugin = installed::load(host, &input.plugin)?;
    installed::trusted(host, &plugin)?;
    let tool = plugin.manifest().tool(&input.tool).ok_or_else(|| {
        let (_, _, tools) = package::names(&plugin);
        let text = format!("plugin {} has no tool {}, but {}", input.plugin, input.tool, tools.join(", "));
        ToolError::new(Code::NotFound, text)
    })?;
    if !risks.contains(&tool.risk) {
        let by = if tool.risk == Risk::High { "plugin.call_high" } else { "plugin.call" };
        let text = format!("{} {} is of {} risk: call it by {by}", input.plugin, tool.name, package::risk(tool.risk));
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    let mounts = mounts(&input, host, plugin.manifest())?;
    let arguments = Value::Object(input.arguments);
    let call = aios_plugins::Call { package: &plugin, tool: &input.tool, arguments: &arguments, mounts };
    aios_plugins::call(call).map(|result| Output { result }).map_err(|error| failed(&error))
}

/// Opens what the plugin is handed: its own folder, and those of the call, where the manifest has them.
fn mounts(input: &Input, host: &Host, manifest: &Manifest) -> Result<Vec<Mount>, ToolError> {
    let tree = Tree::of(host)?;
    let mut mounts = Vec::new();
    if manifest.data {
        let name = Name::try_from(manifest::DATA.to_owned()).expect("invariant: it is a name");
        let folder = tree.folder(&installed::part(&input.plugin, installed::DATA))?;
        mounts.push(Mount { name, folder, writable: true });
    }
    for (folders, access) in [(&input.read, FolderAccess::Read), (&input.write, FolderAccess::Write)] {
        for (name, path) in folders {
            check_folder(manifest, name, path, access)?;
            let writable = access == FolderAccess::Write;
            mounts.push(Mount { name: name.clone(), folder: tree.folder(path)?, writable });
        }
    }
    Ok(mounts)
}

fn check_folder(manifest: &Manifest, name: &Name, path: &AbsolutePath, access: FolderAccess) -> Result<(), ToolError> {
    let refuse = |text: String| Err(ToolError::new(Code::InvalidArgument, text));
    let Some(folder) = manifest.folder(name) else {
        return refuse(format!(
            "plugin {} takes no folder {name}; plugin.show names those that it takes",
            manifest.name
        ));
    };
    if folder.access != access {
        let (key, other) = if folder.access == FolderAccess::Read { ("read", "write") } else { ("write", "read") };
        return refuse(format!("plugin {} takes the folder {name} in `{key}`, not in `{other}`", manifest.name));
    }
    if !folder.takes(path.as_path()) {
        let within: Vec<String> = folder.within.iter().map(|path| path.display().to_string()).collect();
        return refuse(format!("{path} can't be the folder {name}: it has to be within {}", within.join(" or ")));
    }
    Ok(())
}

fn failed(error: &CallError) -> ToolError {
    let code = match error {
        CallError::UnknownTool(_) => Code::NotFound,
        CallError::Arguments(_) => Code::InvalidArgument,
        CallError::Module(_) | CallError::Schema(_) => Code::FailedPrecondition,
        CallError::Fuel(_) | CallError::Memory(_) | CallError::Output(_) | CallError::Write(_) | CallError::Depth => {
            Code::TooLarge
        }
        CallError::Time(_) => Code::TimedOut,
        CallError::Trap { .. } | CallError::Exit { .. } | CallError::Result { .. } => Code::Failed,
    };
    ToolError::new(code, error.to_string())
}
