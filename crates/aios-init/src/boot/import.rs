//! First-boot configuration: `aios.toml` and `secrets/` from a volume that somebody else wrote.
//!
//! All of it is read and checked before anything is stored, and it is stored whole or not at all. Nothing on the volume
//! names a path here: the file names are fixed, or plain names that are checked.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aios_core::config::{ConfigError, Layer, from_layers};

/// Where configuration is kept.
pub const DIRECTORY: &str = "/var/lib/aios/config";

/// Written last: the import is done, and a volume that is still plugged in is left alone.
const DONE: &str = "imported";

const CONFIG: &str = "aios.toml";
const SECRETS: &str = "secrets";

/// Bounds on what is read from a volume, in bytes and files. A certificate chain has a few KiB.
const CONFIG_BYTES: u64 = 1 << 20;
const SECRET_BYTES: u64 = 64 << 10;
const SECRET_COUNT: usize = 64;
const NAME_BYTES: usize = 64;

/// Why a volume is not imported. None of it was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Reading the volume or storing failed.
    #[error("nothing was imported: {0}")]
    Io(#[from] io::Error),
    /// A file could not be read or stored.
    #[error("nothing was imported: {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong; names file, line and key.
    #[error("nothing was imported: {0}")]
    Config(#[from] ConfigError),
    /// A file is not what it should be.
    #[error("nothing was imported: {path}: {reason}")]
    Refused {
        /// Which.
        path: String,
        /// Why, and what would do.
        reason: String,
    },
}

/// What a volume holds.
pub struct Bundle {
    config: Option<String>,
    secrets: Vec<(String, Vec<u8>)>,
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = if self.config.is_some() { CONFIG } else { "no aios.toml" };
        write!(f, "{config}, {} secrets", self.secrets.len())
    }
}

/// Whether an earlier boot imported a volume.
pub fn is_done(directory: &Path) -> bool {
    directory.join(DONE).exists()
}

/// Reads the volume mounted at `root`; `name` is what messages call it.
pub fn read(root: &Path, name: &str) -> Result<Bundle, ImportError> {
    let named = format!("{name}/{CONFIG}");
    let config = match read_plain(&root.join(CONFIG), &named, CONFIG_BYTES)? {
        None => None,
        Some(bytes) => Some(String::from_utf8(bytes).map_err(|error| ImportError::Refused {
            path: named,
            reason: format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
        })?),
    };
    let secrets = read_secrets(&root.join(SECRETS), &format!("{name}/{SECRETS}"))?;
    match (&config, secrets.is_empty()) {
        (None, true) => Err(ImportError::Refused {
            path: name.to_owned(),
            reason: format!("it has neither {CONFIG} nor {SECRETS}/ in its top directory"),
        }),
        _ => Ok(Bundle { config, secrets }),
    }
}

impl Bundle {
    /// Checks the configuration as it would be in force: on top of the image's own. `name` is the volume's in messages.
    pub fn validate(&self, name: &str, image_config: &Path) -> Result<(), ConfigError> {
        let Some(text) = &self.config else { return Ok(()) };
        let mut layers = Vec::new();
        if let Ok(text) = fs::read_to_string(image_config) {
            layers.push(Layer { path: image_config.to_owned(), text });
        }
        layers.push(Layer { path: PathBuf::from(name).join(CONFIG), text: text.clone() });
        from_layers(&layers).map(drop)
    }

    /// Stores everything: secrets first, the configuration that names them next, the mark that it is done last.
    pub fn store(&self, directory: &Path) -> Result<(), ImportError> {
        let secrets = directory.join(SECRETS);
        // The services read aios.toml; what must not be read by all is in secrets/.
        make_directory(directory, 0o755)?;
        make_directory(&secrets, 0o700)?;
        for (name, bytes) in &self.secrets {
            write_file(&secrets, name, bytes, 0o600)?;
        }
        if let Some(text) = &self.config {
            write_file(directory, CONFIG, text.as_bytes(), 0o644)?;
        }
        write_file(directory, DONE, b"", 0o600)
    }
}

