use std::{io::Write, os::unix::fs::PermissionsExt as _};

use gix::objs::tree::{Entry, EntryKind};
use serde_json::json;

use super::*;
use crate::{
    catalogue::{
        fs::testing::{call, check_inverse},
        git::{branches::Branches, status::Status, testing::Repo},
    },
    http::testing::{Request, Server, respond},
};

/// What git 2.47 answers for a repository of two commits: `trunk` is checked out, `other` and the tag `v1` are the first.
fn serve(request: &Request, to: &mut dyn Write) {
    let kind = |kind: &str| format!("Content-Type: application/x-git-upload-pack-{kind}\r\n");
    match request.head.split(' ').nth(1).unwrap_or_default() {
        "/r.git/info/refs?service=git-upload-pack" => {
            respond(to, "200 OK", &kind("advertisement"), include_bytes!("../recorded/advertisement"));
        }
        "/r.git/git-upload-pack" if request.body.contains("command=ls-refs") => {
            respond(to, "200 OK", &kind("result"), include_bytes!("../recorded/ls-refs"));
        }
        "/r.git/git-upload-pack" => respond(to, "200 OK", &kind("result"), include_bytes!("../recorded/fetch")),
        "/cut.git/info/refs?service=git-upload-pack" => {
            respond(to, "200 OK", &kind("advertisement"), include_bytes!("../recorded/advertisement"));
        }
        "/cut.git/git-upload-pack" if request.body.contains("command=ls-refs") => {
            respond(to, "200 OK", &kind("result"), include_bytes!("../recorded/ls-refs"));
        }
        "/cut.git/git-upload-pack" => {
            respond(to, "200 OK", &kind("result"), &include_bytes!("../recorded/fetch")[..200]);
        }
        path if path.starts_with("/private") => respond(to, "401 Unauthorized", "WWW-Authenticate: Basic\r\n", b""),
        path if path.starts_with("/odd") => respond(to, "200 OK", "Content-Type: text/html\r\n", b"<html>"),
        _ => respond(to, "404 Not Found", "", b""),
    }
}

const SECOND: &str = "f1877c0";
const FIRST: &str = "f0c38a2";

