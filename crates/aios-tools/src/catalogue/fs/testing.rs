//! What tests of this namespace share.

use std::{collections::BTreeMap, fs::File, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::Value;

use crate::{
    error::ToolError,
    host::Host,
    replacement::extended_attributes,
    tool::{Entry, Inverse, Tool},
};

/// A call as the pipeline makes it.
pub(in crate::catalogue) fn call<T: Tool>(host: &Host, arguments: Value) -> Result<Value, ToolError> {
    Entry::of::<T>().run(&arguments, host)
}

/// Everything of a path that rolling back must restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::catalogue) struct State {
    mode: u32,
    owner: (u32, u32),
    contents: Vec<u8>,
    attributes: Vec<(String, Vec<u8>)>,
}

/// All that lies below `root`, by path as a tool would name it.
pub(in crate::catalogue) fn states(root: &Path) -> BTreeMap<String, State> {
    fn add(root: &Path, at: &Path, states: &mut BTreeMap<String, State>) {
        for entry in std::fs::read_dir(at).expect("folder") {
            let path = entry.expect("entry").path();
            let metadata = path.symlink_metadata().expect("metadata");
            let (mut contents, mut attributes) = (Vec::new(), Vec::new());
            if metadata.is_symlink() {
                contents = path.read_link().expect("link").into_os_string().into_encoded_bytes();
            } else {
                attributes = extended_attributes(&File::open(&path).expect("open")).expect("attributes");
            }
            if metadata.is_file() {
                contents = std::fs::read(&path).expect("read");
            }
            let name = format!("/{}", path.strip_prefix(root).expect("below").display());
            let owner = (metadata.uid(), metadata.gid());
            states.insert(name, State { mode: metadata.mode(), owner, contents, attributes });
            if metadata.is_dir() {
                add(root, &path, states);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(root, root, &mut all);
    all
}

/// Makes a call and undoes it: what a call of a tool undoes must be undone, and what the journal restores must name all
/// paths that changed.
pub(in crate::catalogue) fn check_inverse<T: Tool>(root: &Path, arguments: Value) {
    let host = Host::below(root);
    let tool = Entry::of::<T>();
    assert!(tool.spec.reversible, "{}", tool.spec.name);
    let before = states(root);
    let inverse = tool.inverse(&arguments, &host).expect("inverse");
    tool.run(&arguments, &host).expect("run");
    let after = states(root);
    assert_ne!(before, after, "the call changed nothing: {arguments}");
    match inverse {
        Inverse::Nothing => panic!("nothing undoes {arguments}"),
        Inverse::Call { tool, arguments } => {
            let tool = crate::catalogue::find(&tool).expect("a tool");
            // Twice: what undoes is absolute.
            for _ in 0..2 {
                tool.run(&arguments, &host).expect("undo");
                assert_eq!(states(root), before, "{arguments}");
            }
        }
        Inverse::Paths { paths } => {
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
                let is_kept = paths.iter().any(|path| Path::new(name).starts_with(path));
                assert!(is_kept, "{name} changed and is not among {paths:?}");
            }
        }
    }
}
