//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::LinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    address::Scope,
    netlink::{Netlink, name_of},
};
use crate::{
    args::{Interface, Network, Prefix},
    error::{Code, ToolError},
};

/// The metric that the kernel gives a route of IPv6 that has none.
const METRIC_OF_IPV6: u32 = 1024;

/// A route of the main table, with all that can be set of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads: a network, `0.0.0.0/0` or `::/0` for everything.
    pub destination: Network,
    /// Router that passes packets on; none where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Interface; may be left out where the gateway's network says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Of several routes to a destination, the one with the smallest metric is used. 0 by default, of IPv6 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Address that the device's own packets have as their sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// How far the destination is; found from gateway and interface where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Who made it, as a number of the kernel: 3 an operator (by default), 4 configuration, 16 DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
}

/// What tells a route from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it leads.
    pub destination: Network,
    /// Router.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub interface: Option<Interface>,
    /// Metric.
    pub metric: Option<u32>,
}

impl Route {
    /// The capability that adding or removing it takes.
    pub fn capability(&self) -> String {
        format!("net:route:{}", self.destination)
    }

    /// What tells it from others.
    pub fn key(&self) -> Key {
        let Route { destination, gateway, interface, metric, .. } = self.clone();
        Key { destination, gateway, interface, metric: Some(metric.unwrap_or_else(|| default_metric(destination))) }
    }
}

impl Key {
    /// Whether `route` is one that this names.
    pub fn names(&self, route: &Route) -> bool {
        fn fits<T: PartialEq>(wanted: &Option<T>, found: &Option<T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let metric = Some(route.metric.unwrap_or_else(|| default_metric(route.destination)));
        self.destination == route.destination
            && fits(&self.gateway, &route.gateway)
            && fits(&self.interface, &route.interface)
            && fits(&self.metric, &metric)
    }
}

fn default_metric(destination: Network) -> u32 {
    if destination.prefix().address.is_ipv4() { 0 } else { METRIC_OF_IPV6 }
}

/// Adds a route; `false` where it is there.
pub fn add(netlink: &mut Netlink, route: &Route) -> Result<bool, ToolError> {
    let change = RouteNetlinkMessage::NewRoute(message(netlink, route)?);
    match netlink.change(change, NLM_F_CREATE | NLM_F_EXCL, format!("route to {}", route.destination)) {
        Err(error) if error.code == Code::AlreadyExists => {
            if table(netlink)?.iter().any(|found| route.key().names(&found.route)) {
                return Ok(false);
            }
            let text = format!(
                "there is another route to {} with this metric; remove it first, or give another metric",
                route.destination
            );
            Err(ToolError::new(Code::AlreadyExists, text))
        }
        other => other.map(|()| true),
    }
}

/// Removes a route that [`table`] has listed.
pub fn remove(netlink: &mut Netlink, route: &Route) -> Result<(), ToolError> {
    let message = message(netlink, route)?;
    netlink.change(RouteNetlinkMessage::DelRoute(message), 0, format!("route to {}", route.destination))
}

fn message(netlink: &mut Netlink, route: &Route) -> Result<RouteMessage, ToolError> {
    let Prefix { address, length } = route.destination.prefix();
    let same_family = |other: &Option<IpAddr>| other.is_none_or(|other| other.is_ipv4() == address.is_ipv4());
    if !same_family(&route.gateway) || !same_family(&route.source) {
        return Err(ToolError::new(
            Code::InvalidArgument,
            "destination, gateway and source must all be of IPv4, or all of IPv6",
        ));
    }
    if route.gateway.is_none() && route.interface.is_none() {
        return Err(ToolError::new(Code::InvalidArgument, "a route needs a gateway, an interface or both"));
    }
    let mut message = RouteMessage::default();
    message.header.address_family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = route.protocol.map_or(RouteProtocol::Boot, RouteProtocol::from);
    message.header.kind = RouteType::Unicast;
    message.header.scope = match route.scope {
        Some(Scope::Global) => RouteScope::Universe,
        Some(Scope::Link) => RouteScope::Link,
        Some(Scope::Host) => RouteScope::Host,
        None if route.gateway.is_none() && address.is_ipv4() => RouteScope::Link,
        None => RouteScope::Universe,
    };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if let Some(interface) = &route.interface {
        message.attributes.push(RouteAttribute::Oif(netlink.link(interface.as_str())?.header.index));
    }
    Ok(message)
}

/// A route of the main table as the kernel has it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Itself.
    pub route: Route,
    /// Number of its interface.
    pub index: Option<u32>,
    /// Whether the kernel made it, and makes it again, because of an address or of what a router told.
    pub automatic: bool,
    /// Whether [`Route`] says all of it, so that it could be made again.
    pub whole: bool,
}

/// The main table's routes to hosts and networks.
pub fn table(netlink: &mut Netlink) -> Result<Vec<Found>, ToolError> {
    let links = netlink.links()?;
    let name = |index: u32| links.iter().find(|link| link.header.index == index).and_then(name_of).map(str::to_owned);
    Ok(netlink.routes()?.iter().filter_map(|message| read(message, &name)).collect())
}

fn read(message: &RouteMessage, name: &impl Fn(u32) -> Option<String>) -> Option<Found> {
    let header = &message.header;
    let anywhere = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if header.kind != RouteType::Unicast {
        return None;
    }
    let (mut table, mut address, mut index, mut whole) = (u32::from(header.table), anywhere, None, header.tos == 0);
    let (mut gateway, mut metric, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(to) => address = ip(to)?,
            RouteAttribute::Gateway(by) => gateway = ip(by),
            RouteAttribute::PrefSource(from) => source = ip(from),
            RouteAttribute::Oif(number) => index = Some(*number),
            RouteAttribute::Priority(number) => metric = Some(*number),
            RouteAttribute::CacheInfo(_) | RouteAttribute::Preference(_) => {}
            _ => whole = false,
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let interface = index.and_then(name).and_then(|name| Interface::try_from(name).ok());
    whole &= interface.is_some();
    let scope = match header.scope {
        RouteScope::Link => Scope::Link,
        RouteScope::Host => Scope::Host,
        _ => Scope::Global,
    };
    let destination = Network::of(Prefix { address, length: header.destination_prefix_length });
    let automatic = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect);
    let protocol = Some(header.protocol.into());
    Some(Found {
        route: Route { destination, gateway, interface, metric, source, scope: Some(scope), protocol },
        index,
        automatic,
        whole,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// Routes through the interface `link`, of the family of `like` or of both, that the kernel drops with it and does not make
/// again: those on the link first, as the others need them.
pub fn kept(netlink: &mut Netlink, link: &LinkMessage, like: Option<IpAddr>) -> Result<Vec<Route>, ToolError> {
    let of_family =
        |route: &Route| like.is_none_or(|like| like.is_ipv4() == route.destination.prefix().address.is_ipv4());
    let mut found = table(netlink)?;
    found.retain(|found| found.index == Some(link.header.index) && !found.automatic && of_family(&found.route));
    let max = super::set_link::KEPT_MAX;
    if found.len() > max || found.iter().any(|found| !found.whole) {
        let text = format!(
            "{} routes go through the interface: more than {max}, or some that can't be brought back",
            found.len()
        );
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    found.sort_by_key(|found| found.route.gateway.is_some());
    Ok(found.into_iter().map(|found| found.route).collect())
}
