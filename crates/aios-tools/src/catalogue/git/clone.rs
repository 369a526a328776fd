//! `git.clone`

use std::{
    ffi::CString,
    fs, io,
    path::Path,
    sync::{PoisonError, atomic::AtomicBool},
    time::Duration,
};

use gix::{
    ObjectId, Repository,
    bstr::{BStr, ByteSlice as _},
    protocol::{
        handshake::Ref,
        transport::{Protocol, client::blocking_io::http::Transport},
    },
    refs::{
        FullName,
        transaction::{PreviousValue, RefEdit},
    },
    remote::{Direction, fetch::Tags, ref_map},
};
use rustix::fs::{Mode, OFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    remote::{RECEIVED_MAX, Web},
    repository::{failed, open, options, text},
};
use crate::{
    access::{Access, Privilege},
    args::{AbsolutePath, WebUrl},
    beneath::{Place, Tree, open_beneath},
    catalogue::fs::{
        duplicate::{Copier, SetId},
        remove::remove,
    },
    error::{Code, ToolError},
    host::Host,
    http::{self, Reach},
    replacement::temporary_name,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

/// Time for one request of the transfer.
const TIME_MAX: Duration = Duration::from_secs(580);
/// Longest name of a branch.
const BRANCH_MAX: usize = 200;

pub struct Clone;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address of the repository. Either this or `from`.
    #[serde(default)]
    url: Option<WebUrl>,
    /// Folder of a repository on this device, the one that holds `.git`. Either this or `url`.
    #[serde(default)]
    from: Option<AbsolutePath>,
    /// Folder to make. Nothing may be there; the folder that it lies in must exist.
    path: AbsolutePath,
    /// Branch to check out. Absent: the one that is checked out there.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    branch: Option<String>,
    /// Whether the server may be this device or in the local network; takes `web:local:<host>`.
    #[serde(default)]
    local: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Branch that is checked out; absent where the repository is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Id of its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// Files that were written.
    files: usize,
}

/// What another repository has checked out: its branch, or a commit.
struct Head {
    branch: Option<String>,
    commit: Option<ObjectId>,
}

impl Tool for Clone {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.clone",
        description: "Copies a git repository, from the web (https or http, without credentials) or from a folder, with \
                      all branches and tags, and checks out a branch. The new folder appears whole or not at all. \
                      Submodules, filters and hooks are left out.",
        examples: &[
            Example {
                goal: "get the recipes",
                arguments: r#"{"url": "https://example.com/recipes.git", "path": "/var/lib/aios/recipes"}"#,
            },
            Example {
                goal: "work on a copy of the configuration",
                arguments: r#"{"from": "/var/lib/aios/config", "path": "/var/lib/aios/config-new", "branch": "main"}"#,
            },
        ],
        needs: &["web:fetch:{url}", "web:local:{url}", "fs:read:{from}", "fs:write:{path}"],
        risk: Risk::Medium,
        idempotent: false,
        reversible: true,
        timeout: Duration::from_secs(600),
        sinks: &["/url", "/from", "/path"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let mut access = match &input.url {
            Some(url) => http::access("fetch", url, Reach::of(input.local)),
            None => Access::default(),
        };
        if let Some(from) = &input.from {
            access = access.looks_through(from);
        }
        let access = access.replaces(&input.path).and_below(format!("fs:write:{}", input.path));
        access.with(Privilege::FileOwner).with(Privilege::WriteAll).with_files_of(RECEIVED_MAX)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![input.path.clone()] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let wanted = branch_name(input.branch.as_deref())?;
        let tree = Tree::of(host)?;
        let place = tree.place(&input.path)?;
        if place.stat()?.is_some() {
            return Err(ToolError::new(Code::AlreadyExists, format!("{} exists already", input.path)));
        }
        let new = NewFolder::make(&place)?;
        let parent = input.path.as_path().parent().unwrap_or(Path::new("/"));
        let at = host.path(parent.join(&new.name));
        let output = match (&input.url, &input.from) {
            (Some(url), None) => {
                let repository = empty(&at, url.as_str())?;
                let head = fetch(&repository, url, Reach::of(input.local))?;
                check_out(&repository, head, wanted)?
            }
            (None, Some(from)) => {
                let source = open(host, from)?;
                let repository = empty(&at, from.as_str())?;
                let head = copy(&source, &tree, from, &new, &repository)?;
                // Objects are found anew.
                drop(repository);
                check_out(&reopen(&at)?, head, wanted)?
            }
            _ => return Err(ToolError::new(Code::InvalidArgument, "give either url or from")),
        };
        new.place()?;
        Ok(output)
    }
}

