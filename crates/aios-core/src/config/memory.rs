//! `[memory]`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Violation;
use crate::{
    paths,
    quantity::{ByteSize, HumanDuration},
};

/// `[memory]`. Who may read and write what is said elsewhere, in `policy.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// Unix socket of the gRPC API. Anybody may connect; the policy says what they may do.
    pub socket: PathBuf,
    /// Address and port of the same API over TCP, for example `127.0.0.1:50054`. Needs `token-file` and `token-agent`.
    /// Absent: none.
    pub listen: Option<SocketAddr>,
    /// File with the bearer token that every request over TCP must carry. A relative path is below the unit's credentials.
    pub token_file: Option<PathBuf>,
    /// The agent of the policy that whoever carries the token is.
    pub token_agent: String,
    /// What was not changed for so long leaves the working tier for the long-term one.
    pub working_retention: HumanDuration,
    /// What was not changed for so long leaves the long-term tier, for good. `0s`: never.
    pub long_term_retention: HumanDuration,
    /// Room for all items together.
    pub size_max: ByteSize,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            socket: paths::MEMORY_SOCKET.into(),
            listen: None,
            token_file: None,
            token_agent: String::new(),
            working_retention: HumanDuration(Duration::from_secs(30 * 24 * 3600)),
            long_term_retention: HumanDuration(Duration::ZERO),
            size_max: ByteSize(1 << 30),
        }
    }
}

impl Memory {
    /// The first rule that the values break.
    pub(super) fn violation(&self) -> Option<Violation> {
        let broken = |key, reason: &str| Some(Violation { key, reason: reason.into() });
        if !self.socket.is_absolute() {
            return broken(&["memory", "socket"], "use an absolute path");
        }
        if self.listen.is_some() && (self.token_file.is_none() || self.token_agent.is_empty()) {
            let reason = "over TCP nobody says who calls: set memory.token-file and memory.token-agent as well";
            return broken(&["memory", "listen"], reason);
        }
        if self.working_retention.0 < Duration::from_secs(60) {
            return broken(&["memory", "working-retention"], "use \"1m\" or more");
        }
        if !(1 << 20..=1 << 40).contains(&self.size_max.0) {
            return broken(&["memory", "size-max"], "use \"1MiB\" to \"1024GiB\"");
        }
        None
    }
}
