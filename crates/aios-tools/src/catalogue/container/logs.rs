//! `container.logs`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::podman::{self, ContainerName};
use crate::{
    access::Access,
    args::Count,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most that one call returns, in bytes.
const TEXT_MAX: usize = 32 << 10;

pub struct Logs;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the container.
    name: ContainerName,
    /// Last lines to return, 1 to 500.
    #[serde(default)]
    lines: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What it wrote, the newest last; up to 32 KiB.
    text: String,
    /// Whether the beginning of these lines was left out.
    truncated: bool,
}

impl Tool for Logs {
    const SPEC: ToolSpec = ToolSpec {
        name: "container.logs",
        description: "Shows the last lines that a container (podman) wrote to its output and its error output.",
        examples: &[Example {
            goal: "what does the sensor container say",
            arguments: r#"{"name": "sensor", "lines": 20}"#,
        }],
        needs: &["container:read:{name}"],
        timeout: Duration::from_secs(40),
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        podman::access(format!("container:read:{}", input.name))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let path = format!("/containers/{}/logs?stdout=true&stderr=true&tail={}", input.name, input.lines.get());
        let answer = podman::ask(host, "GET", &path, None)?.succeeded()?;
        let text = String::from_utf8_lossy(&joined(&answer.body)).into_owned();
        let from = text.len().saturating_sub(TEXT_MAX);
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Ok(Output { text: text[from..].to_owned(), truncated: from > 0 })
    }
}

/// The frames of both outputs, joined: each has a header of eight bytes, which ends with its length.
fn joined(mut frames: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((header, rest)) = frames.split_at_checked(8) {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let frame = rest.get(..length).unwrap_or(rest);
        text.extend_from_slice(frame);
        frames = &rest[frame.len()..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_joined_and_a_cut_one_is_shown_as_far_as_it_goes() {
        let frames = [&[1, 0, 0, 0, 0, 0, 0, 3][..], b"one", &[2, 0, 0, 0, 0, 0, 0, 9], b"two"].concat();
        assert_eq!(joined(&frames), b"onetwo");
        assert_eq!(joined(&frames[..11]), b"one");
        assert_eq!(joined(&[0; 7]), b"");
        assert_eq!(joined(&[1, 0, 0, 0, 255, 255, 255, 255]), b"");
    }
}
