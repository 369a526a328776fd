//! Plugins as they come, and what is told of one.

use aios_plugins::{
    manifest::{FolderAccess, Manifest, Risk},
    module::Module,
    name::Name,
    package::Package,
};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::installed::broken;
use crate::{
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
};

/// Reads the plugin in a folder, or in a `.tar` archive.
pub fn read(host: &Host, path: &AbsolutePath) -> Result<Package, ToolError> {
    let tree = Tree::of(host)?;
    let package = match Kind::of(&tree.place(path)?.existing()?) {
        Kind::Folder => Package::read(tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?),
        _ => Package::read_archive(std::io::BufReader::new(tree.file(path)?)),
    };
    package.map_err(|error| broken(&error))
}

/// Checks that the module of `package` can run.
pub fn check_module(package: &Package) -> Result<(), ToolError> {
    let memory = package.manifest().limits.memory.0;
    let checked = Module::new(package.module()).and_then(|module| module.check_start(memory));
    checked.map_err(|error| ToolError::new(Code::InvalidArgument, error.to_string()))
}

/// What a plugin may do: what somebody should read before it is installed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Described {
    /// Name.
    name: String,
    /// Version.
    version: String,
    /// What it is for, in its maker's words.
    description: String,
    /// Names exactly these files, in hexadecimal digits.
    digest: String,
    /// Size of the module, in bytes.
    module_bytes: usize,
    /// Whether it has a folder of its own that stays.
    data: bool,
    /// Folders that a call can hand to it.
    folders: Vec<Folder>,
    /// How much one call may use.
    limits: Limits,
    /// Its tools.
    tools: Vec<Tool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Folder {
    /// Name: the key in `read` or `write` of a call.
    name: String,
    /// `read` or `write`.
    access: &'static str,
    /// It has to be one of these, or below.
    within: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Limits {
    /// Units of fuel: instructions, roughly.
    fuel: u64,
    /// Memory, in bytes.
    memory: u64,
    /// Time, in milliseconds.
    timeout_ms: u64,
    /// Result, in bytes of JSON.
    output: u64,
    /// Written to files, in bytes.
    write: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Tool {
    /// Name.
    name: String,
    /// What it does, in its maker's words.
    description: String,
    /// `low` reads, `medium` can change its folders, `high` needs plugin.call_high.
    risk: &'static str,
    /// JSON Schema of its arguments.
    input: Value,
    /// JSON Schema of its result.
    output: Value,
}

impl Described {
    /// What `package` says about itself.
    pub fn of(package: &Package) -> Described {
        let Manifest { name, version, description, data, limits, folders, tools } = package.manifest().clone();
        Described {
            name: name.into(),
            version,
            description,
            digest: package.digest(),
            module_bytes: package.module().len(),
            data,
            folders: folders
                .into_iter()
                .map(|folder| Folder {
                    name: folder.name.into(),
                    access: match folder.access {
                        FolderAccess::Read => "read",
                        FolderAccess::Write => "write",
                    },
                    within: folder.within.iter().map(|path| path.display().to_string()).collect(),
                })
                .collect(),
            limits: Limits {
                fuel: limits.fuel,
                memory: limits.memory.0,
                timeout_ms: u64::try_from(limits.timeout.0.as_millis()).unwrap_or(u64::MAX),
                output: limits.output.0,
                write: limits.write.0,
            },
            tools: tools
                .into_iter()
                .map(|tool| Tool {
                    name: tool.name.into(),
                    description: tool.description,
                    risk: risk(tool.risk),
                    input: tool.input,
                    output: tool.output,
                })
                .collect(),
        }
    }
}

/// A risk in words.
pub fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    }
}

/// Name and version of `package`, and the names of its tools.
pub fn names(package: &Package) -> (Name, String, Vec<String>) {
    let manifest = package.manifest();
    let tools = manifest.tools.iter().map(|tool| tool.name.to_string()).collect();
    (manifest.name.clone(), manifest.version.clone(), tools)
}
