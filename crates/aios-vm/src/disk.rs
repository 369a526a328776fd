//! Disks of the machine: copy-on-write overlays, so that an image is never written to.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use crate::{
    StartError,
    machine::DiskFormat,
    process::{QEMU_IMG, run},
};

/// Room for the data partition behind the shipped ones.
pub const SIZE: u64 = 4 << 30;

/// Creates `overlay` on `image`, at least `size` bytes long.
pub fn create_overlay(overlay: &Path, image: &Path, format: DiskFormat, size: u64) -> Result<(), StartError> {
    let size = size.max(virtual_size(image)?).to_string();
    let doing = format!("make a disk on {}", image.display());
    let fixed = ["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"].map(OsStr::new);
    let args = [&fixed[..], &[image.as_os_str(), overlay.as_os_str(), OsStr::new(&size)]].concat();
    run(QEMU_IMG, &args, &doing)?;
    fs::write(identity_file(overlay), identity(image)?).map_err(StartError::io(doing))
}

/// Creates an empty disk of `size` bytes.
pub fn create_empty(disk: &Path, size: u64) -> Result<(), StartError> {
    let size = size.to_string();
    let fixed = ["create", "-q", "-f", "qcow2"].map(OsStr::new);
    let args = [&fixed[..], &[disk.as_os_str(), OsStr::new(&size)]].concat();
    run(QEMU_IMG, &args, &format!("make {}", disk.display())).map(drop)
}

/// Reuses a kept overlay. If the image was built anew since, the overlay's blocks would lie over the wrong ones: it is
/// set aside, and its new path returned.
pub fn reuse_or_create_overlay(
    overlay: &Path,
    image: &Path,
    format: DiskFormat,
    size: u64,
) -> Result<Option<PathBuf>, StartError> {
    if !overlay.exists() {
        return create_overlay(overlay, image, format, size).map(|()| None);
    }
    if fs::read_to_string(identity_file(overlay)).is_ok_and(|made_on| identity(image).is_ok_and(|now| now == made_on)) {
        return Ok(None);
    }
    let aside = overlay.with_extension("old.qcow2");
    fs::rename(overlay, &aside).map_err(StartError::io(format!("set {} aside", overlay.display())))?;
    create_overlay(overlay, image, format, size)?;
    Ok(Some(aside))
}

/// Grows a qcow2 disk to `size` bytes.
pub fn grow(disk: &Path, size: u64) -> Result<(), StartError> {
    let size = size.to_string();
    let fixed = ["resize", "-q", "-f", "qcow2"].map(OsStr::new);
    let args = [&fixed[..], &[disk.as_os_str(), OsStr::new(&size)]].concat();
    run(QEMU_IMG, &args, &format!("grow {}", disk.display())).map(drop)
}

/// Writes the whole content of `disk` to `raw`, sparsely.
pub fn to_raw(disk: &Path, raw: &Path) -> Result<(), StartError> {
    let fixed = ["convert", "-O", "raw"].map(OsStr::new);
    let args = [&fixed[..], &[disk.as_os_str(), raw.as_os_str()]].concat();
    run(QEMU_IMG, &args, &format!("copy {}", disk.display())).map(drop)
}

fn virtual_size(image: &Path) -> Result<u64, StartError> {
    let doing = format!("read the size of {}", image.display());
    let fixed = ["info", "--output=json", "-U"].map(OsStr::new);
    let info = run(QEMU_IMG, &[&fixed[..], &[image.as_os_str()]].concat(), &doing)?;
    serde_json::from_str::<serde_json::Value>(&info)
        .ok()
        .and_then(|info| info["virtual-size"].as_u64())
        .ok_or_else(|| StartError::io(doing)(std::io::Error::other("qemu-img gave no virtual-size")))
}

fn identity_file(overlay: &Path) -> PathBuf {
    overlay.with_extension("image")
}

/// What tells one build of an image from another without reading it: path, length, time of modification.
fn identity(image: &Path) -> Result<String, StartError> {
    let error = |source| StartError::io(format!("read the date of {}", image.display()))(source);
    let metadata = fs::metadata(image).map_err(error)?;
    let modified = metadata.modified().map_err(error)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{}\n{}\n{}\n", image.display(), metadata.len(), modified.as_nanos()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn image(dir: &Path, len: u64) -> PathBuf {
        let path = dir.join("image.img");
        fs::File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    #[test]
    fn an_overlay_has_the_size_asked_for_and_never_less_than_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path(), 8 << 20);
        let overlay = dir.path().join("disk.qcow2");
        create_overlay(&overlay, &image, DiskFormat::Raw, 16 << 20).unwrap();
        assert_eq!(virtual_size(&overlay).unwrap(), 16 << 20);
        grow(&overlay, 32 << 20).unwrap();
        assert_eq!(virtual_size(&overlay).unwrap(), 32 << 20);
        create_overlay(&overlay, &image, DiskFormat::Raw, 1 << 20).unwrap();
        assert_eq!(virtual_size(&overlay).unwrap(), 8 << 20);
    }

    #[test]
    fn a_kept_disk_is_set_aside_when_its_image_was_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path(), 1 << 20);
        let overlay = dir.path().join("disk.qcow2");
        let reuse = || reuse_or_create_overlay(&overlay, &image, DiskFormat::Raw, 1 << 20).unwrap();
        assert_eq!(reuse(), None);
        assert_eq!(reuse(), None);
        let rebuilt = SystemTime::now() + Duration::from_secs(5);
        fs::File::options().write(true).open(&image).unwrap().set_modified(rebuilt).unwrap();
        let aside = reuse().unwrap();
        assert!(aside.is_file() && overlay.is_file());
    }
}
