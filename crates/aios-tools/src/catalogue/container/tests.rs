//! Conversations with a service that answers as podman does.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixListener,
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};

use super::{images::Images, list::List, logs::Logs, remove::Remove, run::Run, stop::Stop};
use crate::{
    error::Code,
    host::Host,
    testing::{call, inverse},
    tool::{Inverse, Tool},
};

/// Answers one request after the other with `answers` (status line and rest of the answer). The thread returns the requests:
/// first line and body.
fn podman(answers: &[&'static str]) -> (tempfile::TempDir, Host, JoinHandle<Vec<(String, String)>>) {
    let folder = tempfile::tempdir().expect("tempdir");
    let host = Host::below(folder.path());
    fs::create_dir_all(host.path("/run/podman")).expect("folder");
    let listener = UnixListener::bind(host.path("/run/podman/podman.sock")).expect("bind");
    let answers = answers.to_vec();
    let service = thread::spawn(move || {
        let answer = |answer: &str| {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut reader = BufReader::new(stream.try_clone().expect("clone"));
            let mut lines: Vec<String> = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("read");
                if line.trim_end().is_empty() {
                    break;
                }
                lines.push(line.trim_end().to_owned());
            }
            let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: ")).expect("length");
            let mut body = vec![0; length.parse().expect("length")];
            reader.read_exact(&mut body).expect("body");
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).expect("write");
            (lines[0].clone(), String::from_utf8(body).expect("text"))
        };
        answers.into_iter().map(answer).collect()
    });
    (folder, host, service)
}

fn code<T: Tool>(host: &Host, arguments: Value) -> Option<Code> {
    call::<T>(host, arguments).err().map(|error| error.code)
}

#[test]
fn a_container_is_started_without_rights_and_with_limits() {
    let answers = [
        "404 Not Found\r\n\r\n",
        "404 Not Found\r\n\r\n",
        "201 Created\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"Id\":\"0\r\n11\r\n123456789abcdef\"}\r\n0\r\n\r\n",
        "204 No Content\r\n\r\n",
    ];
    let (_folder, host, service) = podman(&answers);
    let arguments =
        json!({"name": "sensor", "image": "localhost/sensor:1", "command": ["/bin/read", "--all"], "memory_mib": 64});
    let undoing = Inverse::Call {
        tool: "container.remove".to_owned(),
        arguments: json!({"name": "sensor", "running_too": true}),
    };
    assert_eq!(inverse::<Run>(&host, &arguments), Ok(undoing));
    assert_eq!(call::<Run>(&host, arguments), Ok(json!({"id": "0123456789ab"})));
    let requests = service.join().expect("service");
    assert_eq!(requests[2].0, "POST /v4.0.0/libpod/containers/create HTTP/1.1");
    assert_eq!(requests[3].0, "POST /v4.0.0/libpod/containers/sensor/start HTTP/1.1");
    let asked: Value = serde_json::from_str(&requests[2].1).expect("JSON");
    let expected = json!({
        "name": "sensor", "image": "localhost/sensor:1", "netns": {"nsmode": "none"}, "cap_drop": ["all"],
        "no_new_privileges": true, "privileged": false, "read_only_filesystem": true,
        "resource_limits": {"memory": {"limit": 64 << 20}, "pids": {"limit": 64}}, "command": ["/bin/read", "--all"],
    });
    assert_eq!(asked, expected);
}

#[test]
fn a_container_that_can_not_be_started_is_not_left_behind() {
    let answers = [
        "404 Not Found\r\n\r\n",
        "201 Created\r\nContent-Length: 11\r\n\r\n{\"Id\":\"01\"}",
        "500 Internal Server Error\r\nContent-Length: 21\r\n\r\n{\"message\":\"no crun\"}",
        "200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ];
    let (_folder, host, service) = podman(&answers);
    let error = call::<Run>(&host, json!({"name": "a", "image": "b"})).expect_err("no crun");
    assert!(error.code == Code::Failed && error.message.contains("(500): no crun"), "{error}");
    assert_eq!(service.join().expect("service")[3].0, "DELETE /v4.0.0/libpod/containers/a?force=true HTTP/1.1");
    let (_folder, host, service) = podman(&["204 No Content\r\n\r\n"]);
    assert_eq!(code::<Run>(&host, json!({"name": "a", "image": "b"})), Some(Code::AlreadyExists));
    service.join().expect("service");
}

#[test]
fn lists_and_logs_are_read() {
    let answers = [
        "200 OK\r\nContent-Length: 87\r\n\r\n[{\"Names\":[\"a\"],\"Image\":\"b\",\"State\":\"exited\",\"ExitCode\":3},{\"Names\":[\"c\"],\"Image\":\"d\"}]",
        "200 OK\r\n\r\n[{\"Id\":\"0123456789abcdef\",\"RepoTags\":[\"localhost/b:1\"],\"Size\":7}]",
        "200 OK\r\n\r\n\u{1}\0\0\0\0\0\0\u{3}one\u{2}\0\0\0\0\0\0\u{3}two",
        "304 Not Modified\r\n\r\n",
        "409 Conflict\r\n\r\n{\"message\":\"it is running\"}",
    ];
    let (_folder, host, service) = podman(&answers);
    let list = call::<List>(&host, json!({"limit": 1})).expect("list");
    assert_eq!(
        list,
        json!({"containers": [{"name": "a", "image": "b", "state": "exited", "exit_code": 3}], "total": 2})
    );
    let images = call::<Images>(&host, json!({})).expect("images");
    assert_eq!(images["images"], json!([{"names": ["localhost/b:1"], "id": "0123456789ab", "size_bytes": 7}]));
    assert_eq!(call::<Logs>(&host, json!({"name": "a"})), Ok(json!({"text": "onetwo", "truncated": false})));
    assert_eq!(call::<Stop>(&host, json!({"name": "a"})), Ok(json!({"changed": false})));
    assert_eq!(code::<Remove>(&host, json!({"name": "a"})), Some(Code::FailedPrecondition));
    service.join().expect("service");
}

#[test]
fn answers_that_are_no_http_are_errors() {
    for answer in [
        "",
        "200 OK",
        "200 OK\r\nContent-Length: x\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "200 OK\r\n\r\nno JSON",
    ] {
        let (_folder, host, service) = podman(&[answer]);
        assert!(call::<List>(&host, json!({})).is_err(), "{answer:?}");
        service.join().expect("service");
    }
}

#[test]
fn names_can_not_lead_elsewhere_and_a_device_without_podman_says_so() {
    let folder = tempfile::tempdir().expect("tempdir");
    let host = Host::below(folder.path());
    for name in ["", "a/../b", "a b", "a?force=true", "a\r\nX: y", "-a", "A", ".."] {
        assert_eq!(code::<Stop>(&host, json!({ "name": name })), Some(Code::InvalidArgument), "{name:?}");
    }
    assert_eq!(code::<Run>(&host, json!({"name": "a", "image": "docker://b/../c"})), Some(Code::InvalidArgument));
    assert_eq!(code::<Stop>(&host, json!({"name": "a"})), Some(Code::NotInstalled));
    assert_eq!(code::<List>(&host, json!({})), Some(Code::NotInstalled));
}
