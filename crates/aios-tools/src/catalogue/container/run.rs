//! `container.run`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::podman::{self, ContainerName, ImageName};
use crate::{
    access::Access,
    args::Count,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

/// Most words of a command, and most bytes of each.
const COMMAND_MAX: usize = 64;
const WORD_MAX: usize = 4096;

pub struct Run;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Network {
    /// None.
    None,
    /// A network of its own, from which others can be reached through the device.
    Bridge,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name that the container gets.
    name: ContainerName,
    /// Image, which must be on this device.
    image: ImageName,
    /// Command with its arguments, in place of the image's own one.
    #[serde(default)]
    command: Vec<String>,
    /// Whom it can reach.
    #[serde(default = "none")]
    network: Network,
    /// Most memory that it can have, in MiB, 4 to 65536.
    #[serde(default)]
    memory_mib: Count<4, 65536, 256>,
    /// Most processes that it can have, 1 to 4096.
    #[serde(default)]
    tasks: Count<1, 4096, 64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Beginning of its id.
    id: String,
}

fn none() -> Network {
    Network::None
}

impl Tool for Run {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.run",
        description: "Starts a container from an image that is on this device (podman): no Linux capabilities, read-only root, \
                      bounded memory and processes, no network unless asked for.",
        examples: &[Example {
            goal: "start the sensor container",
            arguments: r#"{"name": "sensor", "image": "localhost/sensor:1", "network": "bridge"}"#,
        }],
        needs: &["container:run:{image}", "container:manage:{name}"],
        risk: Risk::High,
        idempotent: false,
        reversible: true,
        timeout: Duration::from_secs(60),
        sinks: &["/image", "/command", "/network", "/name"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        podman::access(format!("container:run:{}", input.image)).and(format!("container:manage:{}", input.name))
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        // One that is there makes the call fail, and is not to be removed by undoing that.
        if podman::ask(host, "GET", &format!("/containers/{}/exists", input.name), None)?.status == 204 {
            return Ok(Inverse::Nothing);
        }
        let arguments = json!({ "name": input.name, "running_too": true });
        Ok(Inverse::Call { tool: "container.remove".to_owned(), arguments })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let wrong = |word: &String| word.len() > WORD_MAX || word.contains('\0');
        if input.command.len() > COMMAND_MAX || input.command.iter().any(wrong) {
            let text = format!("a command has up to {COMMAND_MAX} words of up to {WORD_MAX} bytes");
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        if podman::ask(host, "GET", &format!("/containers/{}/exists", input.name), None)?.status == 204 {
            let text = format!("there is a container {}; remove it first, or choose another name", input.name);
            return Err(ToolError::new(Code::AlreadyExists, text));
        }
        let created =
            podman::ask(host, "POST", "/containers/create", Some(&specification(&input)))?.succeeded()?.json()?;
        let id: String = created["Id"].as_str().unwrap_or_default().chars().take(12).collect();
        let started = podman::ask(host, "POST", &format!("/containers/{}/start", input.name), None)?.succeeded();
        started.inspect_err(|_| {
            // What could not be started is not left behind; the reason why it could not says more than a second failure.
            let _ = podman::ask(host, "DELETE", &format!("/containers/{}?force=true", input.name), None);
        })?;
        Ok(Output { id })
    }
}

/// What podman calls a SpecGenerator.
fn specification(input: &Input) -> Value {
    let mode = if input.network == Network::None { "none" } else { "bridge" };
    let mut specification = json!({
        "name": input.name,
        "image": input.image,
        "netns": { "nsmode": mode },
        "cap_drop": ["all"],
        "no_new_privileges": true,
        "privileged": false,
        "read_only_filesystem": true,
        "resource_limits": {
            "memory": { "limit": input.memory_mib.get() << 20 },
            "pids": { "limit": input.tasks.get() },
        },
    });
    if !input.command.is_empty() {
        specification["command"] = json!(input.command);
    }
    specification
}
