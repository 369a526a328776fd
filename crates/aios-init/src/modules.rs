//! Kernel modules: which module drives a device (`modules.alias`), what it needs first (`modules.dep`), and loading.

mod alias;
mod hotplug;
mod ko;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

pub use alias::{AliasIndex, matches};
pub use hotplug::{Heard, Hotplug};
pub use ko::ModuleInfo;
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

/// Loads one file and returns whether the module is in the kernel now. One that finds none of its hardware stays out, and
/// is no failure.
pub fn insert(kernel: &mut dyn Kernel, file: &Path, outcome: &mut Loaded) -> bool {
    let Err(error) = kernel.insert(file) else {
        outcome.inserted += 1;
        return true;
    };
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => return true,
        Some(Errno::NODEV) => {}
        _ => outcome.failed.push(format!("{}: {error}", file.display())),
    }
    false
}

/// Name of the module in a file: `kernel/a/b-c.ko.xz` is `b_c`.
pub fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    canonical(name.split(".ko").next().unwrap_or_default())
}

/// `-` and `_` are the same in module names.
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// What a soft dependency wants before: `pre: a b post: c` gives `a` and `b`.
fn before(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace().skip_while(|word| *word != "pre:").skip(1).take_while(|word| *word != "post:")
}

/// Which devices a round is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// What services may need from their first moment: disks, networks, clocks, watchdogs.
    First,
    /// What can come while they start: processor features, displays, sound, keyboards.
    Later,
}

/// Loads the modules for the devices of a round that the kernel shows under `sys`, and again for those that appear by
/// that.
pub fn coldplug(tree: &mut ModuleTree, round: Round, kernel: &mut dyn Kernel, sys: &Path) -> Result<Loaded, TreeError> {
    let mut outcome = Loaded::default();
    let mut seen = BTreeSet::new();
    let index = tree.aliases()?;
    for _ in 0..COLDPLUG_PASSES {
        let before = outcome.inserted;
        for alias in device_aliases(sys) {
            if round_of(&alias) == round && seen.insert(alias.clone()) {
                tree.load_for_alias(&index, &alias, kernel, &mut outcome);
            }
        }
        if outcome.inserted == before {
            break;
        }
    }
    Ok(outcome)
}

/// When a device's turn is, by its alias.
fn round_of(alias: &str) -> Round {
    let Some((bus, rest)) = alias.split_once(':') else { return Round::First };
    match bus {
        "cpu" | "dmi" | "input" | "serio" | "hid" | "hdaudio" | "drm" => Round::Later,
        // PCI classes 03 and 04 are displays and multimedia. The identifiers before are upper-case hexadecimal.
        "pci" if rest.contains("bc03sc") || rest.contains("bc04sc") => Round::Later,
        _ => Round::First,
    }
}

/// The `modalias` of every device: those on buses, input devices (class devices with aliases) and the two odd places
/// of the processor and the firmware tables.
pub fn device_aliases(sys: &Path) -> BTreeSet<String> {
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
pub mod testing {
    pub use super::ko::testing::module;
    use super::{Kernel, Path, io, module_name};

    /// A kernel that takes every module and keeps their names in order.
    #[derive(Debug, Default)]
    pub struct Recorder(pub Vec<String>);

    impl Kernel for Recorder {
        fn insert(&mut self, file: &Path) -> io::Result<()> {
            self.0.push(module_name(file));
            Ok(())
        }
    }
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
             kernel/needs-absent.ko: kernel/absent.ko\n\
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
        let outcome = coldplug(&mut tree(modules.path()), Round::First, &mut kernel, sys.path()).unwrap();
        assert_eq!(kernel.inserted, ["usbcore.ko.xz", "xhci-hcd.ko.xz", "xhci-pci.ko.xz", "usb-storage.ko.xz"]);
        assert_eq!((outcome.inserted, outcome.failed.len()), (4, 0));
    }

    #[test]
    fn a_module_without_its_hardware_is_quiet_and_a_broken_one_is_named() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        device(sys.path(), "pci", "a", "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80");
        device(sys.path(), "pci", "b", "pci:v00001AF4d00001005sv00001AF4sd00001100bc00scFFi00");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        let outcome = coldplug(&mut tree(modules.path()), Round::First, &mut kernel, sys.path()).unwrap();
        assert_eq!(outcome.inserted, 0);
        assert_eq!(outcome.failed.len(), 1, "{:?}", outcome.failed);
        assert!(outcome.failed[0].contains("broken.ko"), "{:?}", outcome.failed);
    }

    #[test]
    fn what_no_service_waits_for_has_a_later_round() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut tree = tree(modules.path());
        device(sys.path(), "pci", "0000:00:04.0", "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        coldplug(&mut tree, Round::Later, &mut kernel, sys.path()).unwrap();
        assert!(kernel.inserted.is_empty(), "{:?}", kernel.inserted);
        for (alias, round) in [
            ("cpu:type:x86,ven0002fam0019mod0001:feature:,0000", Round::Later),
            ("pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00", Round::Later),
            ("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", Round::First),
            ("platform:iTCO_wdt", Round::First),
            ("virtio:d00000001v00001AF4", Round::First),
        ] {
            assert_eq!(round_of(alias), round, "{alias}");
        }
    }

    #[test]
    fn a_module_whose_need_has_no_hardware_is_not_tried() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut tree = tree(modules.path());
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        let mut outcome = Loaded::default();
        tree.load("needs-absent", &mut kernel, &mut outcome);
        tree.load("needs_absent", &mut kernel, &mut outcome);
        assert_eq!((kernel.inserted, outcome.failed), (vec![], vec![]));
    }

    #[test]
    fn a_blacklisted_module_stays_out() {
        let (sys, modules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(modules.path().join("blacklist"), "# no USB here\nxhci-pci\n").unwrap();
        device(sys.path(), "pci", "0000:00:04.0", "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30");
        let mut kernel = BusKernel { sys: sys.path().into(), inserted: Vec::new() };
        coldplug(&mut tree(modules.path()), Round::First, &mut kernel, sys.path()).unwrap();
        assert!(kernel.inserted.is_empty(), "{:?}", kernel.inserted);
    }
}
