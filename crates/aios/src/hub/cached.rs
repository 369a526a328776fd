//! What the hub's own tools keep: files they downloaded, here or on a disk that was brought here, and the token of a login.
//!
//! Files lie in `models--OWNER--NAME/snapshots/COMMIT/`, as links to `blobs/HASH`; `refs/REVISION` holds a commit. Nothing
//! there is trusted: whoever takes a file compares its hash.

use std::{
    env, fs,
    path::{Component, Path, PathBuf},
};

use aios_models::manifest::is_sha256;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::{Repository, RepositoryFile};

/// Whether the environment forbids to ask the hub (`HF_HUB_OFFLINE`).
pub fn is_offline() -> bool {
    let forbids = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
    env::var("HF_HUB_OFFLINE").is_ok_and(forbids)
}

/// The token of `huggingface-cli login`.
pub fn login_token() -> Option<String> {
    cache()?.token()
}

/// A file of a repository at a commit, where it was downloaded before.
pub fn file(repository: &Repository, file: &str) -> Option<PathBuf> {
    let inside = Path::new(file).components().all(|component| matches!(component, Component::Normal(_)));
    let folder = repo(&cache()?, &repository.name, "main").pointer_path(&repository.commit);
    Some(folder.join(file)).filter(|path| inside && path.is_file())
}

/// What there is of a repository at a revision: a branch or tag as it was when it was downloaded, or a commit.
pub fn repository(name: &str, revision: &str) -> Option<Repository> {
    let cached = repo(&cache()?, name, revision);
    // The empty name stands for the folder itself.
    let folder = cached.get("").unwrap_or_else(|| cached.pointer_path(revision));
    let commit = folder.file_name()?.to_str()?.to_owned();
    let entries = fs::read_dir(&folder).ok()?.flatten();
    let files = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let sha256 =
            target.file_name().and_then(|hash| hash.to_str()).filter(|hash| is_sha256(hash)).map(str::to_owned);
        Some(RepositoryFile { name, size: fs::metadata(entry.path()).ok().map(|metadata| metadata.len()), sha256 })
    });
    Some(Repository { name: name.to_owned(), commit, files: files.collect(), licence: None })
}

/// Where it is looked for, in words.
pub fn place() -> String {
    cache().map_or_else(|| "HF_HOME, which is not set".to_owned(), |cache| cache.path().display().to_string())
}

/// The cache that `HF_HOME` names, or the one in the home directory.
fn cache() -> Option<Cache> {
    let known = env::var_os("HF_HOME").is_some() || env::home_dir().is_some();
    known.then(Cache::from_env)
}

fn repo(cache: &Cache, name: &str, revision: &str) -> CacheRepo {
    cache.repo(Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned()))
}
