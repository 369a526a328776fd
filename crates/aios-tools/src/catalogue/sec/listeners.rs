//! `sec.listeners`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    error::ToolError,
    facts::Fact,
    host::Host,
    sockets::{self, Holder, Protocol},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most that one call lists.
const LISTENERS_MAX: usize = 200;

/// Most processes of one socket that are listed.
const HOLDERS_MAX: usize = 8;

pub struct Listeners;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only those that can be reached from outside: not those of loopback addresses.
    #[serde(default)]
    exposed_only: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Sockets that wait for others, by port.
    listeners: Vec<Line>,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    /// What it speaks.
    protocol: Protocol,
    /// Address and port.
    local: String,
    /// Whether it can be reached from outside, as far as the firewall lets it.
    exposed: bool,
    /// User who made it.
    uid: u32,
    /// Processes that hold it.
    processes: Vec<Holder>,
}

impl Tool for Listeners {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.listeners",
        description: "Lists the TCP and UDP ports that wait for others, with the processes behind them. Up to 200.",
        examples: &[
            Example { goal: "which services can be reached from the network", arguments: r#"{"exposed_only": true}"# },
            Example { goal: "which process listens on port 8080", arguments: "{}" },
        ],
        needs: &["sec:read:listeners"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("sec:read:listeners").on_network().among_processes().knows(Fact::Sockets).with(Privilege::ReadAll)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut listening = sockets::list(host)?;
        let exposed = |socket: &sockets::Socket| !socket.local.ip().to_canonical().is_loopback();
        listening.retain(|socket| socket.state == "listen" && (!input.exposed_only || exposed(socket)));
        listening.sort_by_key(|socket| (socket.local.port(), socket.protocol));
        let truncated = listening.len() > LISTENERS_MAX;
        let holders = sockets::holders(host);
        let line = |socket: sockets::Socket| Line {
            protocol: socket.protocol,
            local: socket.local.to_string(),
            exposed: exposed(&socket),
            uid: socket.uid,
            processes: holders.get(&socket.inode).into_iter().flatten().take(HOLDERS_MAX).cloned().collect(),
        };
        Ok(Output { listeners: listening.into_iter().take(LISTENERS_MAX).map(line).collect(), truncated })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;
    use crate::testing::call;

    #[test]
    fn a_listener_is_shown_with_its_process_and_whether_it_is_exposed() {
        let local = TcpListener::bind("127.0.0.1:0").expect("listen");
        let open = TcpListener::bind("0.0.0.0:0").expect("listen");
        let find = |arguments, listener: &TcpListener| {
            let address = listener.local_addr().expect("address").to_string();
            let answer = call::<Listeners>(&Host::device(), arguments).expect("list");
            answer["listeners"].as_array().expect("list").iter().find(|line| line["local"] == address.as_str()).cloned()
        };
        let line = find(json!({}), &local).expect("the local one");
        assert_eq!(line["exposed"], false);
        assert!(line["processes"].as_array().expect("list").iter().any(|holder| holder["pid"] == std::process::id()));
        assert_eq!(find(json!({"exposed_only": true}), &local), None);
        assert_eq!(find(json!({"exposed_only": true}), &open).expect("the open one")["exposed"], true);
    }
}
