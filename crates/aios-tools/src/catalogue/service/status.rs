//! `service.status`

use aios_core::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{dependency::Dependencies, state::Unit};
use crate::{
    access::Access,
    args::UnitName,
    error::ToolError,
    host::Host,
    init,
    tool::{Example, Origin, Tool, ToolSpec},
};

pub struct Status;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unit.
    unit: UnitName,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The unit.
    #[serde(flatten)]
    unit: Unit,
    /// Units that a start of it starts as well.
    requires: Vec<String>,
    /// Units that a stop of it stops as well.
    required_by: Vec<String>,
}

impl Tool for Status {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.status",
        description: "Shows one unit (service): its state, why it failed, and which units go up and down with it.",
        examples: &[Example { goal: "does the model runtime work", arguments: r#"{"unit": "runtime"}"# }],
        needs: &["service:read:{unit}"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("service:read:{}", input.unit)).talks_to(paths::INIT_SOCKET);
        Dependencies::visible(access)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let unit = init::unit(host, &input.unit)?.into();
        let dependencies = Dependencies::of(host);
        Ok(Output {
            unit,
            requires: dependencies.required_by(input.unit.as_str()).into_iter().collect(),
            required_by: dependencies.dependent_on(input.unit.as_str()).into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Code, init::fake::FakeInit};

    #[test]
    fn a_unit_is_shown_with_those_that_depend_on_it() {
        let init = FakeInit::start(&["a", "b"]);
        init.file("/etc/aios/units/a.toml", "requires = [\"b\"]");
        init.file("/etc/aios/units/b.toml", "");
        let status = |name: &str| Status::run(Input { unit: name.to_owned().try_into().expect("name") }, &init.host());
        let output = status("b").expect("status");
        assert_eq!((output.unit.state, output.required_by), ("ready", vec!["a".to_owned()]));
        assert_eq!(status("c").map_err(|error| error.code).err(), Some(Code::NotFound));
    }
}
