//! What the runtime keeps on disk of prompts to a model.

use std::path::Path;

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, unlinkat},
    io::{Errno, Result},
};

/// Deletes the beginnings of prompts to a model below `state`, the runtime's directory. Links are not followed: the
/// directory is the runtime's, and this is done as root.
pub fn forget(state: &Path, prefixes: &str, id: &str) -> Result<()> {
    match delete(state, prefixes, id) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn delete(state: &Path, prefixes: &str, id: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let state = openat(CWD, state, flags, Mode::empty())?;
    let prefixes = openat(&state, prefixes, flags, Mode::empty())?;
    let folder = openat(&prefixes, id, flags, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    unlinkat(&prefixes, id, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_models_beginnings_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        assert_eq!(forget(&at("state"), "prefixes", "a"), Ok(()), "there is nothing to delete");
        for id in ["a", "b"] {
            fs::create_dir_all(at("state/prefixes").join(id)).unwrap();
            fs::write(at("state/prefixes").join(id).join("1.prefix"), "x").unwrap();
        }
        assert_eq!(forget(&at("state"), "prefixes", "a"), Ok(()));
        assert!(!at("state/prefixes/a").exists() && at("state/prefixes/b/1.prefix").exists());

        fs::create_dir_all(at("etc/c")).unwrap();
        fs::write(at("etc/c/precious"), "x").unwrap();
        symlink(at("etc/c"), at("state/prefixes/c")).unwrap();
        assert!(forget(&at("state"), "prefixes", "c").is_err());
        symlink(at("etc"), at("state/links")).unwrap();
        assert!(forget(&at("state"), "links", "c").is_err());
        assert!(at("etc/c/precious").exists());
    }
}
