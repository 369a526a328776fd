//! A walk through a folder and all below, that follows no link and stays on one file system.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::{
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
};

/// Most files and folders that one walk looks at.
pub const FILES_MAX: usize = 200_000;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 64;

/// A file or folder that was met.
pub struct Met<'a> {
    /// Its path on the device; bytes that are not UTF-8 are replaced.
    pub path: &'a str,
    /// The same as the tool sees it.
    pub place: &'a Path,
    /// What the file system says of it; of a link, itself.
    pub metadata: &'a Metadata,
}

/// Calls `visit` with `top` and all below, folders before what is in them, in the order of names. Returns what could not be
/// read, where something could not.
pub fn walk(
    host: &Host,
    top: &AbsolutePath,
    mut visit: impl FnMut(Met<'_>) -> Result<(), ToolError>,
) -> Result<Vec<String>, ToolError> {
    let failed = |error| ToolError::io(top.as_path(), &error);
    let place = host.path(top);
    let metadata = fs::symlink_metadata(&place).map_err(failed)?;
    let device = metadata.dev();
    let (mut stack, mut unread, mut count) = (vec![(place, top.to_string(), metadata, 0)], Vec::new(), 0);
    while let Some((place, path, metadata, depth)) = stack.pop() {
        count += 1;
        if count > FILES_MAX {
            let text = format!("more than {FILES_MAX} files lie below {top}: choose folders further down");
            return Err(ToolError::new(Code::TooLarge, text));
        }
        visit(Met { path: &path, place: &place, metadata: &metadata })?;
        if !metadata.is_dir() || metadata.dev() != device {
            continue;
        }
        let entries = if depth < DEPTH_MAX {
            fs::read_dir(&place).and_then(Iterator::collect::<Result<Vec<_>, _>>)
        } else {
            Err(rustix::io::Errno::LOOP.into())
        };
        let Ok(mut entries) = entries else {
            unread.push(path);
            continue;
        };
        // The last one that is pushed is the first one that is met.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        for entry in entries {
            let below = format!("{}/{}", path.trim_end_matches('/'), entry.file_name().to_string_lossy());
            match entry.metadata() {
                Ok(metadata) => stack.push((entry.path(), below, metadata, depth + 1)),
                Err(_) => unread.push(below),
            }
        }
    }
    Ok(unread)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_walk_meets_all_in_order_and_follows_no_link() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir_all(host.path("/top/b/c")).expect("folders");
        fs::write(host.path("/top/a"), "").expect("file");
        fs::write(host.path("/top/b/c/d"), "").expect("file");
        symlink("/", host.path("/top/b/link")).expect("link");
        let mut met = Vec::new();
        let top = AbsolutePath::new("/top").expect("path");
        let unread = walk(&host, &top, |file| {
            met.push(file.path.to_owned());
            Ok(())
        });
        assert_eq!(unread, Ok(Vec::new()));
        assert_eq!(met, ["/top", "/top/a", "/top/b", "/top/b/c", "/top/b/c/d", "/top/b/link"]);
        let none = walk(&host, &AbsolutePath::new("/none").expect("path"), |_| Ok(()));
        assert_eq!(none.map_err(|error| error.code), Err(Code::NotFound));
    }
}
