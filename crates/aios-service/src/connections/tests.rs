#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::SocketAddr;

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
};

use super::*;

/// Times that no test lives to see.
const LIMITS: Limits = Limits { connections: 8, header: Duration::from_secs(3600), send: Duration::from_secs(3600) };

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

async fn served(router: Router, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    Served { address, stop, ended: tokio::spawn(serve(listener, router, limits, stopping)) }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

fn greeting() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// Asks in a connection that stays open, and reads the answer.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.unwrap();
    heard(stream, "hello").await;
}

/// Reads up to the end of `body`, but not to the end of the connection.
async fn heard(stream: &mut TcpStream, body: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(body.as_bytes()) {
        let length = stream.read_buf(&mut bytes).await.unwrap();
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads until the server has closed the connection. A reset is an end, too.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|length| length > 0) {}
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_whole_header_is_disconnected() {
    let header = Duration::from_secs(30);
    let server = served(greeting(), Limits { connections: 3, header, ..LIMITS }).await;
    let [mut silent, mut half, mut slow] = [server.connect().await, server.connect().await, server.connect().await];
    half.write_all(&REQUEST[..20]).await.unwrap();
    slow.write_all(&REQUEST[..20]).await.unwrap();
    // The time is that of the whole header; a byte now and then does not prolong it.
    let mut bytes = 0;
    while slow.write_all(b"x").await.is_ok() {
        bytes += 1;
        assert!(bytes < 100, "the slow client is still connected");
        tokio::time::sleep(header / 3).await;
    }
    for stream in [&mut silent, &mut half] {
        let heard = to_the_end(stream).await;
        assert!(!heard.contains("200"), "{heard}");
    }
    // All three places are free again.
    ask(&mut server.connect().await).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let server = served(greeting(), Limits { connections: 2, ..LIMITS }).await;
    let [mut first, mut second] = [server.connect().await, server.connect().await];
    ask(&mut first).await;
    ask(&mut second).await;
    let mut third = server.connect().await;
    third.write_all(REQUEST).await.unwrap();
    for _ in 0..50 {
        ask(&mut first).await;
        let nothing = third.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "the others are still open");
    }
    drop(second);
    heard(&mut third, "hello").await;
    ask(&mut first).await;
}

#[tokio::test]
async fn stopping_lets_busy_connections_finish_and_takes_no_further_ones() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes_on) = (begun.clone(), go_on.clone());
    let slow = async move || {
        begins.notify_one();
        goes_on.notified().await;
        "at last"
    };
    let server = served(greeting().route("/slow", get(slow)), LIMITS).await;
    let [mut idle, mut busy] = [server.connect().await, server.connect().await];
    ask(&mut idle).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    begun.notified().await;

    server.stop.send(true).unwrap();
    assert_eq!(to_the_end(&mut idle).await, "", "a connection without a request is closed");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.ended.is_finished(), "a request is at work");
    go_on.notify_one();
    let answer = to_the_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("at last"), "{answer}");
    server.ended.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_one_who_could_say_stop_stops() {
    let Served { stop, ended, .. } = served(greeting(), LIMITS).await;
    drop(stop);
    ended.await.unwrap();
}

#[tokio::test]
async fn headers_that_are_too_many_are_refused() {
    let server = served(greeting(), LIMITS).await;
    let request = |others: usize| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(others));
    let mut stream = server.connect().await;
    stream.write_all(request(MAX_HEADERS).as_bytes()).await.unwrap();
    let refused = to_the_end(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    let mut stream = server.connect().await;
    stream.write_all(request(MAX_HEADERS - 1).as_bytes()).await.unwrap();
    heard(&mut stream, "hello").await;
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let server = served(greeting(), LIMITS).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\na: ").await.unwrap();
    // Piece by piece, so that nothing is left unread that would make a reset of the connection's end.
    let mut sent = 0;
    while stream.write_all(&[b'b'; 64]).await.is_ok() && sent < 2 * MAX_HEADER_BYTES {
        sent += 64;
        tokio::task::yield_now().await;
    }
    let refused = to_the_end(&mut stream).await;
    assert!(!refused.contains("200"), "{refused}");
    ask(&mut server.connect().await).await;
}

#[tokio::test]
async fn every_time_to_send_is_one_that_the_kernel_takes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    for (send, millis) in [(Duration::from_secs(60), 60_000), (Duration::ZERO, 1), (Duration::MAX, MAX_SEND_MS)] {
        prepare(&stream, send).unwrap();
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap(), millis);
    }
    assert!(stream.nodelay().unwrap());
}
