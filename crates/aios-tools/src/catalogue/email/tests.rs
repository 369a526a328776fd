//! A mail server for one conversation.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use serde_json::json;

use super::check::Check;
use crate::{error::Code, host::Host, testing::call};

const CONFIGURATION: &str = "/var/lib/aios/config/secrets/smtp.toml";

fn system(configuration: &str) -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().expect("tempdir");
    let host = Host::below(folder.path());
    let path = host.path(CONFIGURATION);
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(path, configuration).expect("write");
    (folder, host)
}

/// A server that answers a login with `login`, and a system that is configured to use it. The thread returns all lines that
/// the server was sent.
pub fn server(
    encryption: &str,
    credentials: &str,
    login: &'static str,
) -> (tempfile::TempDir, Host, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let from = "box@example.org";
    let configuration = format!(
        "server = \"127.0.0.1\"\nport = {port}\nencryption = \"{encryption}\"\nfrom = \"{from}\"\n{credentials}"
    );
    let (folder, host) = system(&configuration);
    let conversation = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let lines = BufReader::new(stream.try_clone().expect("clone")).lines();
        stream.write_all(b"220 test\r\n").expect("greet");
        let (mut said, mut in_data) = (Vec::new(), false);
        for line in lines {
            let Ok(line) = line else { break };
            let answer = match line.split(' ').next().unwrap_or_default() {
                "." if in_data => {
                    in_data = false;
                    "250 taken"
                }
                _ if in_data => "",
                "EHLO" => "250-test\r\n250 AUTH PLAIN LOGIN",
                "AUTH" => login,
                "DATA" => {
                    in_data = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "250 right",
            };
            let quit = line == "QUIT";
            said.push(line);
            if !answer.is_empty() && stream.write_all(format!("{answer}\r\n").as_bytes()).is_err() || quit {
                break;
            }
        }
        said
    });
    (folder, host, conversation)
}

#[test]
fn a_configuration_that_would_show_the_password_or_can_not_be_is_refused() {
    let code = |configuration: &str| {
        let (_folder, host) = system(configuration);
        call::<Check>(&host, json!({})).expect_err("refused")
    };
    let far = code("server = \"mail.example.org\"\nport = 25\nencryption = \"none\"\nfrom = \"a@b.org\"\n");
    assert_eq!(far.code, Code::FailedPrecondition);
    let half =
        code("server = \"localhost\"\nport = 25\nencryption = \"none\"\nfrom = \"a@b.org\"\npassword = \"hunter2\"\n");
    assert_eq!(half.code, Code::FailedPrecondition);
    let broken = code("server = \"localhost\"\nport = 25\nfrom = \"a@b.org\"\npassword = hunter2\n");
    assert_eq!(broken.code, Code::FailedPrecondition);
    assert!(!broken.message.contains("hunter2"), "{broken}");
    let folder = tempfile::tempdir().expect("tempdir");
    let none = call::<Check>(&Host::below(folder.path()), json!({})).expect_err("none");
    assert!(none.code == Code::FailedPrecondition && none.message.contains("smtp.toml"), "{none}");
}

#[test]
fn a_server_that_is_not_there_or_speaks_no_tls_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    drop(listener);
    let there = format!("server = \"127.0.0.1\"\nport = {port}\nfrom = \"a@b.org\"\n");
    let (_folder, host) = system(&there);
    assert_eq!(call::<Check>(&host, json!({})).map_err(|error| error.code), Err(Code::Unavailable));
    let (_folder, host, conversation) = server("starttls", "user = \"box\"\npassword = \"secret\"\n", "235 welcome");
    assert_eq!(call::<Check>(&host, json!({})).map_err(|error| error.code), Err(Code::FailedPrecondition));
    let said = conversation.join().expect("server");
    assert!(said.iter().all(|line| !line.starts_with("AUTH")), "{said:?}");
}
