//! What differs between commits, index and files.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
};

use gix::{
    ObjectId, Repository, Tree as GitTree,
    bstr::{BStr, BString},
    diff::{
        blob::{
            Algorithm, InternedInput, UnifiedDiff, diff_with_slider_heuristics,
            unified_diff::{ConsumeHunk, ContextSize, DiffLineKind, HunkHeader},
        },
        index::ChangeRef,
    },
    object::tree::{EntryKind, diff::ChangeDetached},
    status::{Item, UntrackedFiles, index_worktree::iter::Summary, tree_index::TrackRenames},
};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;

use super::repository::{contents, failed, text};
use crate::{
    args::AbsolutePath,
    beneath::{Kind, Tree},
    error::{Code, ToolError},
    host::Host,
};

/// A file that is longer is not compared or committed.
pub(super) const FILE_MAX: u64 = 16 << 20;
/// Bytes in which a zero says that a file is no text.
const PROBE: usize = 8000;
const PATH_MAX: usize = 4096;

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum How {
    /// It is new.
    Added,
    /// Its contents or mode are others.
    Modified,
    /// It is gone.
    Deleted,
    /// Git keeps several versions of it until somebody decides.
    Conflict,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Change {
    /// Path in the repository.
    pub path: String,
    /// What happened to it.
    pub change: How,
}

/// What differs, as `git status` has it.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Between commit and index.
    pub staged: Vec<(BString, How)>,
    /// Between index and files.
    pub unstaged: Vec<(BString, How)>,
    /// Files that git does not know and that are not ignored.
    pub untracked: Vec<BString>,
}

/// A file's two sides: what it is, and its contents.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub old: Option<(EntryKind, ObjectId)>,
    pub new: Option<(EntryKind, ObjectId)>,
}

impl Change {
    /// As results have it.
    pub(super) fn new(path: &BStr, change: How) -> Self {
        Change { path: text(path, PATH_MAX), change }
    }
}

/// Compares commit, index and files.
pub(super) fn status(repository: &Repository) -> Result<Status, ToolError> {
    let wrong = |error: gix::Error| failed("status", error);
    let platform = repository.status(gix::progress::Discard).map_err(wrong)?;
    let items = platform
        .untracked_files(UntrackedFiles::Files)
        .index_worktree_submodules(None)
        .index_worktree_rewrites(None)
        .tree_index_track_renames(TrackRenames::Disabled)
        .into_iter(None)
        .map_err(wrong)?;
    let mut status = Status::default();
    for item in items {
        match item.map_err(wrong)? {
            Item::TreeIndex(change) => {
                let how = match &change {
                    ChangeRef::Addition { .. } => How::Added,
                    ChangeRef::Deletion { .. } => How::Deleted,
                    ChangeRef::Modification { .. } | ChangeRef::Rewrite { .. } => How::Modified,
                };
                status.staged.push((change.location().to_owned(), how));
            }
            Item::IndexWorktree(item) => {
                let path = item.rela_path().to_owned();
                match item.summary() {
                    None => {}
                    Some(Summary::Added) => status.untracked.push(path),
                    Some(Summary::Removed) => status.unstaged.push((path, How::Deleted)),
                    Some(Summary::IntentToAdd) => status.unstaged.push((path, How::Added)),
                    Some(Summary::Conflict) => status.unstaged.push((path, How::Conflict)),
                    Some(_) => status.unstaged.push((path, How::Modified)),
                }
            }
        }
    }
    status.staged.sort_by(|a, b| a.0.cmp(&b.0));
    status.unstaged.sort_by(|a, b| a.0.cmp(&b.0));
    status.untracked.sort();
    Ok(status)
}

/// Files that differ between two trees, by path. Without renames: a renamed file is deleted and added.
pub(super) fn between(
    repository: &Repository,
    old: Option<&GitTree<'_>>,
    new: &GitTree<'_>,
) -> Result<BTreeMap<BString, Sides>, ToolError> {
    let mut options = gix::diff::Options::default();
    options.track_path();
    let changes = repository.diff_tree_to_tree(old, new, options).map_err(|error| failed("diff", error))?;
    let mut files: BTreeMap<BString, Sides> = BTreeMap::new();
    let mut add = |path: BString, old: Option<(EntryKind, ObjectId)>, new: Option<(EntryKind, ObjectId)>| {
        let is_file = |side: &(EntryKind, ObjectId)| side.0 != EntryKind::Tree;
        let sides = Sides { old: old.filter(is_file), new: new.filter(is_file) };
        if sides.old.is_some() || sides.new.is_some() {
            files.insert(path, sides);
        }
    };
    for change in changes {
        match change {
            ChangeDetached::Addition { location, entry_mode, id, .. } => {
                add(location, None, Some((entry_mode.kind(), id)));
            }
            ChangeDetached::Deletion { location, entry_mode, id, .. } => {
                add(location, Some((entry_mode.kind(), id)), None);
            }
            ChangeDetached::Modification { location, previous_entry_mode, previous_id, entry_mode, id } => {
                add(location, Some((previous_entry_mode.kind(), previous_id)), Some((entry_mode.kind(), id)));
            }
            ChangeDetached::Rewrite {
                source_location, source_entry_mode, source_id, location, entry_mode, id, ..
            } => {
                add(source_location, Some((source_entry_mode.kind(), source_id)), None);
                add(location, None, Some((entry_mode.kind(), id)));
            }
        }
    }
    Ok(files)
}

