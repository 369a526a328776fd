//! From the live medium to a disk of its own, without anybody at the console: the parts that boards and firmwares share.

use std::path::{Path, PathBuf};

use aios_vm::{Firmware, ImageKind, VmBuilder, disk, machine::DiskFormat};

use crate::qemu::{Scratch, TestVm};

/// What the configuration volume says.
const AUTO: &str = "install.disk = \"auto\"";

/// Says that the disk is written and read back.
pub const INSTALLED: &str = "is installed, written and read back";

pub fn empty_disk(scratch: &Scratch, size: u64) -> PathBuf {
    let disk = scratch.path().join("disk.qcow2");
    disk::create_empty(&disk, size).unwrap_or_else(|error| panic!("{error}"));
    disk
}

/// A machine that starts from the medium, and finds this empty disk and an order to install.
pub fn live(scratch: &Scratch, name: &str, firmware: Firmware, disk: &Path) -> VmBuilder {
    let machine = scratch.machine(name).image(ImageKind::Iso).firmware(firmware);
    with_disk(machine, disk, DiskFormat::Qcow2).setting(AUTO)
}

/// One more disk, behind the configuration volume: `/dev/vdb`.
pub fn with_disk(machine: VmBuilder, disk: &Path, format: DiskFormat) -> VmBuilder {
    machine
        .option("-drive", format!("if=none,id=target,format={},file={}", format.name(), disk.display()))
        .option("-device", "virtio-blk-pci,drive=target,serial=target")
}

/// Starts the medium and waits until it has installed and switched the machine off.
pub fn installs(scratch: &Scratch, firmware: Firmware, disk: &Path) {
    let mut machine = TestVm::start(live(scratch, "live", firmware, disk));
    machine.expect_line(INSTALLED);
    let text = machine.wait_off();
    assert!(text.contains("aios-install: writing: 100 % of "), "no progress on the console:\n{text}");
    assert!(text.contains("aios-install: reading back: 100 % of "), "no check on the console:\n{text}");
}

/// Starts the installed disk, which takes its configuration, makes its data partition, and answers; returns the token.
pub fn first_boot(scratch: &Scratch, disk: &Path) -> String {
    let first = scratch.machine("first").disk(disk, DiskFormat::Qcow2).firmware(Firmware::Uefi);
    let (mut first, _) = TestVm::start_to_ready(first);
    let token = first.environment().token.clone();
    let patience = first.ready_patience();
    first.wait_ready(patience, |_| {}).unwrap_or_else(|error| panic!("no answer with the imported token: {error}"));
    let text = first.power_off();
    assert!(text.contains("data partition") && text.contains(" created, "), "no data partition:\n{text}");
    assert!(!text.contains("aios-install"), "the installed system wanted to install:\n{text}");
    token
}
