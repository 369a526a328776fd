//! `aios selftest` on the booted image, on a machine with every kind of disk and card that QEMU can emulate.

use std::{collections::BTreeMap, fs::File, path::Path};

use aios_image_tests::qemu::{Scratch, TestVm};
use aios_vm::{VmBuilder, conf_volume::EmergencyShell};
use serde::Deserialize;

const SCRATCH_DISK: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
struct Report {
    check: String,
    result: String,
    detail: String,
}

/// A disk on each controller, a second network card, an IOMMU, a second processor.
fn well_equipped(scratch: &Scratch) -> VmBuilder {
    let mut machine = scratch.machine("run").emergency_shell(EmergencyShell::Allowed).processors(2);
    for (name, device) in [("virtio", "virtio-blk-pci"), ("ahci", "ide-hd"), ("nvme", "nvme")] {
        let path = scratch.path().join(format!("{name}.img"));
        blank_disk(&path);
        machine = machine
            .option("-drive", format!("if=none,id={name},format=raw,cache=unsafe,file={}", path.display()))
            .option("-device", format!("{device},drive={name},serial=scratch-{name}"));
    }
    machine
        .option("-netdev", "user,id=second,net=10.0.3.0/24")
        .option("-device", "e1000e,netdev=second,romfile=")
        .option("-device", "intel-iommu")
}

fn blank_disk(path: &Path) {
    File::create(path)
        .and_then(|file| file.set_len(SCRATCH_DISK))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[test]
fn kernel_and_hardware_do_what_they_must() {
    let scratch = Scratch::new();
    let (mut machine, _) = TestVm::start_to_ready(well_equipped(&scratch));
    let names = machine.shell("for d in vd sd nvme; do ls -d /sys/block/$d*; done");
    let serial = |name: &str| {
        let find = format!(
            "grep -ls scratch-{name} /sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80"
        );
        let file = machine.shell(&find);
        let disk = file.trim_start_matches("/sys/block/").split('/').next().unwrap_or_default().to_owned();
        assert!(!disk.is_empty(), "no disk has the serial number scratch-{name}; there are:\n{names}");
        disk
    };
    let disks = ["virtio", "ahci", "nvme"].map(serial);
    refuses_disks_in_use(&mut machine, &disks[0]);
    let scratch_disks: String = disks.iter().map(|disk| format!(" --scratch /dev/{disk}")).collect();
    // Two processors take turns in one thread here, so that a deadline would measure QEMU.
    let all = "$(aios selftest --list | cut -d ' ' -f 1 | grep -v deadline)";
    let text = machine.shell(&format!("aios selftest --json --suspend{scratch_disks} {all}"));
    let reports = parse(&text);
    let skipped_in_a_virtual_machine = ["governor"];
    for (name, report) in &reports {
        let expected = if skipped_in_a_virtual_machine.contains(&name.as_str()) { "skip" } else { "pass" };
        assert_eq!(report.result, expected, "{name}: {}\n{text}", report.detail);
    }
    let detail = |name: &str| reports.get(name).map_or("", |report| report.detail.as_str());
    assert_eq!(detail("interrupts").matches("CPU ").count(), 2, "{text}");
    assert!(detail("affinity").contains("2 processors"), "{text}");
    for driver in ["virtio_blk", "ahci", "nvme"] {
        assert!(detail("disks").contains(&format!("({driver}) written and read")), "{text}");
    }
    for driver in ["virtio_net", "e1000e"] {
        assert!(detail("network").contains(&format!("({driver}) reaches")), "{text}");
    }
    assert!(detail("iommu").contains("dmar"), "{text}");
    machine.api().default_model().unwrap_or_else(|error| panic!("the runtime does not answer afterwards: {error}"));
}

/// The story: somebody mistypes the name of the disk, and names the one that the system runs from, or one with swap space.
/// Their other disk is left alone for its sake.
fn refuses_disks_in_use(machine: &mut TestVm, blank: &str) {
    let system = machine.shell("sed -n 's|^/dev/\\([a-z]*\\)[0-9]* /var/lib/aios .*|\\1|p' /proc/mounts");
    let told = machine.shell(&format!("aios selftest disks --scratch /dev/{blank} --scratch /dev/{system}"));
    assert!(told.contains(&format!("/dev/{system} is in use")), "{told}");
    let written = machine.shell(&format!("head -c 1048576 /dev/{blank} | tr -d '\\0' | wc -c"));
    assert_eq!(written, "0", "a disk was written to although another was refused");
    machine.shell(&format!("busybox mkswap /dev/{blank} && busybox swapon /dev/{blank}"));
    let told = machine.shell(&format!("aios selftest disks --scratch /dev/{blank}"));
    assert!(told.contains(&format!("/dev/{blank} is in use")), "{told}");
    machine.shell(&format!("busybox swapoff /dev/{blank}"));
}

/// A host that takes the processor away makes the guest miss deadlines, and never makes it meet them: the best of three
/// attempts is the kernel's.
#[test]
fn a_deadline_is_met_under_load() {
    let scratch = Scratch::new();
    let (mut machine, _) = TestVm::start_to_ready(scratch.machine("run").emergency_shell(EmergencyShell::Allowed));
    let mut told = String::new();
    let met = (0..3).any(|_| {
        told = machine.shell("aios selftest --json deadline");
        parse(&told)["deadline"].result == "pass"
    });
    assert!(met, "{told}");
}

/// A line of JSON for each check.
fn parse(text: &str) -> BTreeMap<String, Report> {
    let reports = text.lines().filter(|line| line.starts_with('{'));
    let reports =
        reports.map(|line| serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{error}: {line}")));
    let reports: BTreeMap<_, _> = reports.map(|report: Report| (report.check.clone(), report)).collect();
    assert!(!reports.is_empty(), "no report:\n{text}");
    reports
}
