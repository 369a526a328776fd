//! The first stage: whether the call names a tool that exists and gives it arguments it takes.

use aios_policy::Capability;
use serde_json::Value;

use super::{ARGUMENTS_MAX, Call, GOAL_MAX, Refusal, Stage, below};
use crate::{access::Access, catalogue, sessions, tool::Entry};

/// How deep arguments may be nested.
const DEPTH_MAX: usize = 32;

/// A call whose form is right.
pub(super) struct Formed {
    pub tool: &'static Entry,
    pub arguments: Value,
    pub access: Access,
    pub needs: Vec<Capability>,
    /// What it looks through: some of it may be denied.
    pub through: Vec<Capability>,
}

/// Schema: the tool exists, and these are its arguments.
pub(super) fn form(call: &Call) -> Result<Formed, Refusal> {
    let refused = |message: String, hint: String| Refusal::new(Stage::Schema, message, hint);
    let listed = || "aios tool list names the tools".to_owned();
    let Some(tool) = catalogue::find(&call.tool) else {
        let name: String = call.tool.chars().take(64).collect();
        return Err(refused(format!("there is no tool {name:?}"), listed()));
    };
    let show = || format!("aios tool show {} has the arguments", tool.spec.name);
    for (what, length, most) in
        [("arguments", call.arguments.len(), ARGUMENTS_MAX), ("goal", call.goal.len(), GOAL_MAX)]
    {
        if length > most {
            return Err(refused(format!("the {what} are {length} bytes long, and {most} are allowed"), show()));
        }
    }
    let session = &call.session;
    if session.len() > sessions::NAME_MAX || session.chars().any(char::is_control) {
        let text = format!("a session is named by at most {} bytes without control characters", sessions::NAME_MAX);
        return Err(refused(text, String::new()));
    }
    let arguments: Value = serde_json::from_str(if call.arguments.is_empty() { "{}" } else { &call.arguments })
        .map_err(|error| refused(format!("the arguments are no JSON: {error}"), show()))?;
    if depth(&arguments) > DEPTH_MAX {
        return Err(refused(format!("the arguments are nested more than {DEPTH_MAX} deep"), show()));
    }
    let mut access = tool.access(&arguments).map_err(|error| refused(error.message, show()))?;
    below::extend(&mut access);
    let needs = access.wanted().map_err(|error| refused(error.to_string(), show()))?;
    let through = below::through(&access).map_err(|error| refused(error.to_string(), show()))?;
    Ok(Formed { tool, arguments, access, needs, through })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
