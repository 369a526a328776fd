//! `net.add_route`

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    netlink::Netlink,
    route::{self, Route},
};
use crate::{
    access::{Access, Privilege},
    error::ToolError,
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct AddRoute;

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether it was not there before.
    changed: bool,
}

impl Tool for AddRoute {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.add_route",
        description: "Adds a route (IPv4 or IPv6) to the main table until the next boot. Whoever is the gateway sees the packets.",
        examples: &[
            Example {
                goal: "reach 198.51.100.0/24 through 192.0.2.1",
                arguments: r#"{"destination": "198.51.100.0/24", "gateway": "192.0.2.1"}"#,
            },
            Example {
                goal: "make 192.0.2.1 at eth0 the default gateway",
                arguments: r#"{"destination": "0.0.0.0/0", "gateway": "192.0.2.1", "interface": "eth0", "metric": 100}"#,
            },
        ],
        needs: &["net:route:{destination}"],
        risk: Risk::High,
        reversible: true,
        sinks: &["/destination", "/gateway", "/interface"],
        serial: Some(Serial::Network),
        ..ToolSpec::DEFAULT
    };
    type Input = Route;
    type Output = Output;

    fn access(input: &Route) -> Access {
        Access::needs(input.capability()).on_network().with(Privilege::NetAdmin)
    }

    fn inverse(input: &Route, _: &Host) -> Result<Inverse, ToolError> {
        let key = input.key();
        if route::table(&mut Netlink::open()?)?.iter().any(|found| key.names(&found.route)) {
            return Ok(Inverse::Nothing);
        }
        let mut arguments = json!({ "destination": key.destination, "metric": key.metric });
        if let Some(gateway) = key.gateway {
            arguments["gateway"] = json!(gateway);
        }
        if let Some(interface) = key.interface {
            arguments["interface"] = json!(interface);
        }
        Ok(Inverse::Call { tool: "net.remove_route".to_owned(), arguments })
    }

    fn run(input: Route, _: &Host) -> Result<Output, ToolError> {
        Ok(Output { changed: route::add(&mut Netlink::open()?, &input)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::net::{add_address::AddAddress, routes::Routes, set_link::SetLink},
        error::Code,
        testing::{apart, call, inverse, undo},
    };

    fn with_a_network<R: Send>(test: impl FnOnce(&Host) -> R + Send) -> R {
        apart(|| {
            let host = Host::device();
            call::<SetLink>(&host, json!({"interface": "lo", "state": "up"})).expect("up");
            for address in ["192.0.2.7/24", "2001:db8::7/64"] {
                call::<AddAddress>(&host, json!({"interface": "lo", "address": address})).expect("address");
            }
            test(&host)
        })
    }

    #[test]
    fn a_route_is_added_once_and_taken_back() {
        with_a_network(|host| {
            let list = || call::<Routes>(host, json!({})).expect("list");
            let before = list();
            for arguments in [
                json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.1", "metric": 100}),
                json!({"destination": "203.0.113.0/24", "interface": "lo"}),
                json!({"destination": "0.0.0.0/0", "gateway": "192.0.2.1"}),
                json!({"destination": "2001:db8:1::/48", "interface": "lo"}),
                json!({"destination": "::/0", "interface": "lo", "metric": 5}),
            ] {
                let undoing = inverse::<AddRoute>(host, &arguments).expect("inverse");
                assert_eq!(call::<AddRoute>(host, arguments.clone()), Ok(json!({"changed": true})), "{arguments}");
                let destination = arguments["destination"].as_str().expect("text");
                assert!(list().to_string().contains(destination), "{arguments}");
                assert_eq!(inverse::<AddRoute>(host, &arguments), Ok(Inverse::Nothing), "{arguments}");
                assert_eq!(call::<AddRoute>(host, arguments.clone()), Ok(json!({"changed": false})), "{arguments}");
                undo(host, &undoing).expect("a call").expect("undo");
                assert_eq!(list(), before, "{arguments}");
            }
        });
    }

    #[test]
    fn a_route_that_can_not_be_says_why() {
        with_a_network(|host| {
            let code = |arguments| call::<AddRoute>(host, arguments).map_err(|error| error.code);
            let mixed = json!({"destination": "198.51.100.0/24", "gateway": "2001:db8::1"});
            assert_eq!(code(mixed), Err(Code::InvalidArgument));
            assert_eq!(code(json!({"destination": "198.51.100.0/24"})), Err(Code::InvalidArgument));
            assert_eq!(code(json!({"destination": "198.51.100.7/24", "interface": "lo"})), Err(Code::InvalidArgument));
            let far = json!({"destination": "198.51.100.0/24", "gateway": "203.0.113.1"});
            assert_eq!(code(far), Err(Code::FailedPrecondition));
            assert_eq!(code(json!({"destination": "198.51.100.0/24", "interface": "none0"})), Err(Code::NotFound));
            call::<AddRoute>(host, json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.1"})).expect("add");
            let other = json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.2"});
            assert_eq!(code(other), Err(Code::AlreadyExists));
        });
    }
}
