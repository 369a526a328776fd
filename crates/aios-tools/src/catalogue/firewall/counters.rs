//! `firewall.counters`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{nft, rule::RuleId};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

pub struct Counters;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this rule's.
    id: Option<RuleId>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Counters, in the order of the rules.
    counters: Vec<Line>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    /// Name of the rule.
    id: RuleId,
    /// Packets that fitted since the rule is there.
    packets: u64,
    /// Their bytes.
    bytes: u64,
}

impl Tool for Counters {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.counters",
        description: "Says how many packets and bytes each firewall rule has met.",
        examples: &[
            Example { goal: "which firewall rules are hit", arguments: "{}" },
            Example { goal: "how often did rule block-telnet fire", arguments: r#"{"id": "block-telnet"}"# },
        ],
        needs: &["firewall:read:counters"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        nft::access("firewall:read:counters")
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let line = |listed: nft::Listed| {
            let (packets, bytes) = listed.counter?;
            Some(Line { id: listed.rule?.id, packets, bytes })
        };
        let lines = nft::read(host)?.rules.into_iter().filter_map(line);
        Ok(Output { counters: lines.filter(|line| input.id.as_ref().is_none_or(|id| *id == line.id)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::{firewall::add_rule::AddRule, net::TOOLS},
        testing::{apart, call},
    };

    #[test]
    fn packets_that_fit_a_rule_are_counted() {
        apart(|| {
            let host = Host::device();
            let set_link = TOOLS.iter().find(|tool| tool.spec.name == "net.set_link").expect("tool");
            set_link.run(&json!({"interface": "lo", "state": "up"}), &host).expect("up");
            let rule = json!({"id": "seen", "chain": "input", "action": "drop", "protocol": "udp", "ports": {"first": 9, "last": 9}});
            call::<AddRule>(&host, json!({"rule": rule, "confirm_within_s": 0})).expect("add");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            for _ in 0..3 {
                socket.send_to(b"hello", "127.0.0.1:9").expect("send");
            }
            let counters = call::<Counters>(&host, json!({"id": "seen"})).expect("counters");
            assert_eq!(counters["counters"][0]["packets"], 3);
            assert_eq!(call::<Counters>(&host, json!({"id": "none"})), Ok(json!({"counters": []})));
        });
    }
}
