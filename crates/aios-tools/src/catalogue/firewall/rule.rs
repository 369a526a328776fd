//! A rule, as callers give it and as `nft` has it (libnftables-json(5)).

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::{Interface, Network, Prefix};

/// Name of a rule: small letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleId(String);

/// Where packets are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Chain {
    /// Those to this device.
    Input,
    /// Those through it.
    Forward,
    /// Those from it.
    Output,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It passes.
    Accept,
    /// It is thrown away.
    Drop,
    /// It is thrown away, and its sender is told.
    Reject,
}

/// What happens to packets that no rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// They pass.
    #[default]
    Accept,
    /// They are thrown away.
    Drop,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

/// What the kernel knows of the connection that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    Established,
    Related,
    New,
    Invalid,
}

/// Ports from the first to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// A rule: packets that fit all that is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, unique in the table.
    pub id: RuleId,
    /// Where packets are looked at.
    pub chain: Chain,
    /// What happens to those that fit.
    pub action: Action,
    /// Interface that they came in by, in the chain `output` that they leave by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Network that they come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Network>,
    /// Network that they go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Network>,
    /// What they carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Carries>,
    /// Ports that they go to; `protocol` must be tcp or udp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// What the kernel knows of their connections: one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
}

impl Chain {
    /// All chains, in the order of the table.
    pub const ALL: [Chain; 3] = [Chain::Input, Chain::Forward, Chain::Output];

    /// Name, in the table and in capabilities.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Input => "input",
            Chain::Forward => "forward",
            Chain::Output => "output",
        }
    }
}

impl Carries {
    /// Number of the protocol: a name would be looked up in a file that the image may lack.
    fn number(self) -> u8 {
        match self {
            Carries::Tcp => 6,
            Carries::Udp => 17,
            Carries::Icmp => 1,
            Carries::Icmpv6 => 58,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Carries::Tcp => "tcp",
            Carries::Udp => "udp",
            Carries::Icmp => "icmp",
            Carries::Icmpv6 => "icmpv6",
        }
    }

    const ALL: [Carries; 4] = [Carries::Tcp, Carries::Udp, Carries::Icmp, Carries::Icmpv6];
}

impl Rule {
    /// What can't be a rule, though each part is right by itself.
    pub fn check(&self) -> Result<(), String> {
        let refused = |text: &str| Err(format!("rule {}: {text}", self.id));
        if let Some(ports) = self.ports {
            if !matches!(self.protocol, Some(Carries::Tcp | Carries::Udp)) {
                return refused("ports need the protocol tcp or udp");
            }
            if ports.first == 0 || ports.first > ports.last {
                return refused("ports go from first to last, and begin at 1");
            }
        }
        let is_ipv4 = |network: Network| network.prefix().address.is_ipv4();
        if self.source.zip(self.destination).is_some_and(|(source, to)| is_ipv4(source) != is_ipv4(to)) {
            return refused("source and destination must both be of IPv4, or both of IPv6");
        }
        if self.connections.iter().enumerate().any(|(at, state)| self.connections[..at].contains(state)) {
            return refused("connections names a state twice");
        }
        Ok(())
    }

    /// As `nft` takes it.
    pub fn json(&self) -> Value {
        let mut matches = Vec::new();
        let mut push = |op: &str, left: Value, right: Value| {
            matches.push(json!({ "match": { "op": op, "left": left, "right": right } }));
        };
        if let Some(interface) = &self.interface {
            let key = if self.chain == Chain::Output { "oifname" } else { "iifname" };
            push("==", json!({ "meta": { "key": key } }), json!(interface));
        }
        for (field, network) in [("saddr", self.source), ("daddr", self.destination)] {
            let Some(network) = network else { continue };
            let Prefix { address, length } = network.prefix();
            let protocol = if address.is_ipv4() { "ip" } else { "ip6" };
            let right = json!({ "prefix": { "addr": address, "len": length } });
            push("==", json!({ "payload": { "protocol": protocol, "field": field } }), right);
        }
        match (self.protocol, self.ports) {
            (Some(protocol), Some(Ports { first, last })) => {
                let right = if first == last { json!(first) } else { json!({ "range": [first, last] }) };
                push("==", json!({ "payload": { "protocol": protocol.name(), "field": "dport" } }), right);
            }
            (Some(protocol), None) => push("==", json!({ "meta": { "key": "l4proto" } }), json!(protocol.number())),
            (None, _) => {}
        }
        if !self.connections.is_empty() {
            push("in", json!({ "ct": { "key": "state" } }), json!(self.connections));
        }
        matches.push(json!({ "counter": { "packets": 0, "bytes": 0 } }));
        matches.push(match self.action {
            Action::Accept => json!({ "accept": null }),
            Action::Drop => json!({ "drop": null }),
            Action::Reject => json!({ "reject": { "type": "icmpx", "expr": "port-unreachable" } }),
        });
        json!({ "family": "inet", "table": "aios", "chain": self.chain.name(), "comment": self.id, "expr": matches })
    }

    /// What `nft` lists; `None` where [`Rule::json`] did not make it.
    pub fn read(rule: &Value) -> Option<Rule> {
        let mut read = Rule {
            id: RuleId::try_from(rule["comment"].as_str()?.to_owned()).ok()?,
            chain: serde_json::from_value(rule["chain"].clone()).ok()?,
            action: Action::Drop,
            interface: None,
            source: None,
            destination: None,
            protocol: None,
            ports: None,
            connections: Vec::new(),
        };
        let (last, rest) = rule["expr"].as_array()?.split_last()?;
        read.action = match last.as_object()?.keys().next()?.as_str() {
            "accept" => Action::Accept,
            "drop" => Action::Drop,
            "reject" => Action::Reject,
            _ => return None,
        };
        for part in rest {
            if part["counter"].is_object() {
                continue;
            }
            read.take(&part["match"])?;
        }
        (read.check().is_ok()).then_some(read)
    }

