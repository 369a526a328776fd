//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::netlink::Netlink;
use crate::{
    args::Prefix,
    error::{Code, ToolError},
};

/// An address with all that can be set of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Address and length of its network's prefix.
    pub address: Prefix,
    /// Address of all hosts of the network, IPv4 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is valid.
    #[serde(default)]
    pub scope: Scope,
}

/// How far an address or a route is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// On this link.
    Link,
    /// On this device.
    Host,
}

/// Gives the interface `index` the address; `false` where it has it.
pub fn add(netlink: &mut Netlink, index: u32, address: &Address) -> Result<bool, ToolError> {
    let mut message = message(index, address.address);
    message.header.scope = match address.scope {
        Scope::Global => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    message.attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
    let change = RouteNetlinkMessage::NewAddress(message);
    match netlink.change(change, NLM_F_CREATE | NLM_F_EXCL, address.address) {
        Err(error) if error.code == Code::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    }
}

/// Takes the address from the interface `index`.
pub fn remove(netlink: &mut Netlink, index: u32, address: Prefix) -> Result<(), ToolError> {
    netlink.change(RouteNetlinkMessage::DelAddress(message(index, address)), 0, address)
}

fn message(index: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if prefix.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix.length;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(prefix.address));
    message.attributes.push(AddressAttribute::Address(prefix.address));
    message
}

/// What the kernel says of an address: itself, and whether it stays until somebody takes it away.
pub fn read(message: &AddressMessage) -> Option<(Address, bool)> {
    let (mut local, mut peer, mut broadcast) = (None, None, None);
    let mut permanent = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Broadcast(address) => broadcast = Some(*address),
            AddressAttribute::Flags(flags) => permanent = flags.contains(AddressFlags::Permanent),
            _ => {}
        }
    }
    let address = Prefix { address: local.or(peer)?, length: message.header.prefix_len };
    let scope = match message.header.scope {
        AddressScope::Link => Scope::Link,
        AddressScope::Host => Scope::Host,
        _ => Scope::Global,
    };
    Some((Address { address, broadcast, scope }, permanent))
}

/// Addresses of the interface `index` that somebody set: those that the kernel makes itself (`::1`, `127.0.0.1`, link-local
/// ones of IPv6), and those that the network lends for a time, come again by themselves.
pub fn kept(netlink: &mut Netlink, index: u32) -> Result<Vec<Address>, ToolError> {
    let own = netlink.addresses()?.into_iter().filter(|message| message.header.index == index);
    let mut kept: Vec<Address> = own
        .filter_map(|message| read(&message))
        .filter(|(_, permanent)| *permanent)
        .map(|(address, _)| address)
        .collect();
    kept.retain(|address| match address.address.address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    });
    let max = super::set_link::KEPT_MAX;
    if kept.len() > max {
        let text = format!("the interface has {} addresses: more than {max} can't be brought back", kept.len());
        return Err(ToolError::new(Code::TooLarge, text));
    }
    Ok(kept)
}
