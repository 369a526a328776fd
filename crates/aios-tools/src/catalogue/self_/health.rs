//! `self.health`

use aios_core::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    catalogue::service::state::Unit,
    error::ToolError,
    host::Host,
    init,
    text::{plain, tenths},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Longest reason that is shown, in characters, and most of them.
const REASON_MAX: usize = 400;
const REASONS_MAX: usize = 20;

pub struct Health;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the boot went well and every unit is ready, or stopped because somebody wanted that.
    healthy: bool,
    /// What failed at boot, with reasons.
    boot_failures: Vec<String>,
    /// Units that are not ready.
    units: Vec<Unit>,
    /// Units that are ready.
    ready: usize,
    /// Seconds since the kernel started.
    uptime_s: f64,
}

impl Tool for Health {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.health",
        description: "Says whether the device is well: what failed at boot, and which units (services) are not ready and why.",
        examples: &[Example { goal: "is the device all right", arguments: "{}" }],
        needs: &["self:read:health"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:read:health").talks_to(paths::INIT_SOCKET)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let status = init::status(host)?;
        let (ready, units): (Vec<Unit>, Vec<Unit>) =
            status.units.into_iter().map(Unit::from).partition(|unit| unit.state == "ready");
        let boot_failures: Vec<String> =
            status.boot_failures.iter().take(REASONS_MAX).map(|reason| plain(reason, REASON_MAX)).collect();
        Ok(Output {
            healthy: boot_failures.is_empty() && units.iter().all(|unit| unit.state == "stopped"),
            boot_failures,
            ready: ready.len(),
            units,
            uptime_s: tenths(status.uptime_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use aios_core::control::UnitState;

    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn a_stopped_unit_is_no_illness_and_a_failed_one_is() {
        let init = FakeInit::start(&["a", "b"]);
        init.set("a", UnitState::Stopped);
        let output = Health::run(Input {}, &init.host()).expect("health");
        assert!(output.healthy && output.ready == 1 && output.units.len() == 1);
        init.set("b", UnitState::Failed);
        assert!(!Health::run(Input {}, &init.host()).expect("health").healthy);
    }
}
