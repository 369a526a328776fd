//! The real server on port 0, around an engine that the test controls.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aios_core::config;
use aios_runtime::server::{Options, ServeError, Server};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    letters::{self, Control},
    tiny_model,
};

/// Longest wait for something that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. Dropping it shuts it down.
pub struct Served {
    pub control: Arc<Control>,
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub dir: tempfile::TempDir,
    pub token: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The error's `param` and `code`; the object must have exactly the API's four fields.
    pub fn error(&self) -> (Value, Value) {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error object: {}", self.text));
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "message", "param", "type"]);
        assert!(!error["message"].as_str().unwrap().is_empty());
        (error["param"].clone(), error["code"].clone())
    }

    /// The data of a stream's events, which must end with `[DONE]`.
    pub fn chunks(&self) -> Vec<Value> {
        let mut events: Vec<&str> = self.text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{}", self.text);
        events.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }
}

/// Starts a server after `change` to its configuration.
pub fn serve_with(change: impl FnOnce(&mut config::Runtime)) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    for id in ["letters", "second"] {
        std::fs::create_dir_all(models.join(id)).unwrap();
        tiny_model::write(&models.join(id).join("model.gguf"));
    }
    let mut runtime =
        config::Runtime { default_model: "letters".into(), model_dirs: vec![models], ..Default::default() };
    runtime.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    runtime.grpc.socket = dir.path().join("grpc.sock");
    change(&mut runtime);
    let socket = runtime.grpc.socket.clone();
    let token = runtime.http.token_file.as_ref().map(|path| std::fs::read_to_string(path).unwrap());

    let control = Arc::new(Control::default());
    let options = Options { runtime, credentials: None, loader: letters::loader(control.clone()) };
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let server = Server::bind(options).await?;
            tell.send(server.address()).unwrap();
            server.run(async { drop(stopped.await) }).await
        })
    });
    let address = told.recv_timeout(PATIENCE).expect("the server bound its address");
    let served = Served { control, address, socket, dir, token, stop: Some(stop), thread: Some(thread) };
    // Connections wait until the server runs.
    assert_eq!(served.get("/health").json(), json!({"status": "ok"}));
    served
}

/// Starts a server with the default configuration.
pub fn serve() -> Served {
    serve_with(|_| {})
}

impl Served {
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], &body.to_string())
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        answer(self.send(method, path, headers, body))
    }

    /// Sends a request and leaves the answer in the connection.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        let named = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        if !named("host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if let Some(token) = self.token.as_ref().filter(|_| !named("authorization")) {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        stream
    }

    /// Sends a chat request and leaves the answer in the connection.
    pub fn send_chat(&self, stream: bool) -> TcpStream {
        let mut body = chat("hi");
        body["stream"] = json!(stream);
        self.send("POST", "/v1/chat/completions", &[("Content-Type", "application/json")], &body.to_string())
    }

    /// Asks the server to end, without waiting for it.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the server's end.
    pub fn ended(&mut self) -> Result<(), ServeError> {
        self.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.control.release();
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A chat request for the default model.
pub fn chat(text: &str) -> Value {
    json!({"model": "default", "temperature": 0, "messages": [{"role": "user", "content": text}]})
}

/// Reads an answer to its end.
pub fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<_> = lines.filter_map(header).collect();
    let chunked = headers.contains(&("transfer-encoding".to_owned(), "chunked".to_owned()));
    let text = if chunked { unchunk(body) } else { body.to_owned() };
    Answer { status, headers, text }
}

fn unchunk(mut rest: &str) -> String {
    let mut text = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&after[..size]);
        rest = &after[size + 2..];
        if size == 0 {
            return text;
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
