//! Live media: an ISO 9660 file system, on a disc or written raw to a stick, that carries the root file system as a file.

use std::fs;
use std::io;
use std::path::Path;

use aios_storage::{BlockDevice, Disk, FileDisk};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::boot::mounts::mount_fs;

/// Where the live medium stays mounted.
pub const MEDIA: &str = aios_core::paths::LIVE_MEDIUM;

/// Signature of a primary volume descriptor, in the seventeenth block of 2,048 bytes.
const ISO_SIGNATURE: (u64, &[u8; 5]) = (32769, b"CD001");

/// Mounts the first medium that carries `image`, and `image` at `root`. `None` while there is none.
pub fn mount_live(devices: &[BlockDevice], image: &Path, root: &Path) -> io::Result<Option<String>> {
    fs::create_dir_all(MEDIA)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut failure = None;
    for device in devices.iter().filter(|device| is_iso(&device.path())) {
        if let Err(error) = mount_fs(device.path(), Path::new(MEDIA), "iso9660", flags, "") {
            failure = Some(error);
            continue;
        }
        let file = Path::new(MEDIA).join(image.strip_prefix("/").unwrap_or(image));
        if file.exists() {
            mount_fs(&file, root, "erofs", MountFlags::RDONLY, "")?;
            return Ok(Some(device.to_string()));
        }
        let _ = unmount(MEDIA, UnmountFlags::DETACH);
    }
    failure.map_or(Ok(None), Err)
}

/// Looks before mounting: the kernel writes a line for every device that turns out to be something else.
fn is_iso(node: &Path) -> bool {
    let (offset, signature) = ISO_SIGNATURE;
    let mut found = [0; 5];
    let read = FileDisk::open_read_only(node).and_then(|disk| disk.read_at(offset, &mut found));
    read.is_ok() && found == *signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iso_is_known_by_its_signature() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("sr0");
        assert!(!is_iso(&node));
        let mut bytes = vec![0; 65536];
        fs::write(&node, &bytes).unwrap();
        assert!(!is_iso(&node));
        bytes[32769..32774].copy_from_slice(b"CD001");
        fs::write(&node, &bytes).unwrap();
        assert!(is_iso(&node));
    }
}
