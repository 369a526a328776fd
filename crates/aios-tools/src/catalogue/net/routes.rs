//! `net.routes`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    netlink::Netlink,
    route::{self, Route},
};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// Most that one call lists.
const ROUTES_MAX: usize = 128;

pub struct Routes;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only those to everywhere: `0.0.0.0/0` and `::/0`.
    #[serde(default)]
    default_only: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Routes of the main table.
    routes: Vec<Route>,
    /// Whether there are more than are listed.
    truncated: bool,
}

impl Tool for Routes {
    const SPEC: ToolSpec = ToolSpec {
        name: "net.routes",
        description: "Lists the routes (IPv4 and IPv6) of the main table: destination, gateway, interface, metric. Up to 128.",
        examples: &[
            Example { goal: "show the routing table", arguments: "{}" },
            Example { goal: "which gateway leads to the internet", arguments: r#"{"default_only": true}"# },
        ],
        needs: &["net:read:routes"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("net:read:routes").on_network()
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let mut found = route::table(&mut Netlink::open()?)?;
        found.retain(|found| !input.default_only || found.route.destination.prefix().length == 0);
        let truncated = found.len() > ROUTES_MAX;
        Ok(Output { routes: found.into_iter().take(ROUTES_MAX).map(|found| found.route).collect(), truncated })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{apart, call};

    #[test]
    fn a_new_network_leads_nowhere() {
        let answer = apart(|| call::<Routes>(&Host::device(), json!({"default_only": true})));
        assert_eq!(answer, Ok(json!({"routes": [], "truncated": false})));
    }
}
