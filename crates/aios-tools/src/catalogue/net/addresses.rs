//! `net.addresses`

use std::{collections::HashMap, net::Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    address::{self, Scope},
    netlink::{Netlink, name_of},
};
use crate::{
    access::Access,
    args::{Interface, Prefix},
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// Most that one call lists.
const ADDRESSES_MAX: usize = 128;

pub struct Addresses;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this interface's.
    interface: Option<Interface>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Addresses.
    addresses: Vec<Line>,
    /// Whether there are more than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    /// Interface that has it.
    interface: String,
    /// Address and length of its network's prefix.
    address: Prefix,
    /// Address of all hosts of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    broadcast: Option<Ipv4Addr>,
    /// How far it is valid.
    scope: Scope,
    /// Whether it stays until somebody takes it away; others are lent for a time.
    permanent: bool,
}

impl Tool for Addresses {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.addresses",
        description: "Lists the addresses (IPv4 and IPv6) of this device's network interfaces. Up to 128.",
        examples: &[
            Example { goal: "what is my IP address", arguments: "{}" },
            Example { goal: "show the addresses of eth0", arguments: r#"{"interface": "eth0"}"# },
        ],
        needs: &["net:read:addresses"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("net:read:addresses").on_network()
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut netlink = Netlink::open()?;
        let only = input.interface.map(|name| netlink.link(name.as_str())).transpose()?.map(|link| link.header.index);
        let links = netlink.links()?;
        let names: HashMap<u32, &str> = links.iter().filter_map(|l| Some((l.header.index, name_of(l)?))).collect();
        let mut addresses = Vec::new();
        for message in netlink.addresses()? {
            let index = message.header.index;
            let (Some((address, permanent)), Some(name)) = (address::read(&message), names.get(&index)) else {
                continue;
            };
            if only.is_none_or(|only| only == index) {
                let address::Address { address, broadcast, scope } = address;
                addresses.push(Line { interface: (*name).to_owned(), address, broadcast, scope, permanent });
            }
        }
        let truncated = addresses.len() > ADDRESSES_MAX;
        addresses.truncate(ADDRESSES_MAX);
        Ok(Output { addresses, truncated })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::net::set_link::SetLink,
        error::Code,
        testing::{apart, call},
    };

    #[test]
    fn loopback_has_its_addresses_once_it_is_up() {
        apart(|| {
            let host = Host::device();
            assert_eq!(call::<Addresses>(&host, json!({})).expect("list")["addresses"], json!([]));
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            let list = call::<Addresses>(&host, json!({"interface": "lo"})).expect("list");
            let first = json!({"interface": "lo", "address": "127.0.0.1/8", "scope": "host", "permanent": true});
            assert_eq!(list["addresses"][0], first);
            let code = call::<Addresses>(&host, json!({"interface": "none0"})).map_err(|error| error.code);
            assert_eq!(code, Err(Code::NotFound));
        });
    }
}
