//! `hw.pci`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::{self, Folder};
use crate::{
    access::Access,
    args::Bounded,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/bus/pci/devices";

pub struct Pci;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Devices in the answer at most, 1 to 256.
    #[serde(default)]
    limit: Bounded<1, 256, 40>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Devices by address; empty where there is no PCI.
    devices: Vec<Device>,
    /// How many there are.
    total: usize,
    /// Whether some are left out.
    truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Device {
    /// Domain, bus, device and function: `0000:00:1f.2`.
    address: String,
    /// Number of the maker, in hexadecimal digits.
    vendor: String,
    /// The maker's number of the device, in hexadecimal digits.
    device: String,
    /// What kind of device it is: `storage`, `network`, `display` or another.
    kind: &'static str,
    /// The same as its number, in hexadecimal digits.
    class: String,
    /// Driver; absent where none is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
}

impl Tool for Pci {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.pci",
        description: "Lists the PCI devices with numbers of maker and device, kind and driver.",
        examples: &[Example { goal: "which PCI devices are there", arguments: "{}" }],
        needs: &["hw:read:pci"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        sysfs::visible(Access::needs("hw:read:pci"), FOLDER)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let names = host.names(FOLDER);
        let devices: Vec<Device> =
            names.iter().take(input.limit.length()).filter_map(|address| device(address, host)).collect();
        Ok(Output { devices, total: names.len(), truncated: names.len() > input.limit.length() })
    }
}

fn device(address: &str, host: &Host) -> Option<Device> {
    let path = format!("{FOLDER}/{address}");
    let folder = Folder::new(host, &path);
    let class = folder.hexadecimal("class")?;
    Some(Device {
        address: address.to_owned(),
        vendor: format!("{:04x}", folder.hexadecimal("vendor")?),
        device: format!("{:04x}", folder.hexadecimal("device")?),
        kind: kind(class),
        class: format!("{class:06x}"),
        driver: folder.link("driver"),
    })
}

/// The base class, as the PCI Code and ID Assignment Specification lists them.
fn kind(class: u32) -> &'static str {
    match class >> 16 {
        0x01 => "storage",
        0x02 => "network",
        0x03 => "display",
        0x04 => "multimedia",
        0x05 => "memory",
        0x06 => "bridge",
        0x07 => "communication",
        0x08 => "system",
        0x09 => "input",
        0x0b => "processor",
        0x0c => "serial-bus",
        0x0d => "wireless",
        0x10 => "encryption",
        0x12 => "accelerator",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn devices_have_their_driver_and_broken_ones_are_left_out() {
        let system = FakeInit::start(&[]);
        let file = |name: &str, text: &str| system.file(&format!("{FOLDER}/{name}"), text);
        file("0000:00:01.0/vendor", "0x1af4\n");
        file("0000:00:01.0/device", "0x1000\n");
        file("0000:00:01.0/class", "0x020000\n");
        file("0000:00:02.0/vendor", "junk\n");
        symlink("../../drivers/virtio-pci", system.host().path(format!("{FOLDER}/0000:00:01.0/driver"))).expect("link");
        let output = Pci::run(Input { limit: Bounded::default() }, &system.host()).expect("pci");
        let expected = Device {
            address: "0000:00:01.0".into(),
            vendor: "1af4".into(),
            device: "1000".into(),
            kind: "network",
            class: "020000".into(),
            driver: Some("virtio-pci".into()),
        };
        assert_eq!((output.devices, output.total, output.truncated), (vec![expected], 2, false));
    }
}
