//! A server for tests, that answers as it is told, also badly.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A request as it came: its head, and its body as far as `content-length` says.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub head: String,
    pub body: String,
}

/// A server on this machine. Its threads end with the test's process.
pub(crate) struct Server {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

/// Answers a request: writes what it likes to the connection.
pub(crate) trait Answer: Fn(&Request, &mut dyn Write) + Send + Sync + 'static {}

impl<F: Fn(&Request, &mut dyn Write) + Send + Sync + 'static> Answer for F {}

/// What `connect` makes of a TCP connection.
pub(crate) trait Channel: Read + Write {}

impl<C: Read + Write> Channel for C {}

impl Server {
    /// A server of plain HTTP.
    pub(crate) fn start(answer: impl Answer) -> Server {
        Self::over(|stream| Some(Box::new(stream)), answer)
    }

    /// A server over what `connect` makes of connections.
    pub(crate) fn over(
        connect: impl Fn(TcpStream) -> Option<Box<dyn Channel>> + Send + Sync + 'static,
        answer: impl Answer,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, shared) = (requests.clone(), Arc::new((connect, answer)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, shared) = (seen.clone(), shared.clone());
                std::thread::spawn(move || {
                    let Some(channel) = shared.0(stream) else { return };
                    let mut channel = BufReader::new(channel);
                    if let Some(request) = request(&mut channel) {
                        seen.lock().expect("lock").push(request.clone());
                        shared.1(&request, channel.get_mut());
                        let _ = channel.get_mut().flush();
                    }
                });
            }
        });
        Server { address, requests }
    }

    /// Address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn request(channel: &mut BufReader<Box<dyn Channel>>) -> Option<Request> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if channel.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    channel.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Writes an answer with a body.
pub(crate) fn respond(to: &mut dyn Write, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client may have gone away.
    let _ = to.write_all(head.as_bytes()).and_then(|()| to.write_all(body));
}
