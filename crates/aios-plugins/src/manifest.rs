//! `plugin.toml`: what a plugin gives, and what it may touch.

use std::{
    path::{Component, PathBuf},
    time::Duration,
};

use aios_core::quantity::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    name::Name,
    schema::{self, SchemaError},
};

/// Longest manifest, in bytes.
pub const MANIFEST_MAX: u64 = 256 << 10;
/// Name of the plugin's own folder, in the module's view.
pub const DATA: &str = "data";

const DESCRIPTION_MAX: usize = 1000;
const VERSION_MAX: usize = 32;
const TOOLS_MAX: usize = 64;
const FOLDERS_MAX: usize = 8;
const WITHIN_MAX: usize = 16;

/// Bounds of the limits: least and most.
const FUEL: (u64, u64) = (1_000, 100_000_000_000);
const MEMORY: (u64, u64) = (64 << 10, 64 << 20);
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
const OUTPUT: (u64, u64) = (1, 1 << 20);
const WRITE: (u64, u64) = (0, 128 << 20);

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Its name: that of its folder, and part of the capabilities that calls of it take.
    pub name: Name,
    /// Its version, for people.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// Whether it has a folder of its own, at `/data`, that stays between calls.
    #[serde(default)]
    pub data: bool,
    /// How much one call may use.
    #[serde(default)]
    pub limits: Limits,
    /// Folders that a call can hand to it.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// The tools that it gives.
    pub tools: Vec<ToolEntry>,
}

/// How much one call may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Instructions of the interpreter, roughly; functions of the host cost some by what they do.
    pub fuel: u64,
    /// The module's memory.
    pub memory: ByteSize,
    /// Time from start to end.
    pub timeout: HumanDuration,
    /// The result, as JSON.
    pub output: ByteSize,
    /// Bytes written to files; a new file or folder counts 4 KiB more.
    pub write: ByteSize,
}

/// A folder that a call can hand over. The module sees it as `/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Folder {
    /// Its name.
    pub name: Name,
    /// What the plugin does in it.
    pub access: FolderAccess,
    /// Folders of the device: these, and those below them, can be handed over.
    pub within: Vec<PathBuf>,
}

/// What a plugin does in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAccess {
    /// It reads.
    Read,
    /// It reads, makes, changes and removes.
    Write,
}

/// A tool that a plugin gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolEntry {
    /// Its name; the module gets it as its first argument.
    pub name: Name,
    /// What it does.
    pub description: String,
    /// What a mistake costs. One of low risk can change nothing, the plugin's own folder included.
    pub risk: Risk,
    /// JSON Schema of the arguments: an object.
    pub input: Value,
    /// JSON Schema of the result.
    pub output: Value,
}

/// What a mistake costs. A plugin has nothing whose loss would be critical for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Nothing: it only reads.
    Low,
    /// What can be made again.
    Medium,
    /// A human should look at each call.
    High,
}

/// Why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no TOML, or has other keys than a manifest.
    #[error("plugin.toml: {0}")]
    Form(String),
    /// A value is not allowed.
    #[error("plugin.toml: {key}: {reason}")]
    Value {
        /// Which.
        key: String,
        /// What is allowed.
        reason: String,
    },
    /// A schema can't be used.
    #[error("plugin.toml: the schema `{key}` of tool {tool}: {source}")]
    Schema {
        /// Name of the tool.
        tool: Name,
        /// `input` or `output`.
        key: &'static str,
        /// Why.
        source: SchemaError,
    },
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel: 1_000_000_000,
            memory: ByteSize(16 << 20),
            timeout: HumanDuration(Duration::from_secs(10)),
            output: ByteSize(256 << 10),
            write: ByteSize(16 << 20),
        }
    }
}

