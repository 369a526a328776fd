//! Secret files: 32 random bytes, made once.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::OFlags,
    rand::{GetRandomFlags, getrandom},
};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::hex;

/// Bits of the mode that let others than the owner at a file.
const OTHERS: u32 = 0o077;
/// Longest content of a file that is read: digits and a line's end, and one more to see that there is more.
const FILE_MAX: u64 = 67;

/// 32 secret bytes, from which keys are made. They are wiped from memory at the end, and never printed.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; 32]>);

/// Why a secret or public file can't be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// It can't be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It holds something else.
    #[error("{}: is not a secret of 64 hexadecimal digits; put back a copy of it, or delete it and a new one is made", .0.display())]
    Content(PathBuf),
    /// Others than its owner can read or write it, and may have.
    #[error("{}: has mode {mode:04o}, so others may know this secret; delete it and a new one is made, or `chmod 600` it", path.display())]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A public file holds something else than belongs to the secret.
    #[error("{}: does not belong to this device's secret key; delete it, and it is made again", .0.display())]
    Public(PathBuf),
}

impl Seed {
    /// The seed of these bytes, for tests and for derived seeds.
    pub fn from_bytes(bytes: [u8; 32]) -> Seed {
        Seed(Zeroizing::new(bytes))
    }

    /// New random bytes from the kernel.
    pub fn random() -> io::Result<Seed> {
        let mut bytes = Zeroizing::new([0; 32]);
        random(&mut bytes[..])?;
        Ok(Seed(bytes))
    }

    /// Reads the file at `path`; `None` where there is none. A link in its place and a file that others can read are
    /// refused.
    pub fn open(path: &Path) -> Result<Option<Seed>, SeedError> {
        let io = |cause| SeedError::Io { path: path.to_owned(), cause };
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(SeedError::Content(path.to_owned()));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(SeedError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
        match file.take(FILE_MAX).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(SeedError::Content(path.to_owned()));
            }
            read => read.map_err(io)?,
        };
        let bytes = hex::decode(text.strip_suffix('\n').unwrap_or(&text));
        bytes.map(|bytes| Some(Seed::from_bytes(bytes))).ok_or_else(|| SeedError::Content(path.to_owned()))
    }

    /// Reads the file at `path`, or makes it, and its folders, with mode 0600. Of several processes that make it at the
    /// same time, all get the same seed. When this returns, the file is on the disk.
    pub fn open_or_make(path: &Path) -> Result<Seed, SeedError> {
        if let Some(seed) = Seed::open(path)? {
            return Ok(seed);
        }
        let io = |cause| SeedError::Io { path: path.to_owned(), cause };
        let seed = Seed::random().map_err(io)?;
        let mut text = Zeroizing::new(hex::encode(&seed.0[..]));
        text.push('\n');
        match write_new(path, text.as_bytes(), 0o600) {
            Ok(()) => Ok(seed),
            // Another process was first: its secret is the device's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Seed::open(path)?.ok_or_else(|| SeedError::Content(path.to_owned()))
            }
            Err(error) => Err(io(error)),
        }
    }

    /// 32 bytes for one purpose: the seed itself can't be found from them, nor those for another purpose.
    pub fn derive(&self, purpose: &str) -> Seed {
        let mut hash = Sha256::new();
        hash.update(b"aios seed 1\n");
        hash.update((purpose.len() as u64).to_be_bytes());
        hash.update(purpose);
        hash.update(&self.0[..]);
        Seed::from_bytes(hash.finalize().into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Writes `content`, which belongs to a secret, for everybody to read (mode 0644). A file that is there and holds the
/// same stays as it is; one that holds something else is refused, for somebody may trust it.
pub fn publish(path: &Path, content: &str) -> Result<(), SeedError> {
    let failed = |cause| SeedError::Io { path: path.to_owned(), cause };
    let compare = |found: Vec<u8>| match found == content.as_bytes() {
        true => Ok(()),
        false => Err(SeedError::Public(path.to_owned())),
    };
    // Looked for first: on a full disk nothing can be written, and nothing has to be.
    match fs::read(path) {
        Ok(found) => return compare(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    match write_new(path, content.as_bytes(), 0o644) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => compare(fs::read(path).map_err(failed)?),
        written => written.map_err(failed),
    }
}

/// Writes a file that is not there yet: whole, and on the disk when this returns.
fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let mut suffix = [0; 8];
    random(&mut suffix)?;
    let draft = path.with_extension(format!("draft-{}", hex::encode(&suffix)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        // The process's mask may have taken more away than it should.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    })();
    let _ = fs::remove_file(&draft);
    written?;
    File::open(folder)?.sync_all()
}

/// Fills `bytes` with random ones from the kernel.
fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                bytes.zeroize();
                return Err(error.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone_and_nothing_else_is_left_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/ledger.key");
        assert!(Seed::open(&path).unwrap().is_none());
        let seed = Seed::open_or_make(&path).unwrap();
        assert_eq!(Seed::open_or_make(&path).unwrap().as_bytes(), seed.as_bytes(), "the same again");
        assert_ne!(Seed::random().unwrap().as_bytes(), seed.as_bytes());
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", hex::encode(seed.as_bytes())));
    }

    #[test]
    fn threads_that_make_a_secret_at_the_same_time_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        let seeds: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Seed::open_or_make(&path).unwrap())).collect();
            threads.into_iter().map(|thread| *thread.join().unwrap().as_bytes()).collect()
        });
        assert!(seeds.iter().all(|seed| seed == &seeds[0]));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        Seed::open_or_make(&path).unwrap();
        for exposed in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let error = Seed::open_or_make(&path).unwrap_err();
            assert!(matches!(error, SeedError::Exposed { mode, .. } if mode == exposed), "{error}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        let digits = "ab".repeat(32);
        for content in
            ["", "ab", "AB".repeat(32).as_str(), &format!("{digits}\n\n"), &format!("{digits}00"), "\u{fffd}"]
        {
            let _ = fs::remove_file(&path);
            write_new(&path, content.as_bytes(), 0o600).unwrap();
            assert!(matches!(Seed::open_or_make(&path), Err(SeedError::Content(_))), "{content:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        let real = dir.path().join("real");
        write_new(&real, digits.as_bytes(), 0o600).unwrap();
        symlink(&real, &path).unwrap();
        assert!(matches!(Seed::open_or_make(&path), Err(SeedError::Io { .. })), "a link is not followed");
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(Seed::open(&folder).is_err());
    }

    #[test]
    fn a_seed_for_one_purpose_says_nothing_of_another() {
        let seed = Seed::from_bytes([7; 32]);
        assert_eq!(seed.derive("a").as_bytes(), seed.derive("a").as_bytes());
        assert_ne!(seed.derive("a").as_bytes(), seed.derive("b").as_bytes());
        assert_ne!(seed.derive("a").as_bytes(), Seed::from_bytes([8; 32]).derive("a").as_bytes());
        assert_eq!(format!("{seed:?}"), "Seed(..)");
    }

    #[test]
    fn a_public_file_is_for_everybody_and_one_of_another_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.pub");
        publish(&path, "key\n").unwrap();
        publish(&path, "key\n").unwrap();
        assert_eq!(mode(&path), 0o644);
        assert!(matches!(publish(&path, "another\n"), Err(SeedError::Public(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "key\n");
    }
}
