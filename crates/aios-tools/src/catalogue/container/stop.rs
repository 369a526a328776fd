//! `container.stop`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::podman::{self, ContainerName};
use crate::{
    access::Access,
    args::Count,
    error::ToolError,
    host::Host,
    tool::{Example, Risk, Tool, ToolSpec},
};

pub struct Stop;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the container.
    name: ContainerName,
    /// Seconds that it has to end by itself before it is killed, 0 to 20.
    #[serde(default)]
    grace_s: Count<0, 20, 10>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether it was running.
    changed: bool,
}

impl Tool for Stop {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.stop",
        description: "Stops a container (podman). What it kept in memory is lost.",
        examples: &[Example { goal: "stop the sensor container", arguments: r#"{"name": "sensor"}"# }],
        needs: &["container:manage:{name}"],
        risk: Risk::High,
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
        let path = format!("/containers/{}/stop?timeout={}", input.name, input.grace_s.get());
        let answer = podman::ask(host, "POST", &path, None)?.succeeded()?;
        Ok(Output { changed: answer.status != 304 })
    }
}
