//! The medium that the root file system came from, and the factory models on it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aios_core::paths;
use aios_storage::BlockDevice;
use rustix::mount::MountFlags;

use super::SYS;
use super::mounts::mount_fs;
use crate::cmdline::{Cmdline, Root};
use crate::stage1::MEDIA;

/// Name of the models' partition, and their file on a live medium.
const MODELS_LABEL: &str = "models";
const MODELS_FILE: &str = "aios/models.erofs";

/// The partition (or disk) that carries the root file system; `None` on a live medium.
pub fn root_device(cmdline: &Cmdline) -> Option<BlockDevice> {
    if cmdline.is_live() {
        return None;
    }
    let sys = Path::new(SYS);
    // The device under `/` is certain; a label may be there twice when two disks are in one machine.
    let mounted = std::fs::metadata("/").ok().and_then(|root| BlockDevice::with_number(sys, root.dev()));
    mounted.or_else(|| cmdline.root.as_ref().and_then(|root| find(&BlockDevice::list(sys), root).cloned()))
}

/// The device that a root parameter names.
pub fn find<'a>(devices: &'a [BlockDevice], root: &Root) -> Option<&'a BlockDevice> {
    devices.iter().find(|device| match root {
        Root::PartLabel(label) => device.label.as_ref() == Some(label),
        Root::PartUuid(uuid) => device.uuid.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(uuid)),
        Root::Device(name) => device.name == *name,
        Root::Live(_) => false,
    })
}

/// Mounts the factory models, from the disk of the root file system or from the live medium.
pub fn mount_models(cmdline: &Cmdline) -> io::Result<()> {
    let at = Path::new(paths::FACTORY_MODELS);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if cmdline.is_live() {
        return mount_fs(Path::new(MEDIA).join(MODELS_FILE), at, "erofs", flags, "");
    }
    let root = root_device(cmdline).ok_or_else(|| io::Error::other("the disk of the root file system is not known"))?;
    let devices = BlockDevice::list(Path::new(SYS));
    let models = devices
        .iter()
        .find(|device| device.disk_name() == root.disk_name() && device.label.as_deref() == Some(MODELS_LABEL))
        .ok_or_else(|| io::Error::other(format!("{} has no partition \"{MODELS_LABEL}\"", root.disk_name())))?;
    mount_fs(models.path(), at, "erofs", flags, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_found_by_label_uuid_or_name() {
        let device = |name: &str, label: &str, uuid: &str| BlockDevice {
            name: name.into(),
            label: Some(label.into()),
            uuid: Some(uuid.into()),
            ..BlockDevice::default()
        };
        let devices = [device("vda", "", ""), device("vda6", "root-a", "ab-1"), device("vda7", "root-b", "ab-2")];
        let found = |root| find(&devices, &root).map(|device| device.name.as_str());
        assert_eq!(found(Root::PartLabel("root-b".into())), Some("vda7"));
        assert_eq!(found(Root::PartUuid("AB-1".into())), Some("vda6"));
        assert_eq!(found(Root::Device("vda".into())), Some("vda"));
        assert_eq!(found(Root::PartLabel("root".into())), None);
        assert_eq!(found(Root::Live("/vda".into())), None);
    }
}