    fn take(&mut self, part: &Value) -> Option<()> {
        let (left, right) = (&part["left"], &part["right"]);
        if !matches!(part["op"].as_str()?, "==" | "in") {
            return None;
        }
        match (left["meta"]["key"].as_str(), left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str()) {
            (Some("iifname" | "oifname"), ..) => self.interface = Some(serde_json::from_value(right.clone()).ok()?),
            (Some("l4proto"), ..) => {
                let is = |carries: &Carries| {
                    right == carries.name()
                        || right == carries.number()
                        || (*carries == Carries::Icmpv6 && right == "ipv6-icmp")
                };
                self.protocol = Some(Carries::ALL.into_iter().find(is)?);
            }
            (_, Some("ip" | "ip6"), Some("saddr")) => self.source = Some(network(right)?),
            (_, Some("ip" | "ip6"), Some("daddr")) => self.destination = Some(network(right)?),
            (_, Some(protocol), Some("dport")) => {
                self.protocol = Some(serde_json::from_value(json!(protocol)).ok()?);
                let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
                self.ports = Some(match right["range"].as_array().map(Vec::as_slice) {
                    Some([first, last]) => Ports { first: port(first)?, last: port(last)? },
                    _ => Ports { first: port(right)?, last: port(right)? },
                });
            }
            _ if left["ct"]["key"] == "state" => {
                let list = if right.is_array() { right.clone() } else { json!([right]) };
                self.connections = serde_json::from_value(list).ok()?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// `nft` lists a network of one host as an address.
fn network(value: &Value) -> Option<Network> {
    if let Some(address) = value.as_str() {
        let length = if address.contains(':') { 128 } else { 32 };
        return format!("{address}/{length}").parse().ok();
    }
    let prefix = &value["prefix"];
    format!("{}/{}", prefix["addr"].as_str()?, prefix["len"].as_u64()?).parse().ok()
}

impl TryFrom<String> for RuleId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if (1..=40).contains(&id.len()) && id.bytes().all(allowed) && !id.starts_with('-') {
            return Ok(RuleId(id));
        }
        Err(format!(
            "{id:?} is not the name of a rule: 1 to 40 small letters, digits, \"-\" or \"_\", not beginning with \"-\""
        ))
    }
}

impl From<RuleId> for String {
    fn from(id: RuleId) -> String {
        id.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for RuleId {
    fn schema_name() -> Cow<'static, str> {
        "RuleId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9_][a-z0-9_-]{0,39}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(more: Value) -> Result<Rule, serde_json::Error> {
        let mut rule = json!({"id": "a", "chain": "input", "action": "drop"});
        rule.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        serde_json::from_value(rule)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for more in [
            json!({}),
            json!({"interface": "eth0", "chain": "output", "action": "accept"}),
            json!({"source": "192.0.2.0/24", "destination": "10.0.0.1/32", "protocol": "icmp", "action": "reject"}),
            json!({"source": "2001:db8::/32", "protocol": "udp", "ports": {"first": 1000, "last": 2000}}),
            json!({"protocol": "tcp", "ports": {"first": 22, "last": 22}, "connections": ["new", "invalid"]}),
        ] {
            let rule = rule(more).expect("a rule");
            assert_eq!(rule.check(), Ok(()));
            assert_eq!(Rule::read(&rule.json()), Some(rule));
        }
    }

    #[test]
    fn rules_of_others_are_not_taken_for_ones_of_ours() {
        let own = rule(json!({"protocol": "tcp"})).expect("a rule").json();
        for (pointer, value) in [
            ("/comment", json!(null)),
            ("/comment", json!("A rule")),
            ("/chain", json!("other")),
            ("/expr", json!([])),
            ("/expr/0/match/op", json!("!=")),
            ("/expr/0/match/right", json!(99)),
            ("/expr/0/match/left", json!({"meta": {"key": "mark"}})),
            ("/expr/2", json!({"jump": {"target": "x"}})),
            ("/expr/1", json!({"limit": {"rate": 1}})),
        ] {
            let mut other = own.clone();
            *other.pointer_mut(pointer).expect(pointer) = value;
            assert_eq!(Rule::read(&other), None, "{pointer}");
        }
    }

    #[test]
    fn rules_that_can_not_be_are_refused() {
        for more in [
            json!({"ports": {"first": 1, "last": 2}}),
            json!({"protocol": "icmp", "ports": {"first": 1, "last": 2}}),
            json!({"protocol": "tcp", "ports": {"first": 3, "last": 2}}),
            json!({"protocol": "tcp", "ports": {"first": 0, "last": 2}}),
            json!({"source": "0.0.0.0/0", "destination": "::/0"}),
            json!({"connections": ["new", "new"]}),
        ] {
            assert!(rule(more.clone()).expect("typed").check().is_err(), "{more}");
        }
        for more in [
            json!({"id": "A"}),
            json!({"id": "a\"}"}),
            json!({"interface": "eth0\""}),
            json!({"source": "any"}),
            json!({"x": 1}),
        ] {
            assert!(rule(more.clone()).is_err(), "{more}");
        }
    }
}
