use std::sync::Arc;

use super::{
    testing::{Channel, Server, respond},
    *,
};

fn url(text: &str) -> WebUrl {
    WebUrl::try_from(text.to_owned()).expect("url")
}

fn get(client: &Client, at: &str) -> Result<(u16, Vec<u8>, bool), ToolError> {
    let at = url(at);
    let (last, response) = client.get(&at, "*/*")?;
    let status = response.status().as_u16();
    let (bytes, more) = read(&last, response.into_body(), 1000)?;
    Ok((status, bytes, more))
}

fn local() -> Client {
    Client::new(Reach::Local, Duration::from_secs(20))
}

#[test]
fn a_server_of_this_device_is_reached_only_where_that_was_asked_for() {
    let server = Server::start(|_, to| respond(to, "200 OK", "", b"inside"));
    let public = Client::new(Reach::Public, Duration::from_secs(20));
    // By its address, in other spellings, and by a name that the system knows.
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let error = get(&public, &format!("http://{host}:{port}/")).expect_err(host);
        assert_eq!(error.code, Code::PermissionDenied, "{host}: {error}");
    }
    assert!(server.requests.lock().expect("lock").is_empty());
    assert_eq!(get(&local(), &server.url("/")), Ok((200, b"inside".to_vec(), false)));
}

#[test]
fn redirects_are_followed_on_the_same_server_only() {
    let other = Server::start(|_, to| respond(to, "200 OK", "", b"other"));
    let elsewhere = other.url("/secret");
    let server = Server::start(move |request, to| match request.head.split(' ').nth(1).unwrap_or_default() {
        "/here" => respond(to, "302 Found", "Location: /there\r\n", b""),
        "/there" => respond(to, "200 OK", "", b"there"),
        "/loop" => respond(to, "301 Moved", "Location: /loop\r\n", b""),
        "/file" => respond(to, "307 Moved", "Location: file:///etc/passwd\r\n", b""),
        _ => respond(to, "302 Found", &format!("Location: {elsewhere}\r\n"), b""),
    });
    assert_eq!(get(&local(), &server.url("/here")), Ok((200, b"there".to_vec(), false)));
    for path in ["/away", "/loop", "/file"] {
        assert_eq!(get(&local(), &server.url(path)).expect_err(path).code, Code::FailedPrecondition, "{path}");
    }
    let error = get(&local(), &server.url("/away")).expect_err("away");
    assert!(error.message.contains(&other.url("/secret")), "{error}");
    assert!(other.requests.lock().expect("lock").is_empty());
}

#[test]
fn a_slow_server_and_an_endless_body_have_an_end() {
    let slow = Server::start(|_, to| {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        while to.write_all(b"a").and_then(|()| to.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let hasty = Client::new(Reach::Local, Duration::from_millis(300));
    assert_eq!(get(&hasty, &slow.url("/")).expect_err("slow").code, Code::TimedOut);
    let silent = Server::start(|_, _| std::thread::sleep(Duration::from_secs(60)));
    assert_eq!(get(&hasty, &silent.url("/")).expect_err("silent").code, Code::TimedOut);
    let endless = Server::start(|_, to| {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while to.write_all(b"4\r\naaaa\r\n").is_ok() {}
    });
    assert_eq!(get(&local(), &endless.url("/")), Ok((200, vec![b'a'; 1000], true)));
}

#[test]
fn answers_that_are_none_are_errors() {
    for answer in
        ["", "no http\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "HTTP/1.1 999999\r\n\r\n"]
    {
        let server = Server::start(move |_, to| drop(to.write_all(answer.as_bytes())));
        let error = get(&local(), &server.url("/")).expect_err(answer);
        assert_eq!(error.code, Code::Unavailable, "{answer:?}: {error}");
    }
    let long = Server::start(|_, to| {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\n");
        while to.write_all(b"X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {}
    });
    assert_eq!(get(&local(), &long.url("/")).expect_err("head without end").code, Code::Unavailable);
    // The port is taken, so that nobody else listens there, but on another address.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("address").port();
    assert_eq!(get(&local(), &format!("http://127.0.0.3:{port}/")).expect_err("closed").code, Code::Unavailable);
}

/// A server that proves itself by a certificate for `name`, and a client that trusts just that certificate.
fn with_certificate(name: &str) -> (Server, Client) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("config");
    let config = Arc::new(config);
    let connect = move |stream| {
        let session = rustls::ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(rustls::StreamOwned::new(session, stream)) as Box<dyn Channel>)
    };
    let roots = RootCerts::new_with_certs(&[ureq::tls::Certificate::from_der(made.cert.der()).to_owned()]);
    let client = Client::trusting(Reach::Local, Duration::from_secs(20), roots);
    (Server::over(connect, |_, to| respond(to, "200 OK", "", b"private")), client)
}

#[test]
fn a_server_that_does_not_prove_who_it_is_gets_no_request() {
    let (server, trusting) = with_certificate("localhost");
    let at = format!("https://localhost:{}/", server.address.port());
    assert_eq!(get(&trusting, &at), Ok((200, b"private".to_vec(), false)));
    server.requests.lock().expect("lock").clear();
    // Nobody vouches for it.
    let error = get(&local(), &at).expect_err("unknown issuer");
    assert!(error.code == Code::Unavailable && error.message.contains("does not prove"), "{error}");
    // It is another's.
    let (other, trusting) = with_certificate("example.com");
    let error = get(&trusting, &format!("https://localhost:{}/", other.address.port())).expect_err("other name");
    assert!(error.code == Code::Unavailable && error.message.contains("does not prove"), "{error}");
    // It speaks no TLS.
    let plain = Server::start(|_, to| respond(to, "200 OK", "", b""));
    let error = get(&local(), &format!("https://127.0.0.1:{}/", plain.address.port())).expect_err("no TLS");
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(server.requests.lock().expect("lock").is_empty() && other.requests.lock().expect("lock").is_empty());
}
