//! `[tools]`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    paths,
    quantity::{ByteSize, HumanDuration},
};

/// `[tools]`. Who may do what is said elsewhere, in `policy.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tools {
    /// Unix socket of the gRPC API. Anybody may connect; the policy says what they may do.
    pub socket: PathBuf,
    /// Calls worked on at once, those that wait for approval included; one more is refused.
    pub max_calls: usize,
    /// A call can be rolled back for so long.
    pub rollback_retention: HumanDuration,
    /// Room for what rollbacks need; the oldest calls lose it first.
    pub rollback_size: ByteSize,
    /// Address and port for clients of the Model Context Protocol over HTTP. Each request needs a token. Absent: none.
    pub mcp_listen: Option<SocketAddr>,
    /// Host names by which they may reach it, beside `localhost` and the address itself.
    pub mcp_hosts: Vec<String>,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            socket: paths::TOOLS_SOCKET.into(),
            max_calls: 128,
            rollback_retention: HumanDuration(Duration::from_secs(30 * 24 * 3600)),
            rollback_size: ByteSize(1 << 30),
            mcp_listen: None,
            mcp_hosts: Vec::new(),
        }
    }
}
