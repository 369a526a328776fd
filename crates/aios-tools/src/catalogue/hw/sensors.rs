//! `hw.sensors`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::{self, Folder};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/class/hwmon";
/// Readings that are shown at most.
const READINGS_MAX: usize = 200;

pub struct Sensors;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Readings, the first 200; empty where the device has no sensors that the kernel knows.
    readings: Vec<Reading>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Reading {
    /// Chip, as its driver calls it.
    chip: String,
    /// Sensor: its label, or the kernel's name.
    sensor: String,
    /// Value.
    value: f64,
    /// `celsius`, `volt`, `rpm`, `ampere`, `watt` or `percent`.
    unit: &'static str,
    /// Whether the chip raises an alarm.
    alarm: bool,
}

impl Tool for Sensors {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.sensors",
        description: "Reads all hardware sensors: temperatures (°C), voltages, fans (rpm), currents, power, humidity.",
        examples: &[Example { goal: "do the fans turn", arguments: "{}" }],
        needs: &["hw:read:sensors"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        sysfs::visible(Access::needs("hw:read:sensors"), FOLDER)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let mut readings = Vec::new();
        for chip in host.names(FOLDER) {
            let path = format!("{FOLDER}/{chip}");
            let folder = Folder::new(host, &path);
            let name = folder.text("name").unwrap_or(chip);
            readings.extend(host.names(&path).iter().filter_map(|file| reading(&name, file, folder)));
        }
        readings.truncate(READINGS_MAX);
        Ok(Output { readings })
    }
}

/// `temp1_input` and its like (Documentation/hwmon/sysfs-interface.rst). A sensor that can't be read now is left out.
fn reading(chip: &str, file: &str, folder: Folder<'_>) -> Option<Reading> {
    let sensor = file.strip_suffix("_input")?;
    let (unit, per_unit) = match sensor.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "temp" => ("celsius", 1e3),
        "in" => ("volt", 1e3),
        "fan" => ("rpm", 1.0),
        "curr" => ("ampere", 1e3),
        "power" => ("watt", 1e6),
        "humidity" => ("percent", 1e3),
        _ => return None,
    };
    Some(Reading {
        chip: chip.to_owned(),
        sensor: folder.text(&format!("{sensor}_label")).unwrap_or_else(|| sensor.to_owned()),
        value: folder.number::<i64>(file)? as f64 / per_unit,
        unit,
        alarm: folder.is_set(&format!("{sensor}_alarm")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn readings_have_the_unit_of_their_kind() {
        let system = FakeInit::start(&[]);
        let file = |name: &str, text: &str| system.file(&format!("{FOLDER}/hwmon0/{name}"), text);
        file("name", "nct6775\n");
        file("temp1_input", "-1500\n");
        file("temp1_label", "CPU\n");
        file("in0_input", "3300\n");
        file("in0_alarm", "1\n");
        file("fan2_input", "900\n");
        file("fan3_input", "N/A\n");
        file("pwm1", "128\n");
        let readings = Sensors::run(Input {}, &system.host()).expect("sensors").readings;
        let shown: Vec<_> = readings.iter().map(|one| (one.sensor.as_str(), one.value, one.unit, one.alarm)).collect();
        assert_eq!(shown, [("fan2", 900.0, "rpm", false), ("in0", 3.3, "volt", true), ("CPU", -1.5, "celsius", false)]);
        assert!(readings.iter().all(|one| one.chip == "nct6775"));
        assert!(Sensors::run(Input {}, &Host::below("/nonexistent")).expect("sensors").readings.is_empty());
    }
}