/// The wanted branch, if its name is one.
fn branch_name(branch: Option<&str>) -> Result<Option<&str>, ToolError> {
    let Some(name) = branch else { return Ok(None) };
    let full = format!("refs/heads/{name}");
    if name.len() > BRANCH_MAX || name.starts_with('-') || FullName::try_from(full.as_str()).is_err() {
        return Err(ToolError::new(Code::InvalidArgument, format!("{name:?} can't be the name of a branch")));
    }
    Ok(Some(name))
}

/// A folder under a name of its own, that becomes the wanted one when it is complete; else it is removed.
struct NewFolder<'a> {
    place: &'a Place,
    name: String,
    placed: bool,
}

impl<'a> NewFolder<'a> {
    fn make(place: &'a Place) -> Result<Self, ToolError> {
        let name = temporary_name();
        rustix::fs::mkdirat(&place.folder, &name, Mode::from_raw_mode(0o755)).map_err(|error| place.failed(error))?;
        Ok(NewFolder { place, name, placed: false })
    }

    fn place(mut self) -> Result<(), ToolError> {
        let Place { folder, name, .. } = self.place;
        rustix::fs::renameat_with(folder, &self.name, folder, name, rustix::fs::RenameFlags::NOREPLACE)
            .map_err(|error| self.place.failed(error))?;
        self.placed = true;
        self.place.sync()
    }
}

impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        if let (false, Ok(name)) = (self.placed, CString::new(self.name.as_str())) {
            // The error that led here is the one to report.
            let _ = remove(&self.place.folder, &name);
        }
    }
}

/// A new repository that knows where it comes from.
fn empty(at: &Path, origin: &str) -> Result<Repository, ToolError> {
    let kind = gix::create::Kind::WithWorktree;
    gix::ThreadSafeRepository::init_opts(at, kind, gix::create::Options::default(), options())
        .map_err(|error| failed(origin, error))?;
    let config = at.join(".git/config");
    let quoted = origin.replace('\\', "\\\\").replace('"', "\\\"");
    let remote = format!("[remote \"origin\"]\n\turl = \"{quoted}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
    let written = fs::read_to_string(&config).and_then(|old| fs::write(&config, old + &remote));
    written.map_err(|error| ToolError::of_io(".git/config", &error))?;
    reopen(at)
}

fn reopen(at: &Path) -> Result<Repository, ToolError> {
    let opened = options().open_path_as_is(true).open(at.join(".git")).map_err(|error| failed("the copy", error))?;
    let mut repository = opened.to_thread_local();
    repository.set_workdir(Some(at.to_owned())).map_err(|error| failed("the copy", error))?;
    repository.committer_or_set_generic_fallback().map_err(|error| failed("the copy", error))?;
    Ok(repository)
}

/// Gets branches, tags and all that they need.
fn fetch(repository: &Repository, url: &WebUrl, reach: Reach) -> Result<Head, ToolError> {
    let (web, failure) = Web::new(reach, TIME_MAX);
    let transferred = transfer(repository, url, web);
    transferred.map_err(|error| {
        let first = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| {
            ToolError::new(Code::Unavailable, format!("{url} does not speak git as it should: {error}"))
        })
    })
}

fn transfer(repository: &Repository, url: &WebUrl, web: Web) -> gix::Result<Head> {
    let remote = repository.remote_at_without_url_rewrite(url.as_str())?;
    let remote = remote.with_refspecs([BStr::new("+refs/heads/*:refs/remotes/origin/*")], Direction::Fetch)?;
    let remote = remote.with_fetch_tags(Tags::All);
    let address = remote.url(Direction::Fetch).expect("invariant: the remote was made of an address").clone();
    let transport = Transport::new_http(web, address, Protocol::V2, false);
    let head = gix::refspec::parse(BStr::new("HEAD"), gix::refspec::parse::Operation::Fetch)?.to_owned();
    let options = ref_map::Options { extra_refspecs: vec![head], ..ref_map::Options::default() };
    let connection = remote.to_connection_with_transport(transport).with_credentials(|_| Ok(None));
    let prepared = connection.prepare_fetch(gix::progress::Discard, options)?;
    let outcome = prepared.receive(gix::progress::Discard, &AtomicBool::new(false))?;
    let mut found = Head { branch: None, commit: None };
    for reference in &outcome.ref_map.remote_refs {
        let (name, target, commit) = match reference {
            Ref::Symbolic { full_ref_name, target, object, .. } => (full_ref_name, Some(target), Some(*object)),
            Ref::Direct { full_ref_name, object } | Ref::Peeled { full_ref_name, object, .. } => {
                (full_ref_name, None, Some(*object))
            }
            Ref::Unborn { full_ref_name, target } => (full_ref_name, Some(target), None),
        };
        if name == "HEAD" {
            let branch = target.and_then(|target| target.strip_prefix(b"refs/heads/"));
            found = Head { branch: branch.map(|name| text(name.as_bstr(), BRANCH_MAX)), commit };
        }
    }
    Ok(found)
}

