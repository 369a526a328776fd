//! What a client can't do to the others: take all connections, send half of something, take nothing.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http.rs"]
mod http;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/served.rs"]
mod served;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use aios_core::config;
use aios_runtime::server::Timeouts;
use http::{answer, connect, until};
use letters::{ALPHABET, ENDLESS};
use serde_json::json;
use served::{Served, chat, serve_with, serve_within};

/// More text than all buffers of a connection hold: 230 bytes for each token, and the kernel's are 10 MiB at most.
const LONG_CONTEXT: usize = 1 << 16;

/// Asks for a page in a connection that stays open.
fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
    while !heard.ends_with(br#"{"status":"ok"}"#) {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..length]);
    }
}

/// Whether nothing has come yet.
fn is_silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let nothing = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    nothing
}

/// Reads until the server has closed the connection.
fn to_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset is an end, too.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the connection is still open: {error}"),
        _ => String::from_utf8(bytes).unwrap(),
    }
}

#[test]
fn connections_beyond_the_limit_wait_until_one_ends() {
    let server = serve_with(|runtime| runtime.http.max_connections = 1);
    let mut first = connect(server.address);
    ask(&mut first);
    let second = server.send("GET", "/health", &[], "");
    for _ in 0..50 {
        ask(&mut first);
        assert!(is_silent(&second), "the first connection is still open");
    }
    drop(first);
    assert_eq!(answer(second).status, 200);

    let server = serve_with(|runtime| runtime.http.max_connections = 2);
    let mut first = connect(server.address);
    ask(&mut first);
    assert_eq!(server.get("/health").status, 200, "there is room for a second one");
    ask(&mut first);
}

#[test]
fn a_client_that_sends_no_whole_header_is_disconnected() {
    let timeouts = Timeouts { header: Duration::from_secs(2), ..Timeouts::default() };
    let server = serve_within(timeouts, |runtime| runtime.http.max_connections = 4);
    let [mut silent, mut half, mut idle, mut slow] = [(); 4].map(|()| connect(server.address));
    half.write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: ").unwrap();
    ask(&mut idle);
    // The time is that of the whole header; a byte now and then does not prolong it.
    until("the slow client is cut off", || slow.write_all(b"x").is_err());
    for stream in [&mut silent, &mut half, &mut idle] {
        let heard = to_the_end(stream);
        assert!(!heard.contains("200"), "{heard}");
    }
    assert_eq!(server.get("/health").status, 200, "all four places are free again");
}

#[test]
fn a_client_that_sends_no_whole_body_is_told_so_and_disconnected() {
    let timeouts = Timeouts { body: Duration::from_millis(500), ..Timeouts::default() };
    let server = serve_within(timeouts, |runtime| runtime.http.max_connections = 1);
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for begun in ["Content-Length: 1000\r\n\r\n{\"model\":", "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"model\":\r\n"] {
        let mut stream = connect(server.address);
        stream.write_all(format!("{head}{begun}").as_bytes()).unwrap();
        let told = to_the_end(&mut stream);
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        assert!(told.contains("request_timeout") && told.contains("did not arrive within 0.5 s"), "{told}");
        assert_eq!(server.get("/health").status, 200, "its place is free again");
    }
    // The time is that of the whole body.
    let mut slow = connect(server.address);
    slow.write_all(format!("{head}Content-Length: 1000000\r\n\r\n").as_bytes()).unwrap();
    until("the slow client is cut off", || slow.write_all(b" ").is_err());
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.control.forwards(), 0);
}

/// One slot, no queue, and a model with a long breath.
fn serve_one(timeouts: Timeouts, change: impl FnOnce(&mut config::Runtime)) -> Served {
    serve_within(timeouts, |runtime| {
        (runtime.slots, runtime.queue, runtime.context) = (1, 0, LONG_CONTEXT);
        tiny_model::write_for_context(&runtime.model_dirs[0].join("letters/model.gguf"), LONG_CONTEXT);
        change(runtime);
    })
}

/// A client whose answer streams into the void. When this returns, the slot works for it.
fn stall(server: &Served) -> TcpStream {
    let body = json!({
        "model": "default", "prompt": ENDLESS, "temperature": 0, "max_tokens": LONG_CONTEXT, "stream": true
    });
    let stream = server.send("POST", "/v1/completions", &[("Content-Type", "application/json")], &body.to_string());
    until("the engine works", || server.control.forwards() > 0);
    stream
}

fn is_served(server: &Served) -> bool {
    let answer = server.post("/v1/chat/completions", &chat("hi"));
    answer.status == 200 && answer.json()["choices"][0]["message"]["content"] == ALPHABET
}

#[test]
fn a_client_that_takes_nothing_of_its_stream_loses_its_slot() {
    let timeouts = Timeouts { receiver: Duration::from_secs(1), ..Timeouts::default() };
    let server = serve_one(timeouts, |_| {});
    let mut stalled = stall(&server);
    until("the slot is free", || is_served(&server));
    // Its connection is still there, and has the reason at its end.
    let heard = to_the_end(&mut stalled);
    assert!(heard.contains("client_too_slow") && heard.contains("taken for 1 s"), "{}", tail(&heard));
    assert!(!heard.contains("[DONE]"), "{}", tail(&heard));
}

#[test]
fn a_client_that_takes_nothing_of_its_stream_loses_its_connection() {
    // The slot is patient here: that it is free again is owed to the connection's end.
    let timeouts =
        Timeouts { send: Duration::from_secs(1), receiver: Duration::from_secs(3600), ..Timeouts::default() };
    let server = serve_one(timeouts, |runtime| runtime.http.max_connections = 2);
    let mut stalled = stall(&server);
    until("the slot is free", || is_served(&server));
    let heard = to_the_end(&mut stalled);
    assert!(!heard.contains("[DONE]") && !heard.contains("client_too_slow"), "{}", tail(&heard));
}

/// The end of a long text, for a message.
fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(500)..).unwrap_or(text)
}
