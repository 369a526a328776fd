//! Slots of the system, through `rauc`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    program,
    text::plain,
};

const RAUC: &str = "/usr/bin/rauc";

/// Most that `rauc` may answer with, in bytes.
const ANSWER_MAX: u64 = 256 << 10;

/// Name of a slot: `rootfs.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName(String);

/// What `rauc` says of the slots.
pub struct Status {
    /// Boot name of the slot that runs.
    pub booted: Option<String>,
    /// Slot that the boot loader tries first.
    pub primary: Option<String>,
    /// Slots.
    pub slots: Vec<Slot>,
}

/// A slot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its name for the boot loader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_name: Option<String>,
    /// `booted`, `active` or `inactive`.
    pub state: String,
    /// Whether the boot loader takes it for one that works: `good` or `bad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_status: Option<String>,
    /// Version of the bundle that was installed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What asking `rauc` takes: its configuration, and its service on the bus, which does the work.
pub fn access(capability: impl Into<String>) -> Access {
    Access::needs(capability).runs(RAUC).sees("/etc/rauc").sees("/proc/cmdline").talks_to("/run/dbus/system_bus_socket")
}

/// The slots now.
pub fn status(host: &Host) -> Result<Status, ToolError> {
    let answer = run(host, &["status", "--detailed", "--output-format=json"])?.json("rauc")?;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(|text| plain(text, 100));
    let named = answer["slots"].as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
    let slot = |(name, slot): (&String, &Value)| Slot {
        name: plain(name, 100),
        boot_name: text(&slot["bootname"]),
        state: text(&slot["state"]).unwrap_or_default(),
        boot_status: text(&slot["boot_status"]),
        version: text(&slot["slot_status"]["bundle"]["version"]),
    };
    Ok(Status {
        booted: text(&answer["booted"]),
        primary: text(&answer["boot_primary"]),
        slots: named.map(slot).collect(),
    })
}

impl Status {
    /// The slot `name`, one that the boot loader can start.
    pub fn slot(&self, name: &SlotName) -> Result<&Slot, ToolError> {
        let found = self.slots.iter().find(|slot| slot.name == name.0 && slot.boot_name.is_some());
        found.ok_or_else(|| {
            ToolError::new(Code::NotFound, format!("there is no bootable slot {}; pkg.slots lists them", name.0))
        })
    }
}

/// Marks a slot: `verb` is `mark-good`, `mark-bad` or `mark-active`.
pub fn mark(host: &Host, verb: &str, slot: &SlotName) -> Result<(), ToolError> {
    run(host, &["status", verb, &slot.0]).map(|_| ())
}

fn run(host: &Host, arguments: &[&str]) -> Result<program::Finished, ToolError> {
    let rauc = host.program(RAUC, "the package rauc")?;
    let finished = program::run(&rauc, arguments, &[("LC_ALL", "C")], &[], ANSWER_MAX)?;
    finished.succeeded("rauc", |complaint| if complaint.contains("D-Bus") { Code::Unavailable } else { Code::Failed })
}

impl std::fmt::Display for SlotName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SlotName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let right = name.split_once('.').is_some_and(|(class, number)| {
            let letters =
                (1..=32).contains(&class.len()) && class.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            letters
                && !class.starts_with('-')
                && (1..=3).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if right {
            Ok(SlotName(name))
        } else {
            Err(format!("{name:?} is not the name of a slot, for example rootfs.0"))
        }
    }
}

impl From<SlotName> for String {
    fn from(name: SlotName) -> String {
        name.0
    }
}

impl JsonSchema for SlotName {
    fn schema_name() -> Cow<'static, str> {
        "SlotName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z][a-z-]{0,31}\\.[0-9]{1,3}$" })
    }
}