#[test]
fn a_repository_is_cloned_from_the_web() {
    let (server, folder) = (Server::start(serve), tempfile::tempdir().expect("tempdir"));
    let host = Host::below(folder.path());
    let arguments = json!({"url": server.url("/r.git"), "path": "/r", "local": true});
    let cloned = call::<Clone>(&host, arguments.clone()).expect("clone");
    assert_eq!((&cloned["branch"], &cloned["files"]), (&json!("trunk"), &json!(3)));
    assert!(cloned["commit"].as_str().is_some_and(|id| id.starts_with(SECOND)), "{cloned}");
    let at = |path: &str| folder.path().join("r").join(path);
    assert_eq!(fs::read_to_string(at("hello.txt")).expect("read"), "hello\nworld\n");
    assert_eq!(fs::metadata(at("sub/run")).expect("stat").permissions().mode() & 0o111, 0o111);
    assert_eq!(fs::read_link(at("link")).expect("link").to_str(), Some("hello.txt"));
    let status = call::<Status>(&host, json!({"path": "/r"})).expect("status");
    assert_eq!((&status["clean"], &status["commit"]["subject"]), (&json!(true), &json!("Second")));
    let branches = call::<Branches>(&host, json!({"path": "/r"})).expect("branches");
    let names = |list: &serde_json::Value| {
        list.as_array()
            .expect("list")
            .iter()
            .map(|entry| entry["name"].as_str().expect("name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&branches["remote"]), ["origin/other", "origin/trunk"]);
    assert_eq!(
        (names(&branches["local"]), names(&branches["tags"])),
        (vec!["trunk".to_owned()], vec!["v1".to_owned()])
    );
    assert_eq!(call::<Clone>(&host, arguments).expect_err("exists").code, Code::AlreadyExists);
    let other = json!({"url": server.url("/r.git"), "path": "/other", "local": true, "branch": "other"});
    let other = call::<Clone>(&host, other).expect("clone");
    assert!(other["commit"].as_str().is_some_and(|id| id.starts_with(FIRST)), "{other}");
    assert_eq!(fs::read_to_string(folder.path().join("other/hello.txt")).expect("read"), "hello\n");
}

#[test]
fn what_can_not_be_cloned_leaves_nothing() {
    let (server, folder) = (Server::start(serve), tempfile::tempdir().expect("tempdir"));
    let host = Host::below(folder.path());
    for (path, more, code) in [
        ("/none.git", json!({}), Code::NotFound),
        ("/private.git", json!({}), Code::PermissionDenied),
        ("/odd.git", json!({}), Code::Unavailable),
        ("/cut.git", json!({}), Code::Unavailable),
        ("/r.git", json!({"local": false}), Code::PermissionDenied),
        ("/r.git", json!({"branch": "none"}), Code::NotFound),
        ("/r.git", json!({"branch": "a..b"}), Code::InvalidArgument),
        ("/r.git", json!({"from": "/r"}), Code::InvalidArgument),
        ("/r.git", json!({"path": "/none/r"}), Code::NotFound),
    ] {
        let mut arguments = json!({"url": server.url(path), "path": "/r", "local": true});
        arguments.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        let error = call::<Clone>(&host, arguments.clone()).expect_err(path);
        assert_eq!(error.code, code, "{arguments}: {error}");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0, "{arguments}");
    }
}

#[test]
fn a_repository_is_cloned_from_a_folder() {
    let repo = Repo::new();
    repo.write("a", "one\n");
    let first = repo.commit("First");
    let id = first["id"].as_str().expect("id").to_owned();
    repo.write(".git/refs/heads/other", &format!("{id}\n"));
    repo.write(".git/hooks/post-checkout", "#!/bin/sh\n");
    repo.write("a", "two\n");
    repo.commit("Second");
    check_inverse::<Clone>(repo.folder.path(), json!({"from": "/r", "path": "/copy"}));
    let at = |path: &str| repo.folder.path().join(path);
    assert_eq!(fs::read_to_string(at("copy/a")).expect("read"), "two\n");
    assert!(!at("copy/.git/hooks/post-checkout").exists());
    let status = call::<Status>(&repo.host, json!({"path": "/copy"})).expect("status");
    assert_eq!((&status["clean"], &status["branch"]), (&json!(true), &json!("main")));
    let other = json!({"from": "/r", "path": "/other", "branch": "other"});
    assert_eq!(call::<Clone>(&repo.host, other).expect("clone")["commit"], json!(id));
    repo.write(".git/objects/info/alternates", "/elsewhere\n");
    let error = call::<Clone>(&repo.host, json!({"from": "/r", "path": "/third"})).expect_err("borrows");
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(!at("third").exists());
    let error = call::<Clone>(&repo.host, json!({"from": "/copy/a", "path": "/third"})).expect_err("a file");
    assert_eq!(error.code, Code::InvalidArgument);
}

/// Commits a tree of these entries to the repository, however wrong they are.
fn commit_raw(at: &Path, entries: &[(EntryKind, &str, ObjectId)]) {
    let repository = reopen(at).expect("open");
    let entry = |(kind, name, oid): &(EntryKind, &str, ObjectId)| Entry {
        mode: (*kind).into(),
        filename: (*name).into(),
        oid: *oid,
    };
    let tree = gix::objs::Tree { entries: entries.iter().map(entry).collect() };
    let tree = repository.write_object(&tree).expect("tree").detach();
    let parents: [ObjectId; 0] = [];
    let author = gix::actor::SignatureRef { name: "a".into(), email: "b".into(), time: "0 +0000" };
    let commit = gix::objs::Commit {
        tree,
        parents: parents.into_iter().collect(),
        author: author.to_owned().expect("author"),
        committer: author.to_owned().expect("committer"),
        encoding: None,
        message: "m".into(),
        extra_headers: Vec::new(),
    };
    let commit = repository.write_object(&commit).expect("commit").detach();
    repository.reference("refs/heads/main", commit, PreviousValue::Any, "m").expect("reference");
}

#[test]
fn a_hostile_tree_writes_nothing_but_its_own_files() {
    let repo = Repo::new();
    let at = repo.folder.path().join("r");
    fs::create_dir(repo.folder.path().join("outside")).expect("mkdir");
    let (file, link, folder) = {
        let repository = reopen(&at).expect("open");
        let file = repository.write_blob(b"owned").expect("blob").detach();
        let link = repository.write_blob(b"../outside").expect("blob").detach();
        let entry = Entry { mode: EntryKind::Blob.into(), filename: "x".into(), oid: file };
        let folder = repository.write_object(&gix::objs::Tree { entries: vec![entry] }).expect("tree").detach();
        (file, link, folder)
    };
    for (case, entries) in [
        ("git's folder", vec![(EntryKind::Tree, ".git", folder)]),
        ("git's folder in capitals", vec![(EntryKind::Tree, ".GIT", folder)]),
        ("the folder above", vec![(EntryKind::Tree, "..", folder)]),
        ("a path as a name", vec![(EntryKind::Blob, "../outside/x", file)]),
        ("an absolute name", vec![(EntryKind::Blob, "/x", file)]),
        ("a link and a folder of one name", vec![(EntryKind::Link, "a", link), (EntryKind::Tree, "a", folder)]),
    ] {
        commit_raw(&at, &entries);
        let cloned = call::<Clone>(&repo.host, json!({"from": "/r", "path": "/copy"}));
        let inside = repo.folder.path().join("copy");
        assert!(!inside.join(".git/x").exists() && !inside.join(".GIT/x").exists(), "{case}");
        assert_eq!(fs::read_dir(repo.folder.path().join("outside")).expect("folder").count(), 0, "{case}");
        assert!(!repo.folder.path().join("x").exists(), "{case}");
        // Only the repository and the folder outside are left of what failed.
        let left = fs::read_dir(repo.folder.path()).expect("folder").count();
        assert_eq!((cloned.err().map(|error| error.code), left), (Some(Code::Failed), 2), "{case}");
    }
}
