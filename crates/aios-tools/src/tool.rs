//! What a tool is, and tools of all kinds behind one face.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aios_plugins::schema::Checker;
pub use aios_policy::Risk;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    access::Access,
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
};

/// Where a tool's results come from, and so how far the arguments made of them can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The kernel or this system's own services, about things that nobody outside can name: numbers, states.
    System,
    /// Contents of files and of names in them: whoever wrote the file speaks.
    Files,
    /// Lines of logs: whoever can make a service log something speaks.
    Logs,
    /// The network: anybody speaks.
    Network,
}

/// Something of the device that calls of several tools read and then change: they run one at a time, each from what undoes
/// it to its result, so that none undoes or overwrites half of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Serial {
    /// The table of the firewall, and the change of it that waits for confirmation.
    Firewall,
    /// Links, addresses and routes.
    Network,
    /// The slots of the system.
    Slots,
    /// The device's configuration file.
    Configuration,
}

/// A tool, said in words and figures.
#[derive(Clone, Copy, Debug)]
pub struct ToolSpec {
    /// `namespace.verb` or `namespace.noun`, small letters, digits and `_`: `fs.read`.
    pub name: &'static str,
    /// Grows when arguments or results change.
    pub version: u32,
    /// For people and models: one sentence on what it does, then limits and units.
    pub description: &'static str,
    /// Calls as they are made; at least one. Tests check them against the schema.
    pub examples: &'static [Example],
    /// Patterns of the capabilities that a call can need; `{field}` stands for an argument: `fs:read:{path}`.
    pub needs: &'static [&'static str],
    /// What a mistake costs.
    pub risk: Risk,
    /// Whether a second call with the same arguments changes nothing more.
    pub idempotent: bool,
    /// Whether `aios rollback` undoes it.
    pub reversible: bool,
    /// A call that takes longer is ended.
    pub timeout: Duration,
    /// Arguments (JSON pointers) that do harm if an attacker chose them: tainted values there need a human.
    pub sinks: &'static [&'static str],
    /// Arguments and results (JSON pointers, `/arguments/...` or `/result/...`) that no ledger or log may hold.
    pub secrets: &'static [&'static str],
    /// Where its results come from.
    pub origin: Origin,
    /// What it changes that other tools change, too.
    pub serial: Option<Serial>,
}

impl ToolSpec {
    /// What most tools are: reading, at once, from the system. A tool states what differs.
    pub const DEFAULT: ToolSpec = ToolSpec {
        name: "",
        version: 1,
        description: "",
        examples: &[],
        needs: &[],
        risk: Risk::Low,
        idempotent: true,
        reversible: false,
        timeout: Duration::from_secs(10),
        sinks: &[],
        secrets: &[],
        origin: Origin::System,
        serial: None,
    };

    /// The part of the name before the dot.
    pub fn namespace(&self) -> &'static str {
        self.name.split('.').next().unwrap_or_default()
    }
}

/// One call as it is made.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// What somebody wants: "show the last lines of the system's log".
    pub goal: &'static str,
    /// The arguments, as JSON.
    pub arguments: &'static str,
}

/// What brings back the state before a call. Made before the call, from the state then; so doing it twice, or after a
/// call that was interrupted anywhere, is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Inverse {
    /// This call changes nothing.
    Nothing,
    /// These paths become again what they are now: bytes, mode, owner, times, extended attributes; or nothing, where
    /// there is nothing now.
    Paths {
        /// Files or folders.
        paths: Vec<AbsolutePath>,
    },
    /// A call that sets the state of now. It goes through the whole pipeline.
    Call {
        /// Name of the tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
    },
}

