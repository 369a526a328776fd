//! `net.remove_route`

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    netlink::Netlink,
    route::{self, Found, Key, Route},
};
use crate::{
    access::{Access, Privilege},
    args::{Interface, Network},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct RemoveRoute;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where it leads.
    destination: Network,
    /// Its gateway, needed where several routes lead there.
    gateway: Option<IpAddr>,
    /// Its interface, needed where several routes lead there.
    interface: Option<Interface>,
    /// Its metric, needed where several routes lead there.
    metric: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was removed.
    removed: Route,
}

impl Tool for RemoveRoute {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.remove_route",
        description: "Removes one route from the main table. Without the default route the device may be unreachable.",
        examples: &[
            Example { goal: "remove the route to 198.51.100.0/24", arguments: r#"{"destination": "198.51.100.0/24"}"# },
            Example {
                goal: "remove the default route through eth1",
                arguments: r#"{"destination": "0.0.0.0/0", "interface": "eth1"}"#,
            },
        ],
        needs: &["net:route:{destination}"],
        risk: Risk::Critical,
        idempotent: false,
        reversible: true,
        sinks: &["/destination", "/gateway", "/interface"],
        serial: Some(Serial::Network),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("net:route:{}", input.destination)).on_network().with(Privilege::NetAdmin)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        let found = the_one(&mut Netlink::open()?, input)?;
        let arguments = serde_json::to_value(found.route)
            .map_err(|error| ToolError::new(Code::Failed, format!("the route can't be written: {error}")))?;
        Ok(Inverse::Call { tool: "net.add_route".to_owned(), arguments })
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut netlink = Netlink::open()?;
        let found = the_one(&mut netlink, &input)?;
        route::remove(&mut netlink, &found.route)?;
        Ok(Output { removed: found.route })
    }
}

/// The route that the arguments name, where it is one, and one that can be brought back.
fn the_one(netlink: &mut Netlink, input: &Input) -> Result<Found, ToolError> {
    let Input { destination, gateway, interface, metric } = input;
    let key = Key { destination: *destination, gateway: *gateway, interface: interface.clone(), metric: *metric };
    let mut found = route::table(netlink)?;
    found.retain(|found| key.names(&found.route));
    let refused = |code, text| Err(ToolError::new(code, format!("{text} {destination}")));
    match found.as_slice() {
        [] => refused(Code::NotFound, "net.routes lists the routes there are, and no such one to"),
        [only] if !only.whole => {
            refused(Code::FailedPrecondition, "more belongs to it than net.add_route could bring back: the route to")
        }
        [_] => Ok(found.remove(0)),
        _ => refused(Code::InvalidArgument, "give gateway, interface or metric: several routes lead to"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::net::{add_address::AddAddress, add_route::AddRoute, routes::Routes, set_link::SetLink},
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn a_removed_route_comes_back_as_it_was() {
        apart(|| {
            let host = Host::device();
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            call::<AddAddress>(&host, json!({"interface": "lo", "address": "192.0.2.7/24"})).expect("address");
            for (gateway, metric) in [("192.0.2.1", 100), ("192.0.2.2", 200)] {
                let route = json!({"destination": "0.0.0.0/0", "gateway": gateway, "metric": metric, "source": "192.0.2.7", "protocol": 16});
                call::<AddRoute>(&host, route).expect("route");
            }
            let list = || call::<Routes>(&host, json!({})).expect("list");
            let before = list();
            let code = |arguments| call::<RemoveRoute>(&host, arguments).map_err(|error| error.code);
            assert_eq!(code(json!({"destination": "0.0.0.0/0"})), Err(Code::InvalidArgument));
            assert_eq!(code(json!({"destination": "0.0.0.0/0", "metric": 300})), Err(Code::NotFound));
            let arguments = json!({"destination": "0.0.0.0/0", "metric": 100});
            let undoing = inverse::<RemoveRoute>(&host, &arguments).expect("inverse");
            assert_eq!(call::<RemoveRoute>(&host, arguments).expect("remove")["removed"]["gateway"], "192.0.2.1");
            assert_ne!(list(), before);
            undo(&host, &undoing).expect("a call").expect("undo");
            assert_eq!(list(), before);
        });
    }
}
