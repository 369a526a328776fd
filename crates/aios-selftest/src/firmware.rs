//! What firmware and buses say of the machine.

use std::{fs, path::Path};

use crate::{Options, Problem, absent, failed};

/// ACPI tables, or a device tree.
pub fn description(_: &Options) -> Result<String, Problem> {
    let is_table = |name: &String| Path::new("/sys/firmware/acpi/tables").join(name).is_file();
    let tables: Vec<String> = names("/sys/firmware/acpi/tables").into_iter().filter(is_table).collect();
    if !tables.is_empty() {
        return Ok(format!("ACPI: {}", tables.join(" ")));
    }
    match fs::read_to_string("/sys/firmware/devicetree/base/model") {
        Ok(model) => Ok(format!("device tree: {}", model.trim_end_matches('\0'))),
        Err(_) => failed("the firmware gave the kernel neither ACPI tables nor a device tree"),
    }
}

pub fn pci(_: &Options) -> Result<String, Problem> {
    let devices = names("/sys/bus/pci/devices");
    if devices.is_empty() {
        return absent("there is no PCI bus");
    }
    let bound = |device: &&String| Path::new("/sys/bus/pci/devices").join(device).join("driver").exists();
    let with_driver = devices.iter().filter(bound).count();
    let told = format!("{} devices, {with_driver} with a driver", devices.len());
    if with_driver == 0 { failed(told) } else { Ok(told) }
}

pub fn iommu(_: &Options) -> Result<String, Problem> {
    let (units, groups) = (names("/sys/class/iommu"), names("/sys/kernel/iommu_groups"));
    match (units.as_slice(), groups.len()) {
        ([], _) => absent("the machine has no IOMMU, or its firmware has it off"),
        (_, 0) => failed(format!("{} is there, but no device is behind it", units.join(" "))),
        (_, groups) => Ok(format!("{}: {groups} groups", units.join(" "))),
    }
}

/// Sorted names in a folder; none where it is not there.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
