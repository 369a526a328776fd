//! `hw.firmware`

use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::{self, Folder};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

const DMI: &str = "/sys/class/dmi/id";
const DEVICE_TREE: &str = "/sys/firmware/devicetree/base";
const EFI: &str = "/sys/firmware/efi";
/// UEFI specification, global variables: four bytes of attributes, then 1 where only signed programs start.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

pub struct Firmware;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// How the machine describes itself: `dmi` (PCs), `device-tree` (boards), or `none`.
    source: &'static str,
    /// Who made the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor: Option<String>,
    /// Machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Main board.
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<String>,
    /// What it is compatible with (device tree), the nearest first; 8 at most.
    compatible: Vec<String>,
    /// Version of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_version: Option<String>,
    /// Date of the firmware, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_date: Option<String>,
    /// Whether the machine was started by UEFI.
    uefi: bool,
    /// Whether only signed programs are started; absent where this can't be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<bool>,
}

impl Tool for Firmware {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.firmware",
        description: "Shows what the machine says it is (DMI or device tree), its firmware's version, and whether UEFI and secure boot are in use.",
        examples: &[Example { goal: "what machine is this", arguments: "{}" }],
        needs: &["hw:read:firmware"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        sysfs::visible(Access::needs("hw:read:firmware"), DMI).sees(DEVICE_TREE).sees(EFI)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let dmi = Folder::new(host, DMI);
        let tree = Folder::new(host, DEVICE_TREE);
        let compatible = host.text(format!("{DEVICE_TREE}/compatible")).unwrap_or_default();
        let source = match (dmi.text("sys_vendor"), tree.text("model")) {
            (Some(_), _) => "dmi",
            (None, Some(_)) => "device-tree",
            (None, None) => "none",
        };
        Ok(Output {
            source,
            vendor: dmi.text("sys_vendor"),
            model: dmi.text("product_name").or_else(|| tree.text("model")),
            board: dmi.text("board_name"),
            compatible: compatible
                .split('\0')
                .filter(|name| !name.is_empty())
                .take(8)
                .map(|name| plain(name, 64))
                .collect(),
            firmware_version: dmi.text("bios_version"),
            firmware_date: dmi.text("bios_date"),
            uefi: host.path(EFI).is_dir(),
            secure_boot: fs::read(host.path(SECURE_BOOT)).ok().and_then(|bytes| Some(*bytes.get(4)? == 1)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn a_pc_and_a_board_say_what_they_are() {
        let pc = FakeInit::start(&[]);
        pc.file(&format!("{DMI}/sys_vendor"), "QEMU\n");
        pc.file(&format!("{DMI}/product_name"), "Standard PC\n");
        pc.file(SECURE_BOOT, "\u{6}\0\0\0\u{1}");
        let output = Firmware::run(Input {}, &pc.host()).expect("firmware");
        assert_eq!((output.source, output.model.as_deref()), ("dmi", Some("Standard PC")));
        assert_eq!((output.uefi, output.secure_boot), (true, Some(true)));
        let board = FakeInit::start(&[]);
        board.file(&format!("{DEVICE_TREE}/model"), "Raspberry Pi 4 Model B\0");
        board.file(&format!("{DEVICE_TREE}/compatible"), "raspberrypi,4-model-b\0brcm,bcm2711\0");
        let output = Firmware::run(Input {}, &board.host()).expect("firmware");
        assert_eq!((output.source, output.model.as_deref()), ("device-tree", Some("Raspberry Pi 4 Model B")));
        assert_eq!((output.compatible.len(), output.uefi, output.secure_boot), (2, false, None));
        assert_eq!(Firmware::run(Input {}, &Host::below("/nonexistent")).expect("firmware").source, "none");
    }
}
