//! Through a folder and all below it, in the order of names, without links.

use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
};

use rustix::fs::{AtFlags, Dir, OFlags, Stat};

use crate::{
    beneath::{Kind, open_beneath, text_of},
    error::ToolError,
};

/// Names of one folder that are looked at: a folder with more shows its first ones only.
const NAMES_MAX: usize = 100_000;

/// Folders inside each other that are entered. Each holds a file descriptor.
pub(super) const DEPTH_MAX: u64 = 64;

/// Something below the folder.
pub(super) struct Found<'a> {
    /// Path from the folder on.
    pub path: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its name as it is.
    pub raw: &'a CStr,
    /// What it is.
    pub kind: Kind,
    /// All about it.
    pub stat: &'a Stat,
    /// The opened folder that holds it.
    pub folder: &'a OwnedFd,
}

/// What to do after something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    On,
    /// End here.
    Stop,
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Folders that could not be read, or hold more names than are looked at, or lie too deep.
    pub folders: u64,
    /// It was stopped.
    pub stopped: bool,
}

struct Level {
    folder: OwnedFd,
    names: std::vec::IntoIter<CString>,
    path_length: usize,
}

/// Visits what lies in `folder`, `depth` levels deep: a folder comes before what is in it. Where a name is no
/// UTF-8, its bad bytes are replaced in paths.
pub(super) fn walk(
    folder: OwnedFd,
    depth: u64,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<Next, ToolError>,
) -> Result<LeftOut, ToolError> {
    let mut left_out = LeftOut::default();
    let mut path = String::new();
    let mut levels = Vec::new();
    enter(folder, 0, &mut levels, &mut left_out);
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_length);
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        // What is removed meanwhile is not there.
        let Ok(stat) = rustix::fs::statat(&level.folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let text = text_of(&name);
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&text);
        let kind = Kind::of(&stat);
        let found = Found { path: &path, name: &text, raw: &name, kind, stat: &stat, folder: &level.folder };
        if visit(&found)? == Next::Stop {
            left_out.stopped = true;
            return Ok(left_out);
        }
        if kind == Kind::Folder && (levels.len() as u64) < depth {
            let level = levels.last().expect("invariant: the level that was just read");
            match open_beneath(&level.folder, name.as_c_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(inner) => enter(inner, path.len(), &mut levels, &mut left_out),
                Err(_) => left_out.folders += 1,
            }
        } else if kind == Kind::Folder && depth >= DEPTH_MAX {
            left_out.folders += 1;
        }
    }
    Ok(left_out)
}

fn enter(folder: OwnedFd, path_length: usize, levels: &mut Vec<Level>, left_out: &mut LeftOut) {
    let (names, whole) = names(&folder);
    left_out.folders += u64::from(!whole);
    levels.push(Level { folder, names: names.into_iter(), path_length });
}

/// The names in a folder, sorted, and whether these are all.
pub(super) fn names(folder: &OwnedFd) -> (Vec<CString>, bool) {
    let (mut names, mut whole) = (Vec::new(), true);
    let Ok(entries) = Dir::read_from(folder) else { return (names, false) };
    for entry in entries {
        let Ok(entry) = entry else {
            whole = false;
            break;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if names.len() == NAMES_MAX {
            whole = false;
            break;
        }
        names.push(name.to_owned());
    }
    names.sort();
    (names, whole)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{args::AbsolutePath, beneath::Tree, host::Host};

    fn found(folder: &tempfile::TempDir, depth: u64) -> (Vec<String>, LeftOut) {
        let tree = Tree::of(&Host::below(folder.path())).expect("tree");
        let root = tree.folder(&AbsolutePath::new("/").expect("path")).expect("folder");
        let mut paths = Vec::new();
        let left_out = walk(root, depth, &mut |found| {
            paths.push(found.path.to_owned());
            Ok(if found.name == "stop" { Next::Stop } else { Next::On })
        });
        (paths, left_out.expect("walk"))
    }

    #[test]
    fn everything_is_found_in_order_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("b/c")).expect("mkdir");
        fs::write(folder.path().join("b/c/deep"), "").expect("write");
        fs::write(folder.path().join("a"), "").expect("write");
        symlink("/", folder.path().join("b/root")).expect("link");
        assert_eq!(
            found(&folder, 9),
            (["a", "b", "b/c", "b/c/deep", "b/root"].map(String::from).to_vec(), LeftOut::default())
        );
        assert_eq!(found(&folder, 1).0, ["a", "b"]);
        fs::write(folder.path().join("b/stop"), "").expect("write");
        fs::write(folder.path().join("z"), "").expect("write");
        let (paths, left_out) = found(&folder, 9);
        assert!(left_out.stopped && paths.last().is_some_and(|last| last == "b/stop"), "{paths:?}");
    }

    #[test]
    fn a_chain_of_folders_without_end_is_left_out_and_said() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(folder.path().join("d/".repeat(DEPTH_MAX as usize + 5))).expect("mkdir");
        let (paths, left_out) = found(&folder, DEPTH_MAX);
        assert_eq!((paths.len() as u64, left_out.folders), (DEPTH_MAX, 1));
    }
}
