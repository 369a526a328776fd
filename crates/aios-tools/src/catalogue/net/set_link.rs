//! `net.set_link`

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    address::{self, Address},
    netlink::Netlink,
    route::{self, Route},
};
use crate::{
    access::{Access, Privilege},
    args::{Count, Interface},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

/// Most addresses, and most routes, that are brought back.
pub(super) const KEPT_MAX: usize = 64;

pub struct SetLink;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    Up,
    Down,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which interface.
    interface: Interface,
    /// Whether it is to be used.
    state: Option<State>,
    /// Largest packet in bytes; the interface may allow less.
    mtu: Option<Count<68, 65536>>,
    /// Addresses that it shall have then: the kernel drops those of IPv6 when an interface goes down. Up to 64.
    #[serde(default)]
    addresses: Vec<Address>,
    /// Routes that shall be there then: the kernel drops them when an interface goes down. Up to 64.
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the interface is up now.
    up: bool,
    /// Largest packet in bytes now.
    mtu: u32,
}

impl Tool for SetLink {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.set_link",
        description: "Sets a network interface up or down, or its MTU (bytes). Down cuts every connection through it; \
                      rollback brings back addresses and routes too.",
        examples: &[
            Example { goal: "take eth1 out of use", arguments: r#"{"interface": "eth1", "state": "down"}"# },
            Example { goal: "use jumbo frames on eth0", arguments: r#"{"interface": "eth0", "mtu": 9000}"# },
        ],
        needs: &["net:set:{interface}", "net:route:{routes/destination}"],
        risk: Risk::Critical,
        reversible: true,
        sinks: &["/interface", "/state", "/addresses", "/routes"],
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
        let link = netlink.link(input.interface.as_str())?;
        let (up, mtu) = state_of(&link);
        let state = if up { State::Up } else { State::Down };
        let mut arguments = json!({ "interface": input.interface, "state": state, "mtu": mtu });
        // An MTU below IPv6's least drops that, as going down does.
        if up && (input.state == Some(State::Down) || input.mtu.is_some()) {
            arguments["addresses"] = json!(address::kept(&mut netlink, link.header.index)?);
            arguments["routes"] = json!(route::kept(&mut netlink, &link, None)?);
        }
        Ok(Inverse::Call { tool: Self::SPEC.name.to_owned(), arguments })
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        if input.state.is_none() && input.mtu.is_none() {
            return Err(ToolError::new(Code::InvalidArgument, "nothing to set: give state, mtu or both"));
        }
        if input.addresses.len() > KEPT_MAX || input.routes.len() > KEPT_MAX {
            return Err(ToolError::new(Code::TooLarge, format!("more than {KEPT_MAX} addresses or routes")));
        }
        let mut netlink = Netlink::open()?;
        let link = netlink.link(input.interface.as_str())?;
        let mut message = LinkMessage::default();
        message.header.index = link.header.index;
        if let Some(state) = input.state {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if state == State::Up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        message.attributes.extend(input.mtu.map(|mtu| LinkAttribute::Mtu(mtu.get() as u32)));
        netlink.change(RouteNetlinkMessage::SetLink(message), 0, &input.interface)?;
        for address in &input.addresses {
            address::add(&mut netlink, link.header.index, address)?;
        }
        for route in &input.routes {
            route::add(&mut netlink, route)?;
        }
        let (up, mtu) = state_of(&netlink.link(input.interface.as_str())?);
        Ok(Output { up, mtu })
    }
}

fn state_of(link: &LinkMessage) -> (bool, u32) {
    let mtu = link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None });
    (link.header.flags.contains(LinkFlags::Up), mtu.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::net::{add_address::AddAddress, add_route::AddRoute, addresses::Addresses, routes::Routes},
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn down_and_back_up_leaves_state_mtu_addresses_and_routes_as_they_were() {
        apart(|| {
            let host = Host::device();
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            call::<AddAddress>(&host, json!({"interface": "lo", "address": "192.0.2.1/24"})).expect("address");
            call::<AddAddress>(&host, json!({"interface": "lo", "address": "2001:db8::1/64"})).expect("address");
            let route =
                json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.9", "interface": "lo", "metric": 7});
            call::<AddRoute>(&host, route).expect("route");
            let six = json!({"destination": "2001:db8:1::/48", "interface": "lo", "metric": 5});
            call::<AddRoute>(&host, six).expect("route");
            let state = || {
                let list = |answer: Result<serde_json::Value, ToolError>, key: &str| {
                    let mut lines: Vec<String> =
                        answer.expect("list")[key].as_array().expect("list").iter().map(ToString::to_string).collect();
                    lines.sort();
                    lines
                };
                (
                    list(call::<Addresses>(&host, json!({})), "addresses"),
                    list(call::<Routes>(&host, json!({})), "routes"),
                )
            };
            let before = state();
            let arguments = json!({"interface": "lo", "state": "down", "mtu": 1000});
            let inverse = inverse::<SetLink>(&host, &arguments).expect("inverse");
            let down = call::<SetLink>(&host, arguments).expect("down");
            assert_eq!((&down["up"], &down["mtu"]), (&json!(false), &json!(1000)));
            assert_ne!(state(), before);
            for _ in 0..2 {
                let up = undo(&host, &inverse).expect("a call").expect("undo");
                assert_eq!((&up["up"], &up["mtu"]), (&json!(true), &json!(65536)));
                assert_eq!(state(), before);
            }
        });
    }

    #[test]
    fn what_changes_nothing_or_names_nothing_is_refused() {
        apart(|| {
            let code = |arguments| call::<SetLink>(&Host::device(), arguments).map_err(|error| error.code);
            assert_eq!(code(json!({"interface": "lo"})), Err(Code::InvalidArgument));
            assert_eq!(code(json!({"interface": "none0", "state": "up"})), Err(Code::NotFound));
            assert_eq!(code(json!({"interface": "lo", "mtu": 67})), Err(Code::InvalidArgument));
            assert_eq!(code(json!({"interface": "lo", "state": "sideways"})), Err(Code::InvalidArgument));
        });
    }
}
