//! `net.sockets`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Count,
    error::ToolError,
    host::Host,
    sockets::{self, Protocol},
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Sockets;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Which {
    /// Those that wait for others.
    Listening,
    /// Those that have another side.
    Connected,
    /// All.
    All,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which ones.
    #[serde(default = "all")]
    which: Which,
    /// Only those with this port, on either side.
    port: Option<u16>,
    /// Most to list, 1 to 500.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Sockets, listening ones first.
    sockets: Vec<Line>,
    /// How many there are.
    total: usize,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    /// What it speaks.
    protocol: Protocol,
    /// Own address and port.
    local: String,
    /// The other side's.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// `listen`, `established`, `time-wait`, ...
    state: &'static str,
    /// User who made it.
    uid: u32,
}

fn all() -> Which {
    Which::All
}

impl Tool for Sockets {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.sockets",
        description: "Lists TCP and UDP sockets, listening and connected, with their states. Use sec.listeners for the processes.",
        examples: &[
            Example { goal: "which ports are open on this device", arguments: r#"{"which": "listening"}"# },
            Example { goal: "who is connected to port 8080", arguments: r#"{"which": "connected", "port": 8080}"# },
        ],
        needs: &["net:read:sockets"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("net:read:sockets").on_network().among_processes()
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut sockets = sockets::list(host)?;
        sockets.retain(|socket| {
            let listening = socket.state == "listen";
            let port = input.port.is_none_or(|port| socket.local.port() == port || socket.remote.port() == port);
            port && (input.which == Which::All || listening == (input.which == Which::Listening))
        });
        sockets.sort_by_key(|socket| (socket.state != "listen", socket.protocol, socket.local.port()));
        let (total, limit) = (sockets.len(), input.limit.index());
        let line = |socket: &sockets::Socket| Line {
            protocol: socket.protocol,
            local: socket.local.to_string(),
            remote: (socket.remote.port() != 0).then(|| socket.remote.to_string()),
            state: socket.state,
            uid: socket.uid,
        };
        Ok(Output { sockets: sockets.iter().take(limit).map(line).collect(), total, truncated: total > limit })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use serde_json::json;

    use super::*;
    use crate::testing::call;

    #[test]
    fn both_ends_of_a_connection_and_its_listener_are_found_by_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let _client = TcpStream::connect(address).expect("connect");
        let list = |which| {
            let answer =
                call::<Sockets>(&Host::device(), json!({"which": which, "port": address.port()})).expect("list");
            answer["sockets"].as_array().expect("list").clone()
        };
        let listening = list("listening");
        assert_eq!((listening.len(), &listening[0]["local"]), (1, &json!(address.to_string())));
        assert_eq!(listening[0].get("remote"), None);
        let connected = list("connected");
        assert_eq!(connected.len(), 2, "{connected:?}");
        assert!(connected.iter().any(|socket| socket["remote"] == address.to_string()));
        assert_eq!(list("all").len(), 3);
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("listen")).collect();
        let answer = call::<Sockets>(&Host::device(), json!({"which": "listening", "limit": 2})).expect("list");
        assert!(answer["total"].as_u64() >= Some(listeners.len() as u64));
        assert_eq!((answer["sockets"].as_array().map(Vec::len), &answer["truncated"]), (Some(2), &json!(true)));
    }
}
