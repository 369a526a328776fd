//! A model hub on a port of its own: the parts of its protocol that a pull uses, and the trouble that hubs make.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

pub const COMMIT: &str = "3f68cd45302c7b4b532d933e71d9e6e54b1c7d5e";
pub const REPOSITORY: &str = "owner/tiny-GGUF";
pub const TOKEN: &str = "hf_secret";

/// What the hub is to do, and what it saw.
#[derive(Default)]
pub struct State {
    /// Files of the repository.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The SHA-256 that is told instead of a file's own.
    pub told_hash: Option<String>,
    /// The connection is cut after so many bytes of a file, once for each entry.
    pub cuts: VecDeque<usize>,
    /// After so many bytes of a file nothing more comes, and the connection stays open.
    pub stall: Option<usize>,
    /// Answers to the next requests, with headers.
    pub answers: VecDeque<(u16, &'static str)>,
    /// Requests without the token are refused.
    pub gated: bool,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// Bytes of files that were sent.
    pub served: usize,
    /// Requests: method, path, range, and whether they carried the token.
    pub seen: Vec<(String, String, Option<String>, bool)>,
}

pub struct TestHub {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TestHub {
    pub fn new(files: &[(&str, &[u8])]) -> TestHub {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let [hub, storage] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, stored) = (hub.local_addr().unwrap(), storage.local_addr().unwrap());
        for listener in [hub, storage] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    thread::spawn(move || drop(serve(stream, &state, stored)));
                }
            });
        }
        TestHub { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct Request {
    method: String,
    path: String,
    range: Option<String>,
    token: bool,
    close: bool,
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, range: None, token: false, close: false };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { return Some(request) };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = value == format!("Bearer {TOKEN}"),
            "connection" => request.close = value == "close",
            _ => {}
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, storage: SocketAddr) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let stored = stream.local_addr()? == storage;
    while let Some(request) = read(&mut reader) {
        let mut hub = state.lock().unwrap();
        hub.seen.push((request.method.clone(), request.path.clone(), request.range.clone(), request.token));
        if let Some((status, headers)) = hub.answers.pop_front() {
            respond(&mut stream, status, headers, b"")?;
        } else if stored {
            return blob(stream, hub, &request);
        } else if let Some(revision) = request.path.strip_prefix(&format!("/api/models/{REPOSITORY}/revision/")) {
            match revision.split('?').next() {
                Some("main" | "v1%2E0" | "v1.0" | COMMIT) => respond(&mut stream, 200, "", listing(&hub).as_bytes())?,
                _ => respond(&mut stream, 404, "X-Error-Code: RevisionNotFound\r\n", b"Invalid rev id")?,
            }
        } else if let Some(name) = request.path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/")) {
            resolve(&mut stream, &hub, &request, name, storage)?;
        } else {
            respond(&mut stream, 404, "X-Error-Code: RepoNotFound\r\n", b"Repository not found")?;
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

fn resolve(
    stream: &mut TcpStream,
    hub: &State,
    request: &Request,
    name: &str,
    storage: SocketAddr,
) -> std::io::Result<()> {
    if hub.gated && !request.token {
        return respond(stream, 401, "X-Error-Code: GatedRepo\r\n", b"Access to model is restricted");
    }
    let Some(bytes) = hub.files.get(name) else {
        return respond(stream, 404, "X-Error-Code: EntryNotFound\r\n", b"Entry not found");
    };
    let hash = hub.told_hash.clone().unwrap_or_else(|| sha256(bytes));
    let headers = format!(
        "X-Repo-Commit: {COMMIT}\r\nX-Linked-Size: {}\r\nX-Linked-Etag: \"{hash}\"\r\nLocation: http://{storage}/blob/{name}\r\n",
        bytes.len()
    );
    respond(stream, 302, &headers, b"")
}

/// A file from where it is asked for. The lock is given back before bytes are sent.
fn blob(mut stream: TcpStream, mut hub: MutexGuard<'_, State>, request: &Request) -> std::io::Result<()> {
    let name = request.path.strip_prefix("/blob/").unwrap_or_default();
    let Some(bytes) = hub.files.get(name).cloned() else { return respond(&mut stream, 404, "", b"") };
    let range = request.range.as_ref().filter(|_| !hub.no_ranges);
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if start.is_some_and(|start| start >= bytes.len()) {
        return respond(&mut stream, 416, "", b"");
    }
    let rest = &bytes[start.unwrap_or(0)..];
    let (cut, stall) = (hub.cuts.pop_front(), hub.stall.take());
    let sent = &rest[..cut.or(stall).unwrap_or(rest.len()).min(rest.len())];
    hub.served += sent.len();
    drop(hub);
    let status = match start {
        Some(start) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
            bytes.len() - 1,
            bytes.len()
        ),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    write!(stream, "{status}Content-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
    stream.write_all(sent)?;
    if stall.is_some() {
        thread::sleep(Duration::from_secs(600));
    }
    Ok(())
}

fn listing(hub: &State) -> String {
    let siblings: Vec<_> = hub
        .files
        .iter()
        .map(|(name, bytes)| {
            let hash = hub.told_hash.clone().unwrap_or_else(|| sha256(bytes));
            serde_json::json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": hash, "size": bytes.len()}})
        })
        .collect();
    let tags = ["gguf", "license:apache-2.0", "region:us"];
    serde_json::json!({"id": REPOSITORY, "sha": COMMIT, "gated": false, "siblings": siblings, "tags": tags}).to_string()
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(body)
}