fn read_secrets(dir: &Path, named: &str) -> Result<Vec<(String, Vec<u8>)>, ImportError> {
    let in_dir = |source| ImportError::File { path: named.to_owned(), source };
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(in_dir(error)),
    };
    let mut secrets = Vec::new();
    for entry in list {
        let file_name = entry.map_err(in_dir)?.file_name();
        let name = file_name.to_string_lossy();
        // Desktop systems leave such files behind (.DS_Store, ._name, .Trashes).
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{named}/{}", name.escape_debug());
        if !is_plain(&name) {
            let reason = format!("use letters, digits, '.', '_' and '-' in the name, at most {NAME_BYTES}");
            return Err(ImportError::Refused { path, reason });
        }
        if secrets.len() == SECRET_COUNT {
            return Err(ImportError::Refused { path, reason: format!("there are more than {SECRET_COUNT} secrets") });
        }
        if let Some(bytes) = read_plain(&dir.join(&file_name), &path, SECRET_BYTES)? {
            secrets.push((name.into_owned(), bytes));
        }
    }
    secrets.sort();
    Ok(secrets)
}

fn is_plain(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    plain && (1..=NAME_BYTES).contains(&name.len()) && !name.starts_with('.')
}

/// Reads a regular file of at most `limit` bytes; `None` if there is none.
fn read_plain(path: &Path, named: &str, limit: u64) -> Result<Option<Vec<u8>>, ImportError> {
    let refused = |reason: String| ImportError::Refused { path: named.to_owned(), reason };
    let failed = |source| ImportError::File { path: named.to_owned(), source };
    // O_NONBLOCK: a FIFO must not hold up the boot before it is refused.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(refused("it is a link".into())),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > limit {
        true => Err(refused(format!("it is larger than {limit} bytes"))),
        false => Ok(Some(bytes)),
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), ImportError> {
    let failed = |source| ImportError::File { path: path.display().to_string(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

/// Writes a file so that after a power cut there is the old one or the new one.
fn write_file(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), ImportError> {
    let (path, new) = (dir.join(name), dir.join(format!(".{name}.new")));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&new)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&new);
        ImportError::File { path: path.display().to_string(), source }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture {
        volume: tempfile::TempDir,
        data: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[(&str, &str)]) -> Self {
            let fixture = Fixture { volume: tempfile::tempdir().unwrap(), data: tempfile::tempdir().unwrap() };
            fs::create_dir(fixture.volume.path().join(SECRETS)).unwrap();
            for (name, text) in files {
                fs::write(fixture.volume.path().join(name), text).unwrap();
            }
            fixture
        }

        fn directory(&self) -> PathBuf {
            self.data.path().join("config")
        }

        fn import(&self) -> Result<(), ImportError> {
            let bundle = read(self.volume.path(), "AIOS-CONF")?;
            bundle.validate("AIOS-CONF", Path::new("/nonexistent/aios.toml"))?;
            bundle.store(&self.directory())
        }

        /// The message of a refusal, after which nothing may have been stored.
        fn refusal(&self) -> String {
            let message = self.import().unwrap_err().to_string();
            assert!(!self.directory().exists(), "{message}");
            message.strip_prefix("nothing was imported: ").unwrap().to_owned()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_good_volume_is_stored_with_its_modes_and_marked() {
        let token = ("secrets/api-token", "s3cret\n");
        let fixture =
            Fixture::new(&[("aios.toml", "[system]\nhostname = \"box\"\n"), token, ("secrets/._api-token", "x")]);
        assert!(!is_done(&fixture.directory()));
        fixture.import().unwrap();
        let directory = fixture.directory();
        assert!(is_done(&directory));
        assert_eq!(fs::read_to_string(directory.join("aios.toml")).unwrap(), "[system]\nhostname = \"box\"\n");
        assert_eq!(fs::read_to_string(directory.join("secrets/api-token")).unwrap(), "s3cret\n");
        assert_eq!((mode(&directory), mode(&directory.join("aios.toml"))), (0o755, 0o644));
        assert_eq!((mode(&directory.join("secrets")), mode(&directory.join("secrets/api-token"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(directory.join("secrets")).unwrap().count(), 1, "no left-overs");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3, "no left-overs");
    }

    #[test]
    fn bad_configuration_is_refused_with_file_line_and_key() {
        let fixture = Fixture::new(&[("aios.toml", "[system]\n\nhostnam = \"box\"\n"), ("secrets/api-token", "x")]);
        let message = fixture.refusal();
        assert!(message.starts_with("AIOS-CONF/aios.toml:3: system.hostnam: unknown field"), "{message}");
    }

    #[test]
    fn a_volume_is_checked_together_with_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("aios.toml");
        fs::write(&image, "[runtime.http]\ntoken-file = \"api-token\"\n").unwrap();
        let open = "[runtime.http]\nlisten = \"0.0.0.0:8080\"\n";
        let fixture = Fixture::new(&[("aios.toml", open)]);
        let bundle = read(fixture.volume.path(), "AIOS-CONF").unwrap();
        assert!(bundle.validate("AIOS-CONF", &image).is_ok());
        let alone = bundle.validate("AIOS-CONF", Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(alone.starts_with("AIOS-CONF/aios.toml:2: runtime.http.listen: "), "{alone}");
    }

    #[test]
    fn an_empty_volume_is_refused() {
        assert_eq!(
            Fixture::new(&[]).refusal(),
            "AIOS-CONF: it has neither aios.toml nor secrets/ in its top directory"
        );
    }

    #[test]
    fn secrets_alone_will_do() {
        let fixture = Fixture::new(&[("secrets/api-token", "x")]);
        fixture.import().unwrap();
        assert!(is_done(&fixture.directory()) && !fixture.directory().join("aios.toml").exists());
    }

    #[test]
    fn files_that_are_too_large_or_too_many_are_refused() {
        let large = "#".repeat(CONFIG_BYTES as usize + 1);
        assert_eq!(
            Fixture::new(&[("aios.toml", &large)]).refusal(),
            "AIOS-CONF/aios.toml: it is larger than 1048576 bytes"
        );
        let large = "x".repeat(SECRET_BYTES as usize + 1);
        let message = Fixture::new(&[("secrets/key", &large)]).refusal();
        assert_eq!(message, "AIOS-CONF/secrets/key: it is larger than 65536 bytes");
        let fixture = Fixture::new(&[]);
        for number in 0..=SECRET_COUNT {
            fs::write(fixture.volume.path().join(format!("secrets/s{number}")), "x").unwrap();
        }
        assert!(fixture.refusal().ends_with("there are more than 64 secrets"));
    }

    #[test]
    fn names_and_kinds_of_file_that_are_not_plain_are_refused() {
        for name in ["a b", "semi;colon", "new\nline", &"x".repeat(65)] {
            let message = Fixture::new(&[(&format!("secrets/{name}"), "x")]).refusal();
            assert!(message.contains("use letters, digits"), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let fixture = Fixture::new(&[]);
        symlink("/etc/passwd", fixture.volume.path().join("secrets/link")).unwrap();
        assert_eq!(fixture.refusal(), "AIOS-CONF/secrets/link: it is a link");
        let fixture = Fixture::new(&[]);
        fs::create_dir(fixture.volume.path().join("secrets/dir")).unwrap();
        assert_eq!(fixture.refusal(), "AIOS-CONF/secrets/dir: it is not a regular file");
        let fixture = Fixture::new(&[]);
        symlink("/etc/passwd", fixture.volume.path().join("aios.toml")).unwrap();
        assert_eq!(fixture.refusal(), "AIOS-CONF/aios.toml: it is a link");
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused() {
        let fixture = Fixture::new(&[]);
        fs::write(fixture.volume.path().join("aios.toml"), b"a = \"\xff\"").unwrap();
        assert_eq!(fixture.refusal(), "AIOS-CONF/aios.toml: not UTF-8 at byte 5");
    }
}
