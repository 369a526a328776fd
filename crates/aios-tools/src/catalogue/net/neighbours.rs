//! `net.neighbours`

use std::{collections::HashMap, net::IpAddr};

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::netlink::{Netlink, mac, name_of};
use crate::{
    access::Access,
    args::Interface,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Most that one call lists.
const NEIGHBOURS_MAX: usize = 128;

pub struct Neighbours;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only those seen at this interface.
    interface: Option<Interface>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Hosts on the same links, as far as the kernel has met them.
    neighbours: Vec<Neighbour>,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Neighbour {
    /// Address.
    address: IpAddr,
    /// Its address of the link layer, where it has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    /// Interface where it is.
    interface: String,
    /// `reachable`, `stale`, `failed`, `permanent`, ...
    state: String,
}

impl Tool for Neighbours {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.neighbours",
        description: "Lists the hosts that the kernel knows on the same links (ARP, IPv6 neighbour discovery). Up to 128.",
        examples: &[
            Example { goal: "which devices are on my network", arguments: "{}" },
            Example { goal: "who is connected to eth0", arguments: r#"{"interface": "eth0"}"# },
        ],
        needs: &["net:read:neighbours"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("net:read:neighbours").on_network()
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut netlink = Netlink::open()?;
        let only = input.interface.map(|name| netlink.link(name.as_str())).transpose()?.map(|link| link.header.index);
        let links = netlink.links()?;
        let names: HashMap<u32, &str> = links.iter().filter_map(|l| Some((l.header.index, name_of(l)?))).collect();
        let listed = netlink.neighbours()?;
        let own = listed.iter().filter(|message| only.is_none_or(|only| only == message.header.ifindex));
        let mut neighbours: Vec<Neighbour> = own.filter_map(|message| describe(message, &names)).collect();
        let truncated = neighbours.len() > NEIGHBOURS_MAX;
        neighbours.truncate(NEIGHBOURS_MAX);
        Ok(Output { neighbours, truncated })
    }
}

/// Entries without neighbour discovery (multicast, loopback) are no hosts that somebody has met.
fn describe(message: &NeighbourMessage, names: &HashMap<u32, &str>) -> Option<Neighbour> {
    if message.header.state == NeighbourState::Noarp {
        return None;
    }
    let (mut address, mut link_layer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) if !bytes.is_empty() => link_layer = Some(mac(bytes)),
            _ => {}
        }
    }
    let interface = (*names.get(&message.header.ifindex)?).to_owned();
    Some(Neighbour {
        address: address?,
        mac: link_layer,
        interface,
        state: message.header.state.to_string().to_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{apart, call};

    #[test]
    fn a_neighbour_has_its_address_state_and_interface() {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 2;
        message.header.state = NeighbourState::Reachable;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([192, 0, 2, 1].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0x5e, 0, 0, 1]),
        ];
        let found = describe(&message, &HashMap::from([(2, "eth0")])).expect("a neighbour");
        let expected =
            json!({"address": "192.0.2.1", "mac": "02:00:5e:00:00:01", "interface": "eth0", "state": "reachable"});
        assert_eq!(serde_json::to_value(found).expect("JSON"), expected);
        message.header.state = NeighbourState::Noarp;
        assert!(describe(&message, &HashMap::from([(2, "eth0")])).is_none());
    }

    #[test]
    fn a_new_network_has_no_neighbours() {
        let answer = apart(|| call::<Neighbours>(&Host::device(), json!({"interface": "lo"})));
        assert_eq!(answer, Ok(json!({"neighbours": [], "truncated": false})));
    }
}