impl Manifest {
    /// Reads a manifest and checks it, its schemas included.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        // The parser's own text shows the line, which can hold anything: one line of it suffices.
        let form = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            ManifestError::Form(format!("line {line}: {}", error.message()))
        };
        if text.len() as u64 > MANIFEST_MAX {
            return Err(ManifestError::Form(format!("is longer than {MANIFEST_MAX} bytes")));
        }
        let manifest: Manifest = toml::from_str(text).map_err(form)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The tool of this name.
    pub fn tool(&self, name: &Name) -> Option<&ToolEntry> {
        self.tools.iter().find(|tool| tool.name == *name)
    }

    /// The folder of this name.
    pub fn folder(&self, name: &Name) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.name == *name)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let plain = |text: &str, most: usize| {
            !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
        };
        let refuse = |key: &str, reason: String| Err(ManifestError::Value { key: key.to_owned(), reason });
        if !plain(&self.version, VERSION_MAX) || self.version.contains(char::is_whitespace) {
            return refuse("version", format!("use 1 to {VERSION_MAX} characters without spaces"));
        }
        if !plain(&self.description, DESCRIPTION_MAX) {
            return refuse("description", format!("use one line of 1 to {DESCRIPTION_MAX} characters"));
        }
        self.limits.check()?;
        if self.folders.len() > FOLDERS_MAX {
            return refuse("folders", format!("up to {FOLDERS_MAX} are possible"));
        }
        for (index, folder) in self.folders.iter().enumerate() {
            folder.check()?;
            if self.folders[..index].iter().any(|other| other.name == folder.name) {
                return refuse("folders", format!("two have the name {}", folder.name));
            }
        }
        if !(1..=TOOLS_MAX).contains(&self.tools.len()) {
            return refuse("tools", format!("a plugin gives 1 to {TOOLS_MAX}"));
        }
        for (index, tool) in self.tools.iter().enumerate() {
            if !plain(&tool.description, DESCRIPTION_MAX) {
                let reason = format!("{}: use one line of 1 to {DESCRIPTION_MAX} characters", tool.name);
                return refuse("tools.description", reason);
            }
            if self.tools[..index].iter().any(|other| other.name == tool.name) {
                return refuse("tools", format!("two have the name {}", tool.name));
            }
            tool.check()?;
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), ManifestError> {
        fn within<T: PartialOrd>(
            key: &str,
            value: T,
            (least, most): (T, T),
            show: impl Fn(T) -> String,
        ) -> Result<(), ManifestError> {
            if (&least..=&most).contains(&&value) {
                return Ok(());
            }
            let reason = format!("use {} to {}", show(least), show(most));
            Err(ManifestError::Value { key: format!("limits.{key}"), reason })
        }
        let size = |bytes| format!("\"{}\"", ByteSize(bytes));
        within("fuel", self.fuel, FUEL, |fuel| fuel.to_string())?;
        within("memory", self.memory.0, MEMORY, size)?;
        within("timeout", self.timeout.0, TIMEOUT, |time| format!("\"{}\"", HumanDuration(time)))?;
        within("output", self.output.0, OUTPUT, size)?;
        within("write", self.write.0, WRITE, size)
    }
}

impl Folder {
    /// Whether the folder `path` of the device can be handed over as this one.
    pub fn takes(&self, path: &std::path::Path) -> bool {
        self.within.iter().any(|within| path.starts_with(within))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let refuse =
            |reason: String| Err(ManifestError::Value { key: format!("folders: {}: within", self.name), reason });
        if self.name.as_str() == DATA {
            return refuse(format!("the name {DATA} is that of the plugin's own folder"));
        }
        if !(1..=WITHIN_MAX).contains(&self.within.len()) {
            return refuse(format!("name 1 to {WITHIN_MAX} folders"));
        }
        let only_names = |path: &PathBuf| {
            let mut parts = path.components();
            parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        match self.within.iter().find(|path| !only_names(path)) {
            Some(path) => refuse(format!("{:?} is not absolute, or holds \"..\"", path.display().to_string())),
            None => Ok(()),
        }
    }
}

impl ToolEntry {
    fn check(&self) -> Result<(), ManifestError> {
        let failed = |key| move |source| ManifestError::Schema { tool: self.name.clone(), key, source };
        if self.input.get("type") != Some(&Value::from("object")) {
            return Err(failed("input")(SchemaError::NoObject));
        }
        schema::Checker::new(&self.input).map_err(failed("input"))?;
        schema::Checker::new(&self.output).map_err(failed("output"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
