//! `email.check`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::smtp::{self, Server};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Check;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The server: host and port.
    server: String,
    /// Whether the connection is protected by TLS.
    encrypted: bool,
    /// Whether user and password were right; `false` where none are configured.
    logged_in: bool,
}

impl Tool for Check {
    const SPEC: ToolSpec = ToolSpec {
        name: "email.check",
        description: "Connects to the mail server of this device and logs in, without sending anything.",
        examples: &[Example { goal: "does sending mail work", arguments: "{}" }],
        needs: &["email:check:server"],
        timeout: Duration::from_secs(60),
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        smtp::access(Access::needs("email:check:server"))
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let server = Server::read(host)?;
        let (mut connection, logged_in) = server.connect(host)?;
        let encrypted = connection.is_encrypted();
        // All that was asked is known; a server that does not say goodbye changes nothing about that.
        let _ = connection.quit();
        Ok(Output { server: server.to_string(), encrypted, logged_in })
    }
}
