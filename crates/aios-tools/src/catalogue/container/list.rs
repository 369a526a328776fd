//! `container.list`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::podman;
use crate::{
    access::Access,
    args::Count,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only those that run.
    #[serde(default)]
    running_only: bool,
    /// Most to list, 1 to 200.
    #[serde(default)]
    limit: Count<1, 200, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Containers.
    containers: Vec<Container>,
    /// How many there are.
    total: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Container {
    name: String,
    image: String,
    /// `running`, `exited`, `created`, ...
    state: String,
    /// What it ended with, where it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.list",
        description: "Lists the containers of this device (podman), running and ended ones.",
        examples: &[Example { goal: "which containers are running", arguments: r#"{"running_only": true}"# }],
        needs: &["container:read:containers"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        podman::access("container:read:containers")
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let path = format!("/containers/json?all={}", !input.running_only);
        let answer = podman::ask(host, "GET", &path, None)?.succeeded()?.json()?;
        let listed = answer.as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| plain(value.as_str().unwrap_or_default(), 200);
        let container = |entry: &serde_json::Value| {
            let state = text(&entry["State"]);
            let exit_code = entry["ExitCode"].as_i64().filter(|_| state == "exited");
            Container { name: text(&entry["Names"][0]), image: text(&entry["Image"]), state, exit_code }
        };
        let containers = listed.iter().take(input.limit.index()).map(container).collect();
        Ok(Output { containers, total: listed.len() })
    }
}
