//! The configuration in force: the `AIOS-CONF` volume of a first boot, then the layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aios_core::config::{self, Config};
use aios_core::paths;
use aios_storage::{BlockDevice, FileDisk, fat};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use super::mounts::mount_fs;
use super::{SYS, Stages, Storage, import};
use crate::Mode;
use crate::console::say;
use crate::layout::ROOT_VARIABLE;
use crate::modules::{Loaded, ModuleTree, RunningKernel};

/// Volume label of first-boot configuration.
const VOLUME: &str = "AIOS-CONF";

/// Where the volume is mounted while it is read.
const VOLUME_AT: &str = "/run/aios/conf";

/// How long a first boot waits for USB storage that has announced itself and has no disk yet.
const USB_PATIENCE: Duration = Duration::from_secs(4);

/// How long a first boot gives the devices on a USB to announce themselves.
const USB_ENUMERATION: Duration = Duration::from_millis(600);

/// Imports the first-boot volume where that is due, and reads the layers.
pub fn load(stages: &mut Stages, mode: Mode, storage: Storage) -> Config {
    let imports = mode == Mode::Machine && !import::is_done(Path::new(import::DIRECTORY));
    if imports && let Some(volume) = find_volume(Path::new(SYS)) {
        stages.run("configuration", || import_volume(&volume, storage));
    }
    read_layers(stages, mode)
}

/// A layer that is wrong is left out, so that a device stays reachable the way its image was made.
fn read_layers(stages: &mut Stages, mode: Mode) -> Config {
    let root = match mode {
        Mode::Container => std::env::var_os(ROOT_VARIABLE).map(PathBuf::from),
        Mode::Machine => None,
    };
    let root = root.unwrap_or_else(|| "/".into());
    let files: Vec<PathBuf> =
        config::system_layers().iter().map(|path| root.join(path.strip_prefix("/").unwrap_or(path))).collect();
    for kept in (0..=files.len()).rev() {
        match config::load(&files[..kept]) {
            Ok(config) => return config,
            Err(error) => stages.failed("configuration", format_args!("{error}; going on without this file")),
        }
    }
    Config::default()
}

/// FAT and its character sets.
fn load_vfat() {
    let Ok(mut tree) = ModuleTree::of_running_kernel() else { return };
    let mut outcome = Loaded::default();
    ["vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"]
        .iter()
        .for_each(|name| tree.load(name, &mut RunningKernel, &mut outcome));
}

fn import_volume(volume: &BlockDevice, storage: Storage) -> Result<(), import::ImportError> {
    let at = Path::new(VOLUME_AT);
    fs::create_dir_all(at)?;
    load_vfat();
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_fs(volume.path(), at, "vfat", flags, "")?;
    let bundle = import::read(at, VOLUME);
    let _ = unmount(at, UnmountFlags::DETACH);
    let _ = fs::remove_dir(at);
    let bundle = bundle?;
    bundle.validate(VOLUME, Path::new(paths::IMAGE_CONFIG))?;
    bundle.store(Path::new(import::DIRECTORY))?;
    let kept = if storage == Storage::Memory { " for this boot" } else { "" };
    say(format_args!("configuration imported from {VOLUME} on {}{kept}: {bundle}", volume.path().display()));
    Ok(())
}

/// The first volume with the label, on a partition or on a whole disk without a table.
fn find_volume(sys: &Path) -> Option<BlockDevice> {
    let begin = Instant::now();
    loop {
        let devices = BlockDevice::list(sys);
        if let Some(found) = devices.into_iter().find(has_label) {
            return Some(found);
        }
        let enumerating = has_usb(sys) && begin.elapsed() < USB_ENUMERATION;
        if !(enumerating || usb_storage_pending(sys)) || begin.elapsed() > USB_PATIENCE {
            return None;
        }
        sleep(Duration::from_millis(25));
    }
}

fn has_label(device: &BlockDevice) -> bool {
    // A drive that can't be read is not the one we look for.
    let label = FileDisk::open_read_only(&device.path()).and_then(|disk| fat::label(&disk));
    label.is_ok_and(|label| label.is_some_and(|label| label.eq_ignore_ascii_case(VOLUME)))
}

fn has_usb(sys: &Path) -> bool {
    fs::read_dir(sys.join("bus/usb/devices")).is_ok_and(|mut list| list.next().is_some())
}

/// Whether a USB mass-storage interface is still without its disk: the kernel lets a stick settle for a second.
fn usb_storage_pending(sys: &Path) -> bool {
    let real = |path: PathBuf| fs::canonicalize(path).ok();
    let list = |dir: &str| fs::read_dir(sys.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path());
    let disks: Vec<PathBuf> = list("class/block").filter_map(real).collect();
    list("bus/usb/devices")
        .filter(|interface| fs::read_to_string(interface.join("bInterfaceClass")).is_ok_and(|c| c.trim() == "08"))
        .filter_map(real)
        .any(|interface| !disks.iter().any(|disk| disk.starts_with(&interface)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_usb_stick_is_waited_for_until_its_disk_is_there() {
        let sys = tempfile::tempdir().unwrap();
        let interface = sys.path().join("devices/pci/usb1/1-1/1-1:1.0");
        fs::create_dir_all(interface.join("host0/block/sda")).unwrap();
        for dir in ["bus/usb/devices", "class/block"] {
            fs::create_dir_all(sys.path().join(dir)).unwrap();
        }
        assert!(!usb_storage_pending(sys.path()) && !has_usb(sys.path()));
        symlink(&interface, sys.path().join("bus/usb/devices/1-1:1.0")).unwrap();
        fs::write(interface.join("bInterfaceClass"), "03\n").unwrap();
        assert!(!usb_storage_pending(sys.path()), "a keyboard has no disk to wait for");
        fs::write(interface.join("bInterfaceClass"), "08\n").unwrap();
        assert!(usb_storage_pending(sys.path()) && has_usb(sys.path()));
        symlink(interface.join("host0/block/sda"), sys.path().join("class/block/sda")).unwrap();
        assert!(!usb_storage_pending(sys.path()));
    }
}
