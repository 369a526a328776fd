//! Kernel modules: which module drives a device (`modules.alias`), what it needs first (`modules.dep`), and loading.

mod alias;
mod hotplug;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

pub use alias::{AliasIndex, matches};
pub use hotplug::Hotplug;
pub use tree::{ModuleTree, TreeError};

/// `MODULE_INIT_COMPRESSED_FILE` of `finit_module(2)`: the kernel unpacks the module itself.
const COMPRESSED: i32 = 4;

/// Passes over the devices of the machine: each may load a bus driver that makes further devices visible.
const COLDPLUG_PASSES: usize = 8;

/// Puts modules into the kernel; replaced in tests.
pub trait Kernel {
    /// Loads one module file whose dependencies are loaded.
    fn insert(&mut self, file: &Path) -> io::Result<()>;
}

/// The running kernel.
#[derive(Debug, Default)]
pub struct RunningKernel;

impl Kernel for RunningKernel {
    fn insert(&mut self, file: &Path) -> io::Result<()> {
        let opened = File::open(file)?;
        let packed = file.extension().is_some_and(|e| e == "xz" || e == "zst" || e == "gz");
        Ok(rustix::system::finit_module(&opened, c"", if packed { COMPRESSED } else { 0 })?)
    }
}

/// What a round of loading did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Modules that went in now.
    pub inserted: usize,
    /// Modules that should have gone in and did not, with the reason.
    pub failed: Vec<String>,
}

/// Loads one file. A module that is in already, or that finds none of its hardware, is no failure.
pub fn insert(kernel: &mut dyn Kernel, file: &Path, outcome: &mut Loaded) {
    match kernel.insert(file) {
        Ok(()) => outcome.inserted += 1,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::EXIST | Errno::NODEV) => {}
            _ => outcome.failed.push(format!("{}: {error}", file.display())),
        },
    }
}

/// Loads the modules for every device that the kernel shows under `sys`, and again for those that appear by that.
pub fn coldplug(tree: &mut ModuleTree, kernel: &mut dyn Kernel, sys: &Path) -> Result<Loaded, TreeError> {
    let mut outcome = Loaded::default();
    let mut seen = BTreeSet::new();
    let mut index = None;
    for _ in 0..COLDPLUG_PASSES {
        let fresh: Vec<String> = device_aliases(sys).into_iter().filter(|alias| seen.insert(alias.clone())).collect();
        if fresh.is_empty() {
            break;
        }
        let index = match &mut index {
            Some(index) => index,
            empty => empty.insert(tree.aliases()?),
        };
        let before = outcome.inserted;
        for alias in &fresh {
            tree.load_for_alias(index, alias, kernel, &mut outcome);
        }
        if outcome.inserted == before {
            break;
        }
    }
    Ok(outcome)
}

/// The `modalias` of every device: those on buses, input devices (class devices with aliases) and the two odd places
/// of the processor and the firmware tables.
fn device_aliases(sys: &Path) -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    let mut take = |file: &Path| {
        if let Ok(text) = fs::read_to_string(file) {
            let alias = text.trim_end();
            if !alias.is_empty() {
                aliases.insert(alias.to_owned());
            }
        }
    };
    for bus in entries(&sys.join("bus")) {
        for device in entries(&bus.join("devices")) {
            take(&device.join("modalias"));
        }
    }
    for input in entries(&sys.join("class/input")) {
        take(&input.join("modalias"));
    }
    take(&sys.join("devices/system/cpu/modalias"));
    take(&sys.join("devices/virtual/dmi/id/modalias"));
    aliases
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir).map(|list| list.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A kernel in which loading `xhci-pci` makes a USB device visible, as a bus driver does.
    struct BusKernel {
        sys: PathBuf,
        inserted: Vec<String>,
    }

    impl Kernel for BusKernel {
        fn insert(&mut self, file: &Path) -> io::Result<()> {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            match name.as_str() {
                "xhci-pci.ko.xz" => {
                    device(&self.sys, "usb", "1-1", "usb:v0781p5567d0127dc00dsc00dp00ic08isc06ip50in00")
                }
                "absent.ko" => return Err(Errno::NODEV.into()),
                "broken.ko" => return Err(Errno::NOEXEC.into()),
                _ => {}
            }
            self.inserted.push(name);
            Ok(())
        }
    }

    fn device(sys: &Path, bus: &str, name: &str, alias: &str) {
        let dir = sys.join("bus").join(bus).join("devices").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("modalias"), format!("{alias}\n")).unwrap();
    }

    fn tree(dir: &Path) -> ModuleTree {
        fs::write(
            dir.join("modules.alias"),
            "# Aliases extracted from modules themselves.\n\
             alias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci\n\
             alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n\
             alias pci:v00008086d00007010sv*sd*bc*sc*i* absent\n\
             alias pci:v00001AF4d00001005sv*sd*bc*sc*i* broken\n",
        )
        .unwrap();
        fs::write(
            dir.join("modules.dep"),
            "kernel/usb/xhci-pci.ko.xz: kernel/usb/xhci-hcd.ko.xz kernel/usb/usbcore.ko.xz\n\
             kernel/usb/xhci-hcd.ko.xz: kernel/usb/usbcore.ko.xz\n\
             kernel/usb/usbcore.ko.xz:\n\
             kernel/usb/usb-storage.ko.xz: kernel/usb/usbcore.ko.xz\n\
             kernel/absent.ko:\n\
             kernel/broken.ko:\n",
        )
        .unwrap();
        ModuleTree::open(dir, &dir.join("blacklist")).unwrap()
    }

    #[test]
    fn a_device_behind_a_bus_is_found_in_a_later_pass() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        device(sys.path(), "pci", "0000:00:04.0", "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        let outcome = coldplug(&mut tree(modules.path()), &mut kernel, sys.path()).unwrap();
        assert_eq!(kernel.inserted, ["usbcore.ko.xz", "xhci-hcd.ko.xz", "xhci-pci.ko.xz", "usb-storage.ko.xz"]);
        assert_eq!((outcome.inserted, outcome.failed.len()), (4, 0));
    }

    #[test]
    fn a_module_without_its_hardware_is_quiet_and_a_broken_one_is_named() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        device(sys.path(), "pci", "a", "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80");
        device(sys.path(), "pci", "b", "pci:v00001AF4d00001005sv00001AF4sd00001100bc00scFFi00");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        let outcome = coldplug(&mut tree(modules.path()), &mut kernel, sys.path()).unwrap();
        assert_eq!(outcome.inserted, 0);
        assert_eq!(outcome.failed.len(), 1, "{:?}", outcome.failed);
        assert!(outcome.failed[0].contains("broken.ko"), "{:?}", outcome.failed);
    }

    #[test]
    fn a_blacklisted_module_stays_out() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(modules.path().join("blacklist"), "# no USB here\nxhci-pci\n").unwrap();
        device(sys.path(), "pci", "0000:00:04.0", "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        coldplug(&mut tree(modules.path()), &mut kernel, sys.path()).unwrap();
        assert!(kernel.inserted.is_empty(), "{:?}", kernel.inserted);
    }
}
