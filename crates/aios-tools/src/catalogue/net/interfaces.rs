//! `net.interfaces`

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::netlink::{Netlink, mac, name_of};
use crate::{
    access::Access,
    args::Interface,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// Most that one call lists.
const INTERFACES_MAX: usize = 64;

pub struct Interfaces;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this interface.
    name: Option<Interface>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// In the order of their numbers.
    interfaces: Vec<Link>,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Link {
    /// Name.
    name: String,
    /// Number, as routes and neighbours name it.
    index: u32,
    /// What it is: `ETHER`, `LOOPBACK`, ...
    kind: String,
    /// Whether it is set up to be used.
    up: bool,
    /// Whether there is a link: a cable, an access point.
    carrier: bool,
    /// Largest packet in bytes.
    mtu: u32,
    /// Address of the link layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    /// Bridge or bond that it belongs to, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    master_index: Option<u32>,
    /// What went through it since it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Traffic {
    received_bytes: u64,
    received_packets: u64,
    received_errors: u64,
    received_dropped: u64,
    sent_bytes: u64,
    sent_packets: u64,
    sent_errors: u64,
    sent_dropped: u64,
}

impl Tool for Interfaces {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.interfaces",
        description: "Lists the network interfaces: state, link, MTU (bytes), address of the link layer, traffic. Up to 64.",
        examples: &[
            Example { goal: "which network interfaces does this device have", arguments: "{}" },
            Example { goal: "is the cable of eth0 plugged in", arguments: r#"{"name": "eth0"}"# },
        ],
        needs: &["net:read:interfaces"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("net:read:interfaces").on_network()
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut links = Netlink::open()?.links()?;
        if let Some(name) = &input.name {
            links.retain(|link| name_of(link) == Some(name.as_str()));
            if links.is_empty() {
                return Err(ToolError::new(Code::NotFound, format!("there is no network interface {name}")));
            }
        }
        links.sort_by_key(|link| link.header.index);
        let truncated = links.len() > INTERFACES_MAX;
        Ok(Output { interfaces: links.iter().take(INTERFACES_MAX).map(describe).collect(), truncated })
    }
}

fn describe(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        name: name_of(message).unwrap_or_default().to_owned(),
        index: message.header.index,
        kind: message.header.link_layer_type.to_string(),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: None,
        master_index: None,
        traffic: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if !bytes.is_empty() => link.mac = Some(mac(bytes)),
            LinkAttribute::Controller(index) => link.master_index = Some(*index),
            LinkAttribute::Stats64(stats) => {
                link.traffic = Some(Traffic {
                    received_bytes: stats.rx_bytes,
                    received_packets: stats.rx_packets,
                    received_errors: stats.rx_errors,
                    received_dropped: stats.rx_dropped,
                    sent_bytes: stats.tx_bytes,
                    sent_packets: stats.tx_packets,
                    sent_errors: stats.tx_errors,
                    sent_dropped: stats.tx_dropped,
                });
            }
            _ => {}
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{apart, call};

    #[test]
    fn a_new_network_has_a_loopback_interface_that_is_down() {
        let answer = apart(|| call::<Interfaces>(&Host::device(), json!({"name": "lo"}))).expect("interfaces");
        let lo = &answer["interfaces"][0];
        assert_eq!((&lo["name"], &lo["up"], &lo["mtu"]), (&json!("lo"), &json!(false), &json!(65536)));
        assert_eq!(lo["traffic"]["received_bytes"], 0);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error() {
        let code = call::<Interfaces>(&Host::device(), json!({"name": "none0"})).map_err(|error| error.code);
        assert_eq!(code, Err(Code::NotFound));
    }
}