/// A tool: one file below [`crate::catalogue`].
pub trait Tool: 'static {
    /// What it is.
    const SPEC: ToolSpec;
    /// Arguments: a struct with `deny_unknown_fields`, whose fields' types and docs say what is allowed.
    type Input: DeserializeOwned + JsonSchema;
    /// Result.
    type Output: Serialize + JsonSchema;

    /// What a call with these arguments touches. Pure: it looks at nothing but the arguments.
    fn access(input: &Self::Input) -> Access;

    /// What would undo a call with these arguments now. Runs in the sandbox. Only reversible tools have one.
    fn inverse(_input: &Self::Input, _host: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Nothing)
    }

    /// Does it. Runs in the sandbox, which shows it what [`Tool::access`] says.
    fn run(input: Self::Input, host: &Host) -> Result<Self::Output, ToolError>;
}

/// A tool whose types are hidden behind JSON: what catalogue, pipeline and sandbox hold.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What it is.
    pub spec: &'static ToolSpec,
    input_schema: fn() -> Schema,
    output_schema: fn() -> Schema,
    access: fn(&Value) -> Result<Access, ToolError>,
    inverse: fn(&Value, &Host) -> Result<Inverse, ToolError>,
    run: fn(&Value, &Host) -> Result<Value, ToolError>,
}

impl Entry {
    /// The tool `T`.
    pub const fn of<T: Tool>() -> Entry {
        Entry {
            spec: &T::SPEC,
            input_schema: schema::<T::Input>,
            output_schema: schema::<T::Output>,
            access: |arguments| Ok(T::access(&input::<T>(arguments)?)),
            inverse: |arguments, host| T::inverse(&input::<T>(arguments)?, host),
            run: |arguments, host| {
                let output = T::run(input::<T>(arguments)?, host)?;
                serde_json::to_value(output)
                    .map_err(|error| ToolError::new(Code::Failed, format!("the result can't be written: {error}")))
            },
        }
    }

    /// JSON Schema of the arguments.
    pub fn input_schema(&self) -> Schema {
        (self.input_schema)()
    }

    /// JSON Schema of the result.
    pub fn output_schema(&self) -> Schema {
        (self.output_schema)()
    }

    /// What a call touches; an error where the arguments are not this tool's: not of its types, or not as its schema says.
    pub fn access(&self, arguments: &Value) -> Result<Access, ToolError> {
        let access = (self.access)(arguments)?;
        match self.checker()?.violation(arguments) {
            None => Ok(access),
            Some(violation) => Err(ToolError::new(Code::InvalidArgument, violation)),
        }
    }

    /// Checks what types alone don't say: lengths, ranges, patterns. Made at a tool's first call, and kept.
    fn checker(&self) -> Result<Arc<Checker>, ToolError> {
        static CHECKERS: Mutex<BTreeMap<&str, Arc<Checker>>> = Mutex::new(BTreeMap::new());
        let known = || CHECKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checker) = known().get(self.spec.name) {
            return Ok(checker.clone());
        }
        let unusable = |error| ToolError::new(Code::Failed, format!("the schema of {}: {error}", self.spec.name));
        let checker = Arc::new(Checker::new(self.input_schema().as_value()).map_err(unusable)?);
        known().insert(self.spec.name, checker.clone());
        Ok(checker)
    }

    /// What would undo a call now.
    pub fn inverse(&self, arguments: &Value, host: &Host) -> Result<Inverse, ToolError> {
        (self.inverse)(arguments, host)
    }

    /// Does it.
    pub fn run(&self, arguments: &Value, host: &Host) -> Result<Value, ToolError> {
        (self.run)(arguments, host)
    }
}

/// Schemas stand on their own: models and MCP clients follow no references.
fn schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>()
}

fn input<T: Tool>(arguments: &Value) -> Result<T::Input, ToolError> {
    // Serde would take a list for a struct too: `[]` for one whose fields all have defaults.
    if !arguments.is_object() {
        return Err(ToolError::new(Code::InvalidArgument, "the arguments must be an object"));
    }
    T::Input::deserialize(arguments).map_err(|error| ToolError::new(Code::InvalidArgument, error.to_string()))
}
