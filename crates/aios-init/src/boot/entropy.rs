//! The random seed that is carried over from one boot to the next on the data partition.
//!
//! A seed counts only once: it is gone from the medium before the kernel is told to trust it, so that no power cut makes
//! two boots start from the same state. A seed that the image itself carried would be everybody's; there is none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aios_core::paths;
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of a seed: the size of the kernel's input pool.
const SEED_BYTES: usize = 32;

/// `RNDADDENTROPY` of <linux/random.h>: `_IOW('R', 3, int[2])`.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;

/// `struct rand_pool_info` of <linux/random.h>, with its data.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    data: [u8; SEED_BYTES],
}

/// Gives the kernel the seed of the last run, and puts a new one in its place.
pub fn load() -> io::Result<()> {
    let dir = Path::new(paths::DATA);
    if let Some(seed) = take(dir)? {
        credit(&seed)?;
    }
    put(dir)
}

/// Saves a seed for the next boot. For a clean shutdown, when the generator is at its best.
pub fn save() -> io::Result<()> {
    put(Path::new(paths::DATA))
}

/// Reads the seed and removes it from the medium. A file of the wrong size is removed and not used.
fn take(dir: &Path) -> io::Result<Option<[u8; SEED_BYTES]>> {
    let path = dir.join("random-seed");
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut seed = [0; SEED_BYTES];
    let usable = file.metadata()?.len() == SEED_BYTES as u64 && file.read_exact(&mut seed).is_ok();
    fs::remove_file(&path)?;
    File::open(dir)?.sync_all()?;
    Ok(usable.then_some(seed))
}

/// Writes a new seed: whole, or not at all.
fn put(dir: &Path) -> io::Result<()> {
    let mut seed = [0; SEED_BYTES];
    // Before the generator is ready there is nothing worth keeping, and waiting for it would hold up the boot.
    match getrandom(&mut seed[..], GetRandomFlags::NONBLOCK) {
        Ok(_) => {}
        Err(rustix::io::Errno::AGAIN) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let (path, new) = (dir.join("random-seed"), dir.join(".random-seed.new"));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

fn credit(seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    let random = fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    let info = PoolInfo { entropy_bits: SEED_BYTES as libc::c_int * 8, size: SEED_BYTES as libc::c_int, data: *seed };
    // SAFETY: the descriptor is open and `info` is laid out as <linux/random.h> says and outlives the call.
    match unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &info) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_seed_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take(dir.path()).unwrap(), None);
        put(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("random-seed")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = take(dir.path()).unwrap().unwrap();
        assert_eq!(take(dir.path()).unwrap(), None, "the seed must be gone before it is trusted");
        put(dir.path()).unwrap();
        assert_ne!(take(dir.path()).unwrap().unwrap(), first);
    }

    #[test]
    fn a_seed_of_the_wrong_size_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("random-seed"), b"short").unwrap();
        assert_eq!(take(dir.path()).unwrap(), None);
        assert!(!dir.path().join("random-seed").exists());
    }

    #[test]
    fn a_link_in_the_seeds_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/hostname", dir.path().join("random-seed")).unwrap();
        assert!(take(dir.path()).is_err());
    }
}
