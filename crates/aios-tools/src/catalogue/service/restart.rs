//! `service.restart`

use aios_core::{control::Request, paths};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    start::{TIMEOUT, order},
    state::Unit,
};
use crate::{
    access::Access,
    args::UnitName,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

pub struct Restart;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unit.
    unit: UnitName,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The unit as it is now.
    #[serde(flatten)]
    unit: Unit,
}

impl Tool for Restart {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.restart",
        description: "Stops a unit (service) and starts it again, and waits until it is ready, 200 seconds at most. Forgives its earlier failures.",
        examples: &[Example { goal: "start the network service anew", arguments: r#"{"unit": "network"}"# }],
        needs: &["service:restart:{unit}"],
        risk: Risk::High,
        idempotent: false,
        timeout: TIMEOUT,
        sinks: &["/unit"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("service:restart:{}", input.unit)).talks_to(paths::INIT_SOCKET)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let mut units = order(host, &[&input.unit], |unit| Request::Restart { unit })?;
        Ok(Output { unit: units.remove(0) })
    }
}

#[cfg(test)]
mod tests {
    use aios_core::control::UnitState;

    use super::*;
    use crate::{error::Code, init::fake::FakeInit};

    #[test]
    fn a_failed_unit_runs_again() {
        let init = FakeInit::start(&["a"]);
        init.set("a", UnitState::Failed);
        let restart =
            |name: &str| Restart::run(Input { unit: name.to_owned().try_into().expect("name") }, &init.host());
        assert_eq!(restart("a").expect("restart").unit.state, "ready");
        assert_eq!(init.orders(), [Request::Restart { unit: "a".into() }]);
        assert_eq!(restart("z").map_err(|error| error.code).err(), Some(Code::NotFound));
    }
}
