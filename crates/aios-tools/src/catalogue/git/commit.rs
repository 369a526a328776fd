//! `git.commit`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gix::{
    ObjectId, Repository,
    actor::SignatureRef,
    bstr::{BStr, BString, ByteSlice as _},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    changes::{self, Change, How},
    init::git_folder,
    repository::{branch, failed, files, head, open},
};
use crate::{
    access::{Access, Privilege},
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Origin, Risk, Tool, ToolSpec},
};

/// Longest message, name and address, in bytes; files of one commit.
const MESSAGE_MAX: usize = 16 << 10;
const NAME_MAX: usize = 200;
const FILES_MAX: usize = 10_000;
/// Changes that the result names.
const SHOWN_MAX: usize = 100;

pub struct Commit;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the repository, the one that holds `.git`.
    path: AbsolutePath,
    /// What changed and why: a line, and after an empty line more where needed.
    #[schemars(length(min = 1, max = 16_384))]
    message: String,
    /// Files to commit, as paths in the repository. Absent: all that changed, new ones too.
    #[serde(default)]
    #[schemars(length(min = 1, max = 10_000))]
    files: Option<Vec<String>>,
    /// Name of the author.
    #[serde(default = "name")]
    #[schemars(length(min = 1, max = 200))]
    author_name: String,
    /// Mail address of the author.
    #[serde(default = "email")]
    #[schemars(length(min = 1, max = 200))]
    author_email: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Id of the new commit, hexadecimal.
    id: String,
    /// Branch that it is on; absent where none is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// What it changes, 100 files at most.
    changes: Vec<Change>,
    /// Number of files that it changes.
    files: usize,
}

fn name() -> String {
    "aiOS".to_owned()
}

fn email() -> String {
    "aios@localhost".to_owned()
}

impl Tool for Commit {
    const SPEC: ToolSpec = ToolSpec {
        name: "git.commit",
        description: "Commits changed files of a git repository, new ones included; the index then is as the commit. No \
                      hooks run, files are stored as they are, up to 16 MiB each.",
        examples: &[
            Example {
                goal: "commit what changed in the configuration",
                arguments: r#"{"path": "/var/lib/aios/config", "message": "net: use the second broker"}"#,
            },
            Example {
                goal: "commit one file",
                arguments: r#"{"path": "/var/lib/aios/config", "message": "Raise the limit", "files": ["policy.toml"]}"#,
            },
        ],
        needs: &["fs:read:{path}", "fs:write:{path}"],
        risk: Risk::Medium,
        idempotent: false,
        reversible: true,
        timeout: Duration::from_secs(120),
        sinks: &["/path"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("fs:read:{}", input.path))
            .writes(&input.path)
            .takes_whole(&input.path)
            .with(Privilege::WriteAll)
    }

