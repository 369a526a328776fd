//! `container.remove`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::podman::{self, ContainerName};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Risk, Tool, ToolSpec},
};

pub struct Remove;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the container.
    name: ContainerName,
    /// Also where it runs.
    #[serde(default)]
    running_too: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether it was there; always so where this succeeds.
    removed: bool,
}

impl Tool for Remove {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.remove",
        description: "Removes a container (podman) with all that it has written. Its image stays.",
        examples: &[Example { goal: "remove the sensor container", arguments: r#"{"name": "sensor"}"# }],
        needs: &["container:manage:{name}"],
        risk: Risk::High,
        idempotent: false,
        timeout: Duration::from_secs(40),
        sinks: &["/name"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        podman::access(format!("container:manage:{}", input.name))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let path = format!("/containers/{}?force={}", input.name, input.running_too);
        podman::ask(host, "DELETE", &path, None)?.succeeded()?;
        Ok(Output { removed: true })
    }
}
