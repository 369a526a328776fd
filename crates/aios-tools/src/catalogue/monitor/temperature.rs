//! `monitor.temperature`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    text::{plain, tenths},
    tool::{Example, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/class/thermal";
/// Zones that are shown at most.
const ZONES_MAX: usize = 64;

pub struct Temperature;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Thermal zones, the first 64; empty where the device has none.
    zones: Vec<Zone>,
    /// The hottest, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    highest_c: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Zone {
    /// The kernel's name.
    zone: String,
    /// What is measured, as its driver says: `cpu-thermal`, `x86_pkg_temp`.
    kind: String,
    /// Now, in degrees Celsius.
    temperature_c: f64,
    /// Where the kernel switches the device off.
    #[serde(skip_serializing_if = "Option::is_none")]
    critical_c: Option<f64>,
}

impl Tool for Temperature {
    const SPEC: ToolSpec = ToolSpec {
        name: "monitor.temperature",
        description: "Shows the temperatures of the thermal zones in degrees Celsius, with the critical ones. hw.sensors has all sensors.",
        examples: &[Example { goal: "is the device too hot", arguments: "{}" }],
        needs: &["monitor:read:temperature"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        visible(Access::needs("monitor:read:temperature"))
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let zones = zones(host);
        let highest_c = highest(&zones);
        Ok(Output { zones, highest_c })
    }
}

/// What reading temperatures takes.
pub fn visible(access: Access) -> Access {
    access.sees(FOLDER).sees("/sys/devices")
}

/// The hottest zone's temperature, where there is one.
pub fn highest_now(host: &Host) -> Option<f64> {
    highest(&zones(host))
}

fn highest(zones: &[Zone]) -> Option<f64> {
    zones.iter().map(|zone| zone.temperature_c).max_by(f64::total_cmp)
}

/// A zone whose driver can't tell its temperature now is left out.
fn zones(host: &Host) -> Vec<Zone> {
    let names = host.names(FOLDER).into_iter().filter(|name| name.starts_with("thermal_zone"));
    names.take(ZONES_MAX).filter_map(|name| zone(&name, host)).collect()
}

fn zone(name: &str, host: &Host) -> Option<Zone> {
    let file = |file: &str| host.line(format!("{FOLDER}/{name}/{file}"));
    let degrees = |name: &str| Some(tenths(file(name)?.trim().parse::<i64>().ok()? as f64 / 1000.0));
    let critical = (0..16).find(|trip| file(&format!("trip_point_{trip}_type")).as_deref() == Some("critical"));
    Some(Zone {
        zone: plain(name, 32),
        kind: plain(&file("type").unwrap_or_default(), 64),
        temperature_c: degrees("temp")?,
        critical_c: critical.and_then(|trip| degrees(&format!("trip_point_{trip}_temp"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn millidegrees_become_degrees_and_broken_zones_are_left_out() {
        let system = FakeInit::start(&[]);
        let file =
            |zone: u32, name: &str, text: &str| system.file(&format!("{FOLDER}/thermal_zone{zone}/{name}"), text);
        file(0, "type", "cpu-thermal\n");
        file(0, "temp", "48312\n");
        file(0, "trip_point_0_type", "passive\n");
        file(0, "trip_point_1_type", "critical\n");
        file(0, "trip_point_1_temp", "110000\n");
        file(1, "temp", "-5000\n");
        file(2, "type", "broken\n");
        let output = Temperature::run(Input {}, &system.host()).expect("temperature");
        assert_eq!(output.zones.iter().map(|zone| zone.temperature_c).collect::<Vec<_>>(), [48.3, -5.0]);
        assert_eq!((output.highest_c, output.zones[0].critical_c), (Some(48.3), Some(110.0)));
    }

    #[test]
    fn a_device_without_zones_has_none() {
        let output = Temperature::run(Input {}, &Host::below("/nonexistent")).expect("temperature");
        assert!(output.zones.is_empty() && output.highest_c.is_none());
    }
}
