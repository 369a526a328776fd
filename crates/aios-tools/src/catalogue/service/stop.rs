//! `service.stop`

use aios_core::{control::Request, paths};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dependency::Dependencies,
    start::{Start, TIMEOUT, Units, all, call_of, order},
    state::{Unit, is_wanted},
};
use crate::{
    access::Access,
    args::UnitName,
    error::ToolError,
    host::Host,
    init,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

pub struct Stop;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unit.
    unit: UnitName,
    /// Further units to stop after it, 32 at most.
    #[serde(default)]
    #[schemars(length(max = 32))]
    also: Units,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The units as they are now.
    units: Vec<Unit>,
}

impl Tool for Stop {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.stop",
        description: "Stops a unit (service) and what requires it, and waits until it has ended. It stays stopped until the next boot or start.",
        examples: &[Example { goal: "stop the model runtime", arguments: r#"{"unit": "runtime"}"# }],
        needs: &["service:stop:{unit}", "service:stop:{also}"],
        risk: Risk::High,
        reversible: true,
        timeout: TIMEOUT,
        sinks: &["/unit", "/also"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::default().talks_to(paths::INIT_SOCKET);
        let access =
            all(&input.unit, &input.also).fold(access, |access, unit| access.and(format!("service:stop:{unit}")));
        Dependencies::visible(access)
    }

    /// Starts again what runs now, of the units and of what requires them.
    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let dependencies = Dependencies::of(host);
        let states = init::status(host)?.units;
        let is_up = |name: &str| states.iter().any(|unit| unit.name == name && is_wanted(unit.state));
        let mut starts: Vec<String> = Vec::new();
        for unit in all(&input.unit, &input.also) {
            let with = std::iter::once(unit.to_string()).chain(dependencies.dependent_on(unit.as_str()));
            starts.extend(with.filter(|name| is_up(name)));
        }
        call_of::<Start>(starts)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let units: Vec<&UnitName> = all(&input.unit, &input.also).collect();
        Ok(Output { units: order(host, &units, |unit| Request::Stop { unit })? })
    }
}

#[cfg(test)]
mod tests {
    use aios_core::control::UnitState;
    use serde_json::json;

    use super::*;
    use crate::{catalogue::find, error::Code, init::fake::FakeInit};

    #[test]
    fn the_inverse_starts_what_the_stop_stopped_and_nothing_else() {
        let init = FakeInit::start(&["a", "b", "c"]);
        init.file("/etc/aios/units/a.toml", "requires = [\"b\"]");
        init.file("/etc/aios/units/b.toml", "");
        init.file("/etc/aios/units/c.toml", "requires = [\"b\"]");
        init.set("c", UnitState::Stopped);
        let before = init.states();
        let (tool, arguments) = (find("service.stop").expect("tool"), json!({"unit": "b"}));
        let inverse = tool.inverse(&arguments, &init.host()).expect("inverse");
        assert_eq!(
            inverse,
            Inverse::Call { tool: "service.start".into(), arguments: json!({"unit": "b", "also": ["a"]}) }
        );
        tool.run(&arguments, &init.host()).expect("stop");
        init.set("a", UnitState::Stopped);
        let Inverse::Call { tool, arguments } = inverse else { unreachable!() };
        find(&tool).expect("tool").run(&arguments, &init.host()).expect("start");
        assert_eq!(init.states(), before);
    }

    #[test]
    fn a_missing_unit_is_named() {
        let init = FakeInit::start(&["a"]);
        let failure = find("service.stop").expect("tool").run(&json!({"unit": "z"}), &init.host()).expect_err("no z");
        assert_eq!(failure.code, Code::NotFound);
        assert!(failure.message.contains('z'), "{failure}");
    }
}
