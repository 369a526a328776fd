//! Directories and credentials that a unit is given. Runs in the child, as root, before it becomes the unit's user.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::Path;

use super::account::Account;

/// A secret is a token, a key or a certificate; nothing longer is handed over.
const CREDENTIAL_BYTES_MAX: u64 = 1024 * 1024;

/// Makes `path` a directory of the account with this mode. What lies in it changes hands with it.
pub fn give(path: &Path, mode: u32, account: &Account) -> Result<(), String> {
    let error = |error: io::Error| format!("{}: {error}", path.display());
    make(path).map_err(error)?;
    let metadata = fs::symlink_metadata(path).map_err(error)?;
    if !metadata.is_dir() {
        return Err(format!("{}: is not a directory", path.display()));
    }
    if metadata.uid() != account.uid || metadata.gid() != account.gid {
        hand_over(path, account).map_err(error)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(error)
}

/// Copies the secrets that this device has to `target`, readable by the account alone. An absent secret is no error:
/// the unit decides whether it can do without.
pub fn hand_credentials(names: &[String], secrets: &Path, target: &Path, account: &Account) -> Result<(), String> {
    let error = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    match fs::remove_dir_all(target) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(error(target)(source)),
        _ => make(target).map_err(error(target))?,
    }
    // The directory stays root's, so that the unit cannot plant anything where root will write at the next start.
    std::os::unix::fs::chown(target, Some(0), Some(account.gid)).map_err(error(target))?;
    fs::set_permissions(target, Permissions::from_mode(0o750)).map_err(error(target))?;
    for name in names {
        let source = secrets.join(name);
        let mut secret = Vec::new();
        match fs::File::open(&source) {
            Err(source_error) if source_error.kind() == ErrorKind::NotFound => continue,
            Err(source_error) => return Err(error(&source)(source_error)),
            Ok(file) => file.take(CREDENTIAL_BYTES_MAX + 1).read_to_end(&mut secret).map_err(error(&source))?,
        };
        if secret.len() as u64 > CREDENTIAL_BYTES_MAX {
            return Err(format!("{}: is larger than 1 MiB", source.display()));
        }
        let copy = target.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&copy).map_err(error(&copy))?;
        file.write_all(&secret).map_err(error(&copy))?;
        lchown(&copy, Some(account.uid), Some(account.gid)).map_err(error(&copy))?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Changes the owner of everything below `path`, without following links out of it.
fn hand_over(path: &Path, account: &Account) -> io::Result<()> {
    let mut pending = vec![path.to_path_buf()];
    while let Some(next) = pending.pop() {
        lchown(&next, Some(account.uid), Some(account.gid))?;
        if fs::symlink_metadata(&next)?.is_dir() {
            for entry in fs::read_dir(&next)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}
