//! `net.add_address`

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    address::{self, Address, Scope},
    netlink::Netlink,
    route::{self, Route},
    set_link::KEPT_MAX,
};
use crate::{
    access::{Access, Privilege},
    args::{Interface, Prefix},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct AddAddress;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Interface that gets it.
    interface: Interface,
    /// Address and length of its network's prefix.
    address: Prefix,
    /// Address of all hosts of the network, IPv4 only.
    broadcast: Option<Ipv4Addr>,
    /// How far it is valid.
    #[serde(default)]
    scope: Scope,
    /// Routes that shall be there then: the kernel drops them with the last address. Up to 64.
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the interface did not have it before.
    changed: bool,
}

impl Tool for AddAddress {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.add_address",
        description: "Gives a network interface one more address (IPv4 or IPv6) until the next boot.",
        examples: &[Example {
            goal: "give eth0 the address 192.0.2.7",
            arguments: r#"{"interface": "eth0", "address": "192.0.2.7/24"}"#,
        }],
        needs: &["net:set:{interface}", "net:route:{routes/destination}"],
        risk: Risk::High,
        reversible: true,
        sinks: &["/interface", "/address", "/routes"],
        serial: Some(Serial::Network),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("net:set:{}", input.interface)).on_network().with(Privilege::NetAdmin);
        input.routes.iter().fold(access, |access, route| access.and(route.capability()))
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        let mut netlink = Netlink::open()?;
        let index = netlink.link(input.interface.as_str())?.header.index;
        let has = |message| address::read(message).is_some_and(|(address, _)| address.address == input.address);
        if netlink.addresses()?.iter().any(|message| message.header.index == index && has(message)) {
            return Ok(Inverse::Nothing);
        }
        let arguments = json!({ "interface": input.interface, "address": input.address });
        Ok(Inverse::Call { tool: "net.remove_address".to_owned(), arguments })
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        if input.broadcast.is_some() && input.address.address.is_ipv6() {
            return Err(ToolError::new(Code::InvalidArgument, "IPv6 has no broadcast addresses"));
        }
        if input.routes.len() > KEPT_MAX {
            return Err(ToolError::new(Code::TooLarge, format!("more than {KEPT_MAX} routes")));
        }
        let mut netlink = Netlink::open()?;
        let index = netlink.link(input.interface.as_str())?.header.index;
        let Input { address, broadcast, scope, .. } = input;
        let changed = address::add(&mut netlink, index, &Address { address, broadcast, scope })?;
        for route in &input.routes {
            route::add(&mut netlink, route)?;
        }
        Ok(Output { changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::net::addresses::Addresses,
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn an_address_is_added_once_and_taken_back() {
        apart(|| {
            let host = Host::device();
            let list = || call::<Addresses>(&host, json!({})).expect("list");
            let before = list();
            for address in ["192.0.2.7/24", "2001:db8::7/64"] {
                let arguments = json!({"interface": "lo", "address": address});
                let inverse_of_first = inverse::<AddAddress>(&host, &arguments).expect("inverse");
                assert_eq!(call::<AddAddress>(&host, arguments.clone()), Ok(json!({"changed": true})));
                assert!(list()["addresses"].to_string().contains(address));
                assert_eq!(inverse::<AddAddress>(&host, &arguments), Ok(Inverse::Nothing));
                assert_eq!(call::<AddAddress>(&host, arguments), Ok(json!({"changed": false})));
                undo(&host, &inverse_of_first).expect("a call").expect("undo");
                assert_eq!(list(), before);
            }
        });
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let code = |arguments| call::<AddAddress>(&Host::device(), arguments).map_err(|error| error.code);
        assert_eq!(code(json!({"interface": "lo", "address": "192.0.2.7"})), Err(Code::InvalidArgument));
        let six = json!({"interface": "lo", "address": "2001:db8::1/64", "broadcast": "192.0.2.255"});
        assert_eq!(code(six), Err(Code::InvalidArgument));
    }
}
