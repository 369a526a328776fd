//! `container.images`

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

pub struct Images;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Most to list, 1 to 200.
    #[serde(default)]
    limit: Count<1, 200, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Images.
    images: Vec<Image>,
    /// How many there are.
    total: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Image {
    /// Its names with their tags.
    names: Vec<String>,
    /// Beginning of its id.
    id: String,
    size_bytes: u64,
}

impl Tool for Images {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.images",
        description: "Lists the container images that are on this device (podman).",
        examples: &[Example { goal: "which container images can be run", arguments: "{}" }],
        needs: &["container:read:images"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        podman::access("container:read:images")
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let answer = podman::ask(host, "GET", "/images/json", None)?.succeeded()?.json()?;
        let listed = answer.as_array().cloned().unwrap_or_default();
        let image = |entry: &serde_json::Value| Image {
            names: entry["RepoTags"]
                .as_array()
                .into_iter()
                .flatten()
                .take(8)
                .filter_map(|name| Some(plain(name.as_str()?, 200)))
                .collect(),
            id: plain(entry["Id"].as_str().unwrap_or_default(), 100).chars().take(12).collect(),
            size_bytes: entry["Size"].as_u64().unwrap_or_default(),
        };
        Ok(Output { images: listed.iter().take(input.limit.index()).map(image).collect(), total: listed.len() })
    }
}
