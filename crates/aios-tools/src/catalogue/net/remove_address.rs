//! `net.remove_address`

use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    address::{self, Address},
    netlink::Netlink,
    route,
};
use crate::{
    access::{Access, Privilege},
    args::{Interface, Network, Prefix},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct RemoveAddress;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Interface that has it.
    interface: Interface,
    /// Address and length of its network's prefix, as net.addresses shows it.
    address: Prefix,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Addresses that the interface has now.
    remaining: usize,
}

impl Tool for RemoveAddress {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.remove_address",
        description: "Takes an address from a network interface. Connections with it end; with the last one of IPv4, the \
                      interface's routes go too (rollback brings them back).",
        examples: &[Example {
            goal: "remove the address 192.0.2.7 from eth0",
            arguments: r#"{"interface": "eth0", "address": "192.0.2.7/24"}"#,
        }],
        needs: &["net:set:{interface}"],
        risk: Risk::Critical,
        idempotent: false,
        reversible: true,
        sinks: &["/interface", "/address"],
        serial: Some(Serial::Network),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("net:set:{}", input.interface)).on_network().with(Privilege::NetAdmin)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        let mut netlink = Netlink::open()?;
        let link = netlink.link(input.interface.as_str())?;
        let Address { address, broadcast, scope } = removable(&mut netlink, link.header.index, input)?;
        let routes = route::kept(&mut netlink, &link, Some(address.address))?;
        let mut arguments =
            json!({ "interface": input.interface, "address": address, "scope": scope, "routes": routes });
        if let Some(broadcast) = broadcast {
            arguments["broadcast"] = json!(broadcast);
        }
        Ok(Inverse::Call { tool: "net.add_address".to_owned(), arguments })
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut netlink = Netlink::open()?;
        let index = netlink.link(input.interface.as_str())?.header.index;
        removable(&mut netlink, index, &input)?;
        address::remove(&mut netlink, index, input.address)?;
        let remaining = netlink.addresses()?.iter().filter(|message| message.header.index == index).count();
        Ok(Output { remaining })
    }
}

/// The address, where it is one that can be brought back.
fn removable(netlink: &mut Netlink, index: u32, input: &Input) -> Result<Address, ToolError> {
    let of_link: Vec<_> = netlink.addresses()?.into_iter().filter(|message| message.header.index == index).collect();
    let found = of_link.iter().find_map(|message| {
        address::read(message).filter(|(address, _)| address.address == input.address).map(|found| (message, found))
    });
    let Some((message, (address, permanent))) = found else {
        let text = format!(
            "{} does not have the address {}; net.addresses lists those it has",
            input.interface, input.address
        );
        return Err(ToolError::new(Code::NotFound, text));
    };
    if !permanent {
        let text = format!("{} is lent by the network for a time, and comes back by itself", input.address);
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    // The kernel drops the other addresses of a network with its first one.
    let secondary = |flags: &AddressFlags| flags.contains(AddressFlags::Secondary);
    let is_secondary = |message: &netlink_packet_route::address::AddressMessage| {
        message.attributes.iter().any(|a| matches!(a, AddressAttribute::Flags(flags) if secondary(flags)))
    };
    let same_network = |message: &netlink_packet_route::address::AddressMessage| {
        address::read(message).is_some_and(|(other, _)| Network::of(other.address) == Network::of(input.address))
    };
    let hangs_on_it = |other| is_secondary(other) && same_network(other);
    if input.address.address.is_ipv4() && !is_secondary(message) && of_link.iter().any(hangs_on_it) {
        let text = format!("other addresses of the network depend on {}; remove them first", input.address);
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::net::{
            add_address::AddAddress, add_route::AddRoute, addresses::Addresses, routes::Routes, set_link::SetLink,
        },
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn a_removed_address_comes_back_with_its_routes() {
        apart(|| {
            let host = Host::device();
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            let added =
                json!({"interface": "lo", "address": "192.0.2.7/24", "broadcast": "192.0.2.255", "scope": "link"});
            call::<AddAddress>(&host, added).expect("add");
            let route = json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.9", "source": "192.0.2.7"});
            call::<AddRoute>(&host, route).expect("route");
            let state = || {
                (call::<Addresses>(&host, json!({})).expect("list"), call::<Routes>(&host, json!({})).expect("list"))
            };
            let before = state();
            let arguments = json!({"interface": "lo", "address": "192.0.2.7/24"});
            let inverse = inverse::<RemoveAddress>(&host, &arguments).expect("inverse");
            call::<RemoveAddress>(&host, arguments.clone()).expect("remove");
            assert_eq!(call::<Routes>(&host, json!({})).expect("list")["routes"], json!([]));
            assert_eq!(call::<RemoveAddress>(&host, arguments).map_err(|error| error.code), Err(Code::NotFound));
            undo(&host, &inverse).expect("a call").expect("undo");
            assert_eq!(state(), before);
        });
    }

    #[test]
    fn an_address_that_others_depend_on_stays() {
        apart(|| {
            let host = Host::device();
            for address in ["192.0.2.7/24", "192.0.2.8/24"] {
                call::<AddAddress>(&host, json!({"interface": "lo", "address": address})).expect("add");
            }
            let remove = |address| call::<RemoveAddress>(&host, json!({"interface": "lo", "address": address}));
            assert_eq!(remove("192.0.2.7/24").map_err(|error| error.code), Err(Code::FailedPrecondition));
            assert_eq!(remove("192.0.2.8/24").expect("remove")["remaining"], 1);
            assert_eq!(remove("192.0.2.7/24").expect("remove")["remaining"], 0);
        });
    }
}
