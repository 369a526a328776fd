//! `service.start`

use std::time::Duration;

use aios_core::{control::Request, paths};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    dependency::Dependencies,
    state::{Unit, is_wanted},
    stop::Stop,
};
use crate::{
    access::Access,
    args::UnitName,
    error::{Code, ToolError},
    host::Host,
    init,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

/// Most units of one call.
pub(super) const UNITS_MAX: usize = 32;
/// A unit takes as long as its file allows. What takes longer than this goes on without the caller.
pub(super) const PATIENCE: Duration = Duration::from_secs(200);
/// The call ends after the units' time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(240);

pub struct Start;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unit.
    unit: UnitName,
    /// Further units to start after it, 32 at most.
    #[serde(default)]
    #[schemars(length(max = 32))]
    also: Units,
}

/// Several units.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<UnitName>")]
pub struct Units(Vec<UnitName>);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The units as they are now.
    units: Vec<Unit>,
}

impl TryFrom<Vec<UnitName>> for Units {
    type Error = String;

    fn try_from(units: Vec<UnitName>) -> Result<Self, String> {
        match units.len() {
            0..=UNITS_MAX => Ok(Units(units)),
            length => Err(format!("{length} units are too many: name {UNITS_MAX} at most")),
        }
    }
}

/// `unit` and then `also`.
pub(super) fn all<'a>(unit: &'a UnitName, also: &'a Units) -> impl Iterator<Item = &'a UnitName> {
    std::iter::once(unit).chain(&also.0)
}

/// Has PID 1 do `order` with each unit. All of them must exist before anything happens.
pub(super) fn order(host: &Host, units: &[&UnitName], order: fn(String) -> Request) -> Result<Vec<Unit>, ToolError> {
    for unit in units {
        init::unit(host, unit)?;
    }
    for unit in units {
        init::order(host, &order(unit.to_string()), PATIENCE)?;
    }
    units.iter().map(|unit| init::unit(host, unit).map(Unit::from)).collect()
}

impl Tool for Start {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.start",
        description: "Starts a unit (service) and what it requires, and waits until it is ready, 200 seconds at most.",
        examples: &[Example { goal: "start the model runtime", arguments: r#"{"unit": "runtime"}"# }],
        needs: &["service:start:{unit}", "service:start:{also}"],
        risk: Risk::Medium,
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
            all(&input.unit, &input.also).fold(access, |access, unit| access.and(format!("service:start:{unit}")));
        Dependencies::visible(access)
    }

    /// Stops again what does not run now, of the units and of what they require.
    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let dependencies = Dependencies::of(host);
        let states = init::status(host)?.units;
        let is_down = |name: &str| states.iter().any(|unit| unit.name == name && !is_wanted(unit.state));
        let mut stops: Vec<String> = Vec::new();
        for unit in all(&input.unit, &input.also) {
            // The unit first: its requirements can't stop before it.
            let with = std::iter::once(unit.to_string()).chain(dependencies.required_by(unit.as_str()));
            stops.extend(with.filter(|name| is_down(name)));
        }
        call_of::<Stop>(stops)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let units: Vec<&UnitName> = all(&input.unit, &input.also).collect();
        Ok(Output { units: order(host, &units, |unit| Request::Start { unit })? })
    }
}

/// The call of `T`, a tool with `unit` and `also`, for `units`.
pub(super) fn call_of<T: Tool>(mut units: Vec<String>) -> Result<Inverse, ToolError> {
    let mut seen = std::collections::BTreeSet::new();
    units.retain(|unit| seen.insert(unit.clone()));
    if units.is_empty() {
        return Ok(Inverse::Nothing);
    }
    let unit = units.remove(0);
    if units.len() > UNITS_MAX {
        let text = format!("{} units go with {unit}, too many to bring them back in one call", units.len());
        return Err(ToolError::new(Code::TooLarge, text));
    }
    let arguments = if units.is_empty() { json!({ "unit": unit }) } else { json!({ "unit": unit, "also": units }) };
    Ok(Inverse::Call { tool: T::SPEC.name.into(), arguments })
}

#[cfg(test)]
mod tests {
    use aios_core::control::UnitState;

    use super::*;
    use crate::{catalogue::find, init::fake::FakeInit};

    #[test]
    fn the_inverse_stops_what_the_start_started_and_nothing_else() {
        let init = FakeInit::start(&["a", "b", "c"]);
        init.file("/etc/aios/units/a.toml", "requires = [\"b\", \"c\"]");
        init.file("/etc/aios/units/b.toml", "");
        init.file("/etc/aios/units/c.toml", "");
        init.set("a", UnitState::Stopped);
        init.set("b", UnitState::Stopped);
        let before = init.states();
        let (tool, arguments) = (find("service.start").expect("tool"), json!({"unit": "a"}));
        let inverse = tool.inverse(&arguments, &init.host()).expect("inverse");
        assert_eq!(
            inverse,
            Inverse::Call { tool: "service.stop".into(), arguments: json!({"unit": "a", "also": ["b"]}) }
        );
        tool.run(&arguments, &init.host()).expect("start");
        // The stand-in for PID 1 starts no requirements by itself.
        tool.run(&json!({"unit": "b"}), &init.host()).expect("start");
        assert_eq!(init.states()[0].1, UnitState::Ready);
        let Inverse::Call { tool, arguments } = inverse else { unreachable!() };
        find(&tool).expect("tool").run(&arguments, &init.host()).expect("stop");
        assert_eq!(init.states(), before);
    }

    #[test]
    fn a_start_of_what_runs_needs_no_undoing() {
        let init = FakeInit::start(&["a"]);
        let tool = find("service.start").expect("tool");
        assert_eq!(tool.inverse(&json!({"unit": "a"}), &init.host()), Ok(Inverse::Nothing));
    }

    #[test]
    fn nothing_happens_where_a_unit_is_missing() {
        let init = FakeInit::start(&["a"]);
        let tool = find("service.start").expect("tool");
        let failure = tool.run(&json!({"unit": "a", "also": ["z"]}), &init.host()).expect_err("no z");
        assert_eq!((failure.code, init.orders()), (Code::NotFound, vec![]));
        assert!(tool.access(&json!({"unit": "a", "also": vec!["b"; 33]})).is_err());
        assert_eq!(
            tool.access(&json!({"unit": "a", "also": ["b"]})).expect("access").capabilities,
            ["service:start:a", "service:start:b"]
        );
    }
}
