//! `self.tools`

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    catalogue,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Risk, Tool, ToolSpec},
};

pub struct Tools;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only tools of this namespace, such as `net`, then with descriptions and examples; absent for the names of all.
    #[serde(default)]
    namespace: Option<Namespace>,
}

/// First part of tools' names.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Namespace(String);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Tools by namespace and name.
    tools: Vec<Listed>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// Name.
    name: &'static str,
    /// `low`, `medium`, or `high` and `critical`, which a human approves.
    #[schemars(with = "String")]
    risk: Risk,
    /// Whether a call of it can be rolled back.
    reversible: bool,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    /// Arguments of a call, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'static str>,
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if (1..=32).contains(&name.len()) && name.bytes().all(is_letter) {
            return Ok(Namespace(name));
        }
        Err(format!("{name:?} is not a namespace of tools; one is for example net"))
    }
}

impl JsonSchema for Namespace {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Namespace".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9_]{1,32}$" })
    }
}

impl Tool for Tools {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.tools",
        description: "Lists the tools of this device with their risk; those of one namespace with what they do and an example.",
        examples: &[
            Example { goal: "what can be done on this device", arguments: "{}" },
            Example { goal: "what can be done with the network", arguments: r#"{"namespace": "net"}"# },
        ],
        needs: &["self:read:tools"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:read:tools")
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let wanted = input.namespace.map(|namespace| namespace.0);
        let of_namespace = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let tools: Vec<Listed> = catalogue::all()
            .map(|tool| tool.spec)
            .filter(|spec| of_namespace(spec.namespace()))
            .map(|spec| Listed {
                name: spec.name,
                risk: spec.risk,
                reversible: spec.reversible,
                description: wanted.is_some().then_some(spec.description),
                example: wanted.is_some().then(|| spec.examples[0].arguments),
            })
            .collect();
        if tools.is_empty() {
            let text = format!(
                "there are no tools in {}; self.tools without a namespace lists all",
                wanted.unwrap_or_default()
            );
            return Err(ToolError::new(Code::NotFound, text));
        }
        Ok(Output { tools })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(arguments: serde_json::Value) -> Result<Output, ToolError> {
        Tools::run(serde_json::from_value(arguments).expect("arguments"), &Host::device())
    }

    #[test]
    fn all_are_listed_briefly_and_a_namespace_at_length() {
        let all = tools(serde_json::json!({})).expect("tools");
        assert_eq!(all.tools.len(), catalogue::all().count());
        assert!(all.tools.iter().all(|tool| tool.description.is_none()));
        let own = tools(serde_json::json!({"namespace": "self"})).expect("tools");
        assert!(own.tools.iter().all(|tool| tool.name.starts_with("self.") && tool.description.is_some()));
        let none = tools(serde_json::json!({"namespace": "nothing"})).map_err(|error| error.code);
        assert_eq!(none.err(), Some(Code::NotFound));
    }
}