impl Sides {
    /// What happened.
    pub(super) fn how(&self) -> How {
        match (self.old, self.new) {
            (None, _) => How::Added,
            (_, None) => How::Deleted,
            _ => How::Modified,
        }
    }

    /// The difference in unified form.
    pub(super) fn unified(&self, repository: &Repository, path: &BStr) -> Result<String, ToolError> {
        let side = |side: Option<(EntryKind, ObjectId)>| match side {
            None => Ok(None),
            // Of a submodule there is nothing but the id of its commit.
            Some((EntryKind::Commit, id)) => Ok(Some(format!("Subproject commit {id}\n").into_bytes())),
            Some((_, id)) => contents(repository, id).map(Some),
        };
        Ok(unified(&text(path, PATH_MAX), side(self.old)?.as_deref(), side(self.new)?.as_deref()))
    }
}

/// The difference between two contents of a file, in unified form; `None` is a file that is not there.
pub(super) fn unified(path: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> String {
    let name = |side: &str, there: bool| if there { format!("{side}/{path}") } else { "/dev/null".to_owned() };
    let head = format!("--- {}\n+++ {}\n", name("a", old.is_some()), name("b", new.is_some()));
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let is_binary = |bytes: &[u8]| bytes[..bytes.len().min(PROBE)].contains(&0);
    if is_binary(old) || is_binary(new) || old.len().max(new.len()) as u64 > FILE_MAX {
        return format!("{head}(binary or very long: {} bytes before, {} after)\n", old.len(), new.len());
    }
    let input = InternedInput::new(old, new);
    let diff = diff_with_slider_heuristics(Algorithm::Histogram, &input);
    let hunks = UnifiedDiff::new(&diff, &input, Hunks::default(), ContextSize::symmetrical(3)).consume();
    // Writing to memory does not fail.
    let hunks = hunks.unwrap_or_default();
    head + &String::from_utf8_lossy(&hunks)
}

/// Differences as patch(1) and git read them.
#[derive(Default)]
struct Hunks(Vec<u8>);

impl ConsumeHunk for Hunks {
    type Out = Vec<u8>;

    fn consume_hunk(&mut self, header: HunkHeader, lines: &[(DiffLineKind, &[u8])]) -> io::Result<()> {
        // A side without lines counts from the line before.
        let start = |start: u32, length: u32| if length == 0 { start.saturating_sub(1) } else { start };
        let (before, after) = (header.before_hunk_len, header.after_hunk_len);
        let (old, new) = (start(header.before_hunk_start, before), start(header.after_hunk_start, after));
        self.0.extend_from_slice(format!("@@ -{old},{before} +{new},{after} @@\n").as_bytes());
        for (kind, line) in lines {
            self.0.push(kind.to_prefix() as u8);
            self.0.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                self.0.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A file of the repository's folder as it is now: kind and contents; `None` where there is none. A link's contents are
/// where it leads. Behind a link that stands in for a folder there is nothing that belongs to the repository.
pub(super) fn file(host: &Host, root: &AbsolutePath, path: &BStr) -> Result<Option<(EntryKind, Vec<u8>)>, ToolError> {
    let refused = |why: &str| ToolError::new(Code::InvalidArgument, format!("{}: {why}", text(path, PATH_MAX)));
    let name = std::str::from_utf8(path).map_err(|_| refused("names that are not UTF-8 are not supported"))?;
    let root = root.as_str().trim_end_matches('/');
    let path = AbsolutePath::new(format!("{root}/{name}")).map_err(|error| refused(&error.to_string()))?;
    let tree = Tree::of(host)?;
    let Some(opened) = tree.find(&path, OFlags::PATH)? else { return Ok(None) };
    let stat = rustix::fs::fstat(&opened).map_err(|error| crate::beneath::refused(&path, error))?;
    match Kind::of(&stat) {
        Kind::File => {
            let mut bytes = Vec::new();
            let read = tree.file(&path)?.take(FILE_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| ToolError::io(path.as_path(), &error))?;
            if bytes.len() as u64 > FILE_MAX {
                return Err(ToolError::new(Code::TooLarge, format!("{path} is longer than {FILE_MAX} bytes")));
            }
            let kind = if stat.st_mode & 0o100 == 0 { EntryKind::Blob } else { EntryKind::BlobExecutable };
            Ok(Some((kind, bytes)))
        }
        Kind::Link => {
            let target = rustix::fs::readlinkat(&opened, "", Vec::new());
            let target = target.map_err(|error| crate::beneath::refused(&path, error))?;
            Ok(Some((EntryKind::Link, target.into_bytes())))
        }
        _ => Err(refused("is neither a file nor a link")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_as_patches_have_it() {
        let shown = unified("a/b.txt", Some(b"one\ntwo\nthree\n"), Some(b"one\n2\nthree\n"));
        assert_eq!(shown, "--- a/a/b.txt\n+++ b/a/b.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n");
        assert_eq!(unified("n", None, Some(b"x\n")), "--- /dev/null\n+++ b/n\n@@ -0,0 +1,1 @@\n+x\n");
        let open = "--- a/n\n+++ b/n\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+b\n";
        assert_eq!(unified("n", Some(b"a"), Some(b"b\n")), open);
        assert!(unified("n", Some(b"a\0"), None).contains("binary"));
    }
}
