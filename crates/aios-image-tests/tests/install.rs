//! From the live medium to a disk of its own, by firmware, without anybody at the console.

use std::{fs::File, os::unix::fs::FileExt as _};

use aios_image_tests::{
    install::{INSTALLED, empty_disk, first_boot, installs, live, with_disk},
    qemu::{Scratch, TestVm},
};
use aios_vm::{Firmware, ImageKind, conf_volume::EmergencyShell, machine::DiskFormat};

const GIB: u64 = 1 << 30;

/// The story: a new device gets the medium and a stick with its configuration, and is switched on. Somebody trips over
/// the cable; switched on again, it starts over and switches itself off. Without the medium it starts from its disk,
/// takes its configuration, and makes its data partition. Somebody puts the medium in again: it says what is wrong and
/// harms nothing. What the medium was started by makes no difference.
#[test]
fn a_blank_disk_is_installed_unattended_and_boots_by_uefi_and_bios() {
    let scratch = Scratch::new();
    let disk = empty_disk(&scratch, 4 * GIB);
    let mut cut = TestVm::start(live(&scratch, "cut", Firmware::Uefi, &disk));
    cut.expect_line("aios-install: writing: ");
    drop(cut);
    installs(&scratch, Firmware::Bios, &disk);
    let token = first_boot(&scratch, &disk);

    let second = scratch.machine("second").disk(&disk, DiskFormat::Qcow2).firmware(Firmware::Bios);
    let (second, _) = TestVm::start_to_ready(second);
    second.api().with_token(&token).default_model().unwrap_or_else(|error| panic!("the token is gone: {error}"));
    second.power_off();

    let again = live(&scratch, "again", Firmware::Uefi, &disk).setting("install.then = \"reboot\"");
    let (mut again, _) = TestVm::start_to_ready(again);
    again.expect_line("holds aiOS already; take the medium out");
    let text = again.power_off();
    assert!(!text.contains(INSTALLED), "an installed disk was installed to again:\n{text}");
}

#[test]
fn a_disk_that_is_too_small_is_refused_on_the_console() {
    let scratch = Scratch::new();
    let disk = empty_disk(&scratch, GIB);
    let mut machine = TestVm::start(live(&scratch, "live", Firmware::Uefi, &disk));
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
    machine.wait_off();
    let (installed, _) = TestVm::start_to_ready(scratch.machine("installed").disk(&disk, DiskFormat::Raw));
    installed.power_off();
}
