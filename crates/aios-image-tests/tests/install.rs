//! From the live medium to a disk of its own, by firmware, without anybody at the console.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use aios_image_tests::qemu::{Scratch, TestVm, ready_patience};
use aios_vm::{Architecture, Firmware, ImageKind, VmBuilder, conf_volume::EmergencyShell, disk, machine::DiskFormat};

const GIB: u64 = 1 << 30;

/// What the configuration volume says.
const AUTO: &str = "install.disk = \"auto\"";

/// Says that the disk is written and read back.
const INSTALLED: &str = "is installed, written and read back";

/// The story: a new device gets the medium and a stick with its configuration, and is switched on. Somebody trips over
/// the cable; switched on again, it starts over and switches itself off. Without the medium it starts from its disk,
/// takes its configuration, and makes its data partition. Somebody puts the medium in again: it says what is wrong and
/// harms nothing.
#[test]
fn a_blank_disk_is_installed_unattended_and_boots_by_uefi_and_bios() {
    let scratch = Scratch::new();
    let disk = empty_disk(&scratch, 4 * GIB);
    let mut cut = TestVm::start(live(&scratch, "cut", &disk));
    cut.expect_line("aios-install: writing: ");
    drop(cut);
    let text = installs(&scratch, &disk);
    assert!(text.contains("aios-install: writing: 100 % of "), "no progress on the console:\n{text}");
    assert!(text.contains("aios-install: reading back: 100 % of "), "no check on the console:\n{text}");

    let first = scratch.machine("first").disk(&disk, DiskFormat::Qcow2).firmware(Firmware::Uefi);
    let (mut first, _) = TestVm::start_to_ready(first);
    let token = first.environment().token.clone();
    first
        .wait_ready(ready_patience(Architecture::X86_64), |_| {})
        .unwrap_or_else(|error| panic!("no answer with the imported token: {error}"));
    let text = first.power_off();
    assert!(text.contains("data partition") && text.contains(" created, "), "no data partition:\n{text}");
    assert!(!text.contains("aios-install"), "the installed system wanted to install:\n{text}");

    let second = scratch.machine("second").disk(&disk, DiskFormat::Qcow2).firmware(Firmware::Bios);
    let (mut second, _) = TestVm::start_to_ready(second);
    second.expect_line("aios-init: all units Ready");
    second.api().with_token(&token).default_model().unwrap_or_else(|error| panic!("the token is gone: {error}"));
    second.power_off();

    let again = live(&scratch, "again", &disk).setting("install.then = \"reboot\"");
    let (mut again, _) = TestVm::start_to_ready(again);
    again.expect_line("holds aiOS already; take the medium out");
    let text = again.power_off();
    assert!(!text.contains(INSTALLED), "an installed disk was installed to again:\n{text}");
}

#[test]
fn a_disk_that_is_too_small_is_refused_on_the_console() {
    let scratch = Scratch::new();
    let disk = empty_disk(&scratch, GIB);
    let mut machine = TestVm::start(live(&scratch, "live", &disk));
    machine.expect_line("aios-install: failed: nothing was written: there is no empty disk; ");
    machine.expect_line("is too small: it has 1024 MiB");
    machine.expect_line("aios-init: unit install: Failed");
    machine.power_off();
}

/// The story: somebody at the console types the name of a disk with something on it, and of the medium itself.
#[test]
fn by_hand_a_disk_that_is_not_empty_needs_force() {
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk.raw");
    let raw = File::create(&disk).expect("the scratch directory takes a file");
    raw.set_len(4 * GIB).expect("the file system knows sparse files");
    raw.write_all_at(b"XFSB", 0).expect("the file can be written");
    let live = with_disk(scratch.machine("live").image(ImageKind::Iso), &disk, DiskFormat::Raw);
    let (mut machine, _) = TestVm::start_to_ready(live.emergency_shell(EmergencyShell::Allowed));
    let mut types = |line: &str, answer: &str| {
        machine.send_console(&format!("{line}\n")).expect("the console takes a line");
        machine.expect_line(answer);
    };
    types("aios install --list", "needs --force, which overwrites it");
    types("aios install --force /dev/sr0", "nothing was written: /dev/sr0 is the medium that this system runs from");
    types("aios install /dev/vdb", "nothing was written: /dev/vdb is not empty, it holds a file system: xfs");
    let mut first = [0; 4];
    raw.sync_all().and_then(|()| File::open(&disk)?.read_exact_at(&mut first, 0)).expect("the file can be read");
    assert_eq!(&first, b"XFSB", "a refused disk was written to");
    types("aios install --force --then poweroff /dev/vdb", INSTALLED);
    ends(machine);
    let (installed, _) = TestVm::start_to_ready(scratch.machine("installed").disk(&disk, DiskFormat::Raw));
    installed.power_off();
}

fn empty_disk(scratch: &Scratch, size: u64) -> PathBuf {
    let disk = scratch.path().join("disk.qcow2");
    disk::create_empty(&disk, size).unwrap_or_else(|error| panic!("{error}"));
    disk
}

/// A machine that starts from the medium, and finds this empty disk and an order to install.
fn live(scratch: &Scratch, name: &str, disk: &Path) -> VmBuilder {
    let machine = scratch.machine(name).image(ImageKind::Iso).firmware(Firmware::Uefi);
    with_disk(machine, disk, DiskFormat::Qcow2).setting(AUTO)
}

/// One more disk, behind the configuration volume: `/dev/vdb`.
fn with_disk(machine: VmBuilder, disk: &Path, format: DiskFormat) -> VmBuilder {
    machine
        .option("-drive", format!("if=none,id=target,format={},file={}", format.name(), disk.display()))
        .option("-device", "virtio-blk-pci,drive=target,serial=target")
}

/// Starts the medium and waits until it has installed and switched the machine off; returns the console.
fn installs(scratch: &Scratch, disk: &Path) -> String {
    let mut machine = TestVm::start(live(scratch, "live", disk));
    machine.expect_line(INSTALLED);
    ends(machine)
}

/// Waits until the machine has switched itself off; returns the console.
fn ends(mut machine: TestVm) -> String {
    let status = machine.wait_end(ready_patience(Architecture::X86_64)).unwrap_or_else(|error| panic!("{error}"));
    let text = machine.console_text();
    assert!(status.success() && text.contains("aios-init: power off now"), "qemu ended with {status}:\n{text}");
    text
}
