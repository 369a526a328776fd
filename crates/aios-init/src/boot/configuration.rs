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

/// How long a first boot waits at most, while devices announce themselves on a USB or storage has no disk yet.
const USB_PATIENCE: Duration = Duration::from_secs(10);

/// How long a first boot waits for the next device on a USB: behind a hub they come one after the other.
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
const FAT_MODULES: [&str; 5] = ["vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"];

/// Make disks of USB storage. A stick that comes, or settles, after coldplug finds nobody yet who loads what it asks for.
const DISK_MODULES: [&str; 3] = ["usb_storage", "uas", "sd_mod"];

fn load_modules(names: &[&str]) {
    let Ok(mut tree) = ModuleTree::of_running_kernel() else { return };
    let mut outcome = Loaded::default();
    names.iter().for_each(|name| tree.load(name, &mut RunningKernel, &mut outcome));
}

fn import_volume(volume: &BlockDevice, storage: Storage) -> Result<(), import::ImportError> {
    let at = Path::new(VOLUME_AT);
    fs::create_dir_all(at)?;
    load_modules(&FAT_MODULES);
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
    let mut disks_loaded = false;
    let (mut known, mut since) = (usb_devices(sys), begin);
    loop {
        let devices = BlockDevice::list(sys);
        if let Some(found) = devices.into_iter().find(has_label) {
            return Some(found);
        }
        let count = usb_devices(sys);
        if std::mem::replace(&mut known, count) != count {
            since = Instant::now();
        }
        let enumerating = count > 0 && since.elapsed() < USB_ENUMERATION;
        let pending = usb_storage_pending(sys);
        if !(enumerating || pending) || begin.elapsed() > USB_PATIENCE {
            return None;
        }
        if pending && !std::mem::replace(&mut disks_loaded, true) {
            load_modules(&DISK_MODULES);
        }
        sleep(Duration::from_millis(25));
    }
}

fn has_label(device: &BlockDevice) -> bool {
    // A drive that can't be read is not the one we look for.
    let label = FileDisk::open_read_only(&device.path()).and_then(|disk| fat::label(&disk));
    label.is_ok_and(|label| label.is_some_and(|label| label.eq_ignore_ascii_case(VOLUME)))
}

/// Devices and their interfaces on every USB.
fn usb_devices(sys: &Path) -> usize {
    fs::read_dir(sys.join("bus/usb/devices")).map_or(0, Iterator::count)
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
        assert!(!usb_storage_pending(sys.path()) && usb_devices(sys.path()) == 0);
        symlink(&interface, sys.path().join("bus/usb/devices/1-1:1.0")).unwrap();
        fs::write(interface.join("bInterfaceClass"), "03\n").unwrap();
        assert!(!usb_storage_pending(sys.path()), "a keyboard has no disk to wait for");
        fs::write(interface.join("bInterfaceClass"), "08\n").unwrap();
        assert!(usb_storage_pending(sys.path()) && usb_devices(sys.path()) == 1);
        symlink(interface.join("host0/block/sda"), sys.path().join("class/block/sda")).unwrap();
        assert!(!usb_storage_pending(sys.path()));
    }
}