    fn inverse(input: &Input, _: &Host) -> Result<Inverse, ToolError> {
        Ok(Inverse::Paths { paths: vec![git_folder(&input.path)?] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        check(&input)?;
        let repository = open(host, &input.path)?;
        if repository.state().is_some() {
            let text = format!("{}: a merge, rebase or the like is not finished: finish or abort it first", input.path);
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        let paths = paths(&repository, &input)?;
        let parent = head(&repository)?;
        let old = match &parent {
            Some(commit) => files(commit)?,
            None => repository.empty_tree(),
        };
        let tree = tree(&repository, &old, host, &input.path, &paths)?;
        let new = repository.find_tree(tree).map_err(|error| failed(tree, error))?;
        let changes = changes::between(&repository, Some(&old), &new)?;
        if changes.is_empty() {
            let text = format!("{}: nothing changed since the last commit", input.path);
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        let id = commit(&repository, &input, tree, parent.map(|commit| commit.id))?;
        let shown = changes.iter().take(SHOWN_MAX).map(|(path, sides)| Change::new(path.as_bstr(), sides.how()));
        Ok(Output { id, branch: branch(&repository)?, changes: shown.collect(), files: changes.len() })
    }
}

fn check(input: &Input) -> Result<(), ToolError> {
    let refused = |text: String| Err(ToolError::new(Code::InvalidArgument, text));
    let message = input.message.trim();
    if message.is_empty() || input.message.len() > MESSAGE_MAX || message.contains('\0') {
        return refused(format!("the message must have 1 to {MESSAGE_MAX} bytes, not only spaces"));
    }
    for text in [&input.author_name, &input.author_email] {
        let is_plain = |c: char| !c.is_control() && !matches!(c, '<' | '>');
        if text.trim().is_empty() || text.len() > NAME_MAX || !text.chars().all(is_plain) {
            return refused(format!("{text:?}: an author's name or address has 1 to {NAME_MAX} bytes without < and >"));
        }
    }
    for path in input.files.iter().flatten() {
        let is_inner = path.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
        if is_inner || AbsolutePath::new(format!("/{path}")).is_err() || path.is_empty() {
            return refused(format!("{path:?} is no path of a file in the repository"));
        }
    }
    Ok(())
}

/// The files to look at.
fn paths(repository: &Repository, input: &Input) -> Result<Vec<BString>, ToolError> {
    let paths: Vec<BString> = match &input.files {
        Some(files) => files.iter().map(|path| BString::from(path.as_str())).collect(),
        None => {
            let status = changes::status(repository)?;
            let conflict = status.unstaged.iter().find(|(_, how)| *how == How::Conflict);
            if let Some((path, _)) = conflict {
                let text = format!("{path} is in conflict: write it as it shall be, and name it in files");
                return Err(ToolError::new(Code::FailedPrecondition, text));
            }
            let changed = status.staged.into_iter().chain(status.unstaged).map(|(path, _)| path);
            changed.chain(status.untracked).collect()
        }
    };
    if paths.len() > FILES_MAX {
        let text = format!("{} files changed, {FILES_MAX} is the most for one commit", paths.len());
        return Err(ToolError::new(Code::TooLarge, text));
    }
    Ok(paths)
}

/// The tree `old` with `paths` as they are in the folder now.
fn tree(
    repository: &Repository,
    old: &gix::Tree<'_>,
    host: &Host,
    root: &AbsolutePath,
    paths: &[BString],
) -> Result<ObjectId, ToolError> {
    let mut editor = old.edit().map_err(|error| failed("tree", error))?;
    for path in paths {
        let wrong = |error: gix::Error| failed(path, error);
        match changes::file(host, root, path.as_bstr())? {
            Some((kind, bytes)) => {
                let id = repository.write_blob(&bytes).map_err(wrong)?;
                editor.upsert(path.as_bstr(), kind, id).map_err(wrong)?;
            }
            None if old.lookup_entry(path.split(|byte| *byte == b'/')).map_err(wrong)?.is_none() => {
                let text = format!("{path} is neither in the folder nor in the last commit");
                return Err(ToolError::new(Code::NotFound, text));
            }
            None => {
                editor.remove(path.as_bstr()).map_err(wrong)?;
            }
        }
    }
    Ok(editor.write().map_err(|error| failed("tree", error))?.detach())
}

/// Makes the commit, moves the branch to it, and sets the index.
fn commit(
    repository: &Repository,
    input: &Input,
    tree: ObjectId,
    parent: Option<ObjectId>,
) -> Result<String, ToolError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let time = format!("{seconds} +0000");
    let author = SignatureRef {
        name: BStr::new(input.author_name.trim()),
        email: BStr::new(input.author_email.trim()),
        time: &time,
    };
    let message = format!("{}\n", input.message.trim());
    let mut index = repository.index_from_tree(&tree).map_err(|error| failed("index", error))?;
    let id = repository
        .commit_as(author, author, "HEAD", message, tree, parent)
        .map_err(|error| failed(&input.path, error))?;
    index.write(gix::index::write::Options::default()).map_err(|error| failed("index", error))?;
    Ok(id.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use serde_json::json;

    use super::*;
    use crate::catalogue::{
        fs::testing::{call, check_inverse},
        git::{diff::Diff, status::Status, testing::Repo},
    };

    #[test]
    fn all_that_changed_is_committed_or_what_is_named() {
        let repo = Repo::new();
        let at = |path: &str| repo.folder.path().join("r").join(path);
        repo.write("a", "a\n");
        repo.write("sub/run", "#!\n");
        fs::set_permissions(at("sub/run"), fs::Permissions::from_mode(0o755)).expect("chmod");
        symlink("/etc/shadow", at("link")).expect("link");
        let first = repo.commit("First\n\nbody");
        assert_eq!((&first["branch"], &first["files"]), (&json!("main"), &json!(3)));
        repo.write("a", "b\n");
        repo.write("b", "b\n");
        fs::remove_file(at("sub/run")).expect("remove");
        let arguments = json!({"path": "/r", "message": "Second", "files": ["b", "sub/run"]});
        let second = call::<Commit>(&repo.host, arguments).expect("commit");
        assert_eq!(
            second["changes"],
            json!([{"path": "b", "change": "added"}, {"path": "sub/run", "change": "deleted"}])
        );
        let status = call::<Status>(&repo.host, json!({"path": "/r"})).expect("status");
        assert_eq!(status["unstaged"], json!([{"path": "a", "change": "modified"}]));
        assert_eq!((&status["staged"], &status["untracked"]), (&json!([]), &json!([])));
        repo.commit("Third");
        let nothing = call::<Commit>(&repo.host, json!({"path": "/r", "message": "Fourth"})).expect_err("nothing");
        assert_eq!(nothing.code, Code::FailedPrecondition);
        repo.write("c", "c\n");
        check_inverse::<Commit>(repo.folder.path(), json!({"path": "/r", "message": "Fifth"}));
    }

    #[test]
    fn a_link_takes_the_place_of_a_folder() {
        let repo = Repo::new();
        let folder = repo.folder.path().join("r/a");
        repo.write("a/x", "x\n");
        repo.write("b/x", "x\n");
        repo.commit("First");
        fs::remove_dir_all(&folder).expect("remove");
        symlink("b", &folder).expect("link");
        let diff = call::<Diff>(&repo.host, json!({"path": "/r"})).expect("diff");
        assert_eq!(diff["files"], json!([{"path": "a/x", "change": "deleted"}]));
        let second = repo.commit("Second");
        let changes = json!([{"path": "a", "change": "added"}, {"path": "a/x", "change": "deleted"}]);
        assert_eq!(second["changes"], changes);
        assert_eq!(call::<Status>(&repo.host, json!({"path": "/r"})).expect("status")["clean"], true);
    }

    #[test]
    fn what_is_outside_or_within_git_can_not_be_committed() {
        let repo = Repo::new();
        repo.write("a", "a\n");
        symlink("/etc", repo.folder.path().join("r/out")).expect("link");
        let code = |more: serde_json::Value| {
            let mut arguments = json!({"path": "/r", "message": "m"});
            arguments.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            call::<Commit>(&repo.host, arguments).expect_err("refused").code
        };
        for bad in ["../x", "/etc/passwd", ".git/config", "sub/.GIT/config", "", "a/../a"] {
            assert_eq!(code(json!({"files": [bad]})), Code::InvalidArgument, "{bad}");
        }
        for none in ["none", "out/passwd", "a/b"] {
            assert_eq!(code(json!({"files": [none]})), Code::NotFound, "{none}");
        }
        assert_eq!(code(json!({"message": " \n"})), Code::InvalidArgument);
        assert_eq!(code(json!({"author_name": "a\nparent 0"})), Code::InvalidArgument);
        assert_eq!(code(json!({"author_email": "a> <b"})), Code::InvalidArgument);
        assert_eq!(code(json!({"path": "/"})), Code::FailedPrecondition);
    }
}