/// Copies objects, branches and tags of a repository on this device.
fn copy(
    source: &Repository,
    tree: &Tree,
    from: &AbsolutePath,
    new: &NewFolder<'_>,
    repository: &Repository,
) -> Result<Head, ToolError> {
    let wrong = |error: gix::Error| failed(from, error);
    let git = tree.folder(&super::init::git_folder(from)?)?;
    for (borrowed, what) in [("objects/info/alternates", "borrows objects from another"), ("shallow", "is not whole")] {
        if open_beneath(&git, borrowed, OFlags::PATH).is_ok() {
            let text = format!("{from} {what}: it can't be copied by its folder");
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
    }
    let target = format!("{}/.git", new.name);
    let target = open_beneath(&new.place.folder, target.as_str(), OFlags::RDONLY | OFlags::DIRECTORY);
    let target = target.map_err(|error| new.place.failed(error))?;
    remove(&target, c"objects").map_err(|error| new.place.failed(error))?;
    Copier::new(SetId::Drop).copy((&git, c"objects"), (&target, c"objects"), 0)?;
    let references = source.references().map_err(wrong)?;
    for (all, prefix) in [
        (references.local_branches().map_err(wrong)?, "refs/remotes/origin/"),
        (references.tags().map_err(wrong)?, "refs/tags/"),
    ] {
        for reference in all {
            let reference = reference.map_err(wrong)?;
            let name = format!("{prefix}{}", reference.name().shorten());
            if let Some(id) = reference.try_id() {
                let made = repository.reference(name.as_str(), id.detach(), PreviousValue::Any, "clone");
                made.map_err(wrong)?;
            }
        }
    }
    let commit = super::repository::head(source)?.map(|commit| commit.id);
    Ok(Head { branch: super::repository::branch(source)?, commit })
}

/// Makes the branch, and writes its files.
fn check_out(repository: &Repository, head: Head, wanted: Option<&str>) -> Result<Output, ToolError> {
    let wrong = |error: gix::Error| failed("check-out", error);
    let (branch, commit) = match wanted {
        None => (head.branch, head.commit),
        Some(name) => {
            let reference = repository
                .find_reference(&format!("refs/remotes/origin/{name}"))
                .map_err(|_| ToolError::new(Code::NotFound, format!("the repository has no branch {name:?}")))?;
            (Some(name.to_owned()), Some(reference.into_fully_peeled_id().map_err(wrong)?.detach()))
        }
    };
    let Some(commit) = commit else { return Ok(Output { branch, commit: None, files: 0 }) };
    if let Some(name) = branch_name(branch.as_deref())? {
        let full = format!("refs/heads/{name}");
        repository.reference(full.as_str(), commit, PreviousValue::Any, "clone").map_err(wrong)?;
        set_head(repository, FullName::try_from(full.as_str()).expect("invariant: the name was checked"))?;
    } else {
        set_head(repository, commit)?;
    }
    let files = write_files(repository, commit).map_err(wrong)?;
    Ok(Output { branch, commit: Some(commit.to_string()), files })
}

fn set_head(repository: &Repository, target: impl Into<gix::refs::Target>) -> Result<(), ToolError> {
    let name = FullName::try_from("HEAD").expect("invariant: HEAD is a name");
    let edit = RefEdit::update(name, target, PreviousValue::Any, "clone");
    repository.edit_reference(edit).map(drop).map_err(|error| failed("HEAD", error))
}

fn write_files(repository: &Repository, commit: ObjectId) -> gix::Result<usize> {
    let tree = repository.find_commit(commit)?.tree_id()?;
    let mut index = repository.index_from_tree(&tree)?;
    let mut options = repository.checkout_options(gix::worktree::stack::state::attributes::Source::IdMapping)?;
    options.destination_is_initially_empty = true;
    let folder = repository.workdir().expect("invariant: the copy was made with files").to_owned();
    let (discard, never) = (gix::progress::Discard, AtomicBool::new(false));
    let objects = repository.objects.clone().into_arc().map_err(gix::Error::from_error)?;
    let written = gix::worktree::state::checkout(&mut index, folder, objects, &discard, &discard, &never, options)?;
    if let Some(collision) = written.collisions.first() {
        let text = format!("{} stands twice in the commit, or in the way of another file", collision.path);
        return Err(gix::Error::from_error(io::Error::other(text)));
    }
    index.write(gix::index::write::Options::default())?;
    Ok(index.entries().len())
}

#[cfg(test)]
mod tests;
