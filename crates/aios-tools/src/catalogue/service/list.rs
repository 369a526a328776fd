//! `service.list`

use aios_core::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::Unit;
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    init,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct List;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Units by name.
    units: Vec<Unit>,
    /// How many are neither ready nor stopped.
    unsettled: usize,
}

impl Tool for List {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.list",
        description: "Lists the units (services) of this device with state, main process, restarts and memory (bytes).",
        examples: &[Example { goal: "which services run", arguments: "{}" }],
        needs: &["service:read:all"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("service:read:all").talks_to(paths::INIT_SOCKET)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let units: Vec<Unit> = init::status(host)?.units.into_iter().map(Unit::from).collect();
        let unsettled = units.iter().filter(|unit| !matches!(unit.state, "ready" | "stopped")).count();
        Ok(Output { units, unsettled })
    }
}

#[cfg(test)]
mod tests {
    use aios_core::control::UnitState;

    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn units_that_need_a_look_are_counted() {
        let init = FakeInit::start(&["a", "b", "c"]);
        init.set("b", UnitState::Failed);
        init.set("c", UnitState::Stopped);
        let output = List::run(Input {}, &init.host()).expect("list");
        let states: Vec<_> = output.units.iter().map(|unit| (unit.name.as_str(), unit.state)).collect();
        assert_eq!(states, [("a", "ready"), ("b", "failed"), ("c", "stopped")]);
        assert_eq!((output.unsettled, output.units[1].failure.as_deref()), (1, Some("exec: no such file")));
    }
}
