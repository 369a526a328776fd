//! What tests of this namespace share.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{commit::Commit, init::Init};
use crate::{catalogue::fs::testing::call, host::Host};

/// A new repository, at `/r` of its host.
pub(super) struct Repo {
    pub folder: TempDir,
    pub host: Host,
}

impl Repo {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir(folder.path().join("r")).expect("mkdir");
        call::<Init>(&host, json!({"path": "/r"})).expect("init");
        Repo { folder, host }
    }

    /// Writes a file of it.
    pub(super) fn write(&self, path: &str, text: &str) {
        let at = self.folder.path().join("r").join(path);
        fs::create_dir_all(at.parent().expect("parent")).expect("mkdir");
        fs::write(at, text).expect("write");
    }

    /// Commits all.
    pub(super) fn commit(&self, message: &str) -> Value {
        call::<Commit>(&self.host, json!({"path": "/r", "message": message})).expect("commit")
    }
}
