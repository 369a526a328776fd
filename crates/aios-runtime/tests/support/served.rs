//! The real server on port 0, around an engine that the test controls.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use aios_core::config;
use aios_runtime::server::{Options, ServeError, Server, Timeouts};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    http::{self, Answer, PATIENCE, answer},
    letters::{self, Control},
    tiny_model,
};

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

/// Starts a server after `change` to its configuration.
pub fn serve_with(change: impl FnOnce(&mut config::Runtime)) -> Served {
    serve_within(Timeouts::default(), change)
}

/// Starts a server with that patience, after `change` to its configuration.
pub fn serve_within(timeouts: Timeouts, change: impl FnOnce(&mut config::Runtime)) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    for id in ["letters", "second"] {
        std::fs::create_dir_all(models.join(id)).unwrap();
        tiny_model::write(&models.join(id).join("model.gguf"));
    }
    let mut runtime =
        config::Runtime { default_model: "letters".into(), model_dirs: vec![models], slots: 1, ..Default::default() };
    runtime.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    runtime.grpc.socket = dir.path().join("grpc.sock");
    change(&mut runtime);
    let socket = runtime.grpc.socket.clone();
    let token = runtime.http.token_file.as_ref().map(|path| std::fs::read_to_string(path).unwrap());

    let control = Arc::new(Control::default());
    let models = config::Models { require_signature: false, ..Default::default() };
    let loader = letters::loader(control.clone());
    let options = Options { runtime, models, state: None, credentials: None, loader, timeouts };
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

    /// Sends a request, with the token, and leaves the answer in the connection.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let token = self.token.as_ref().filter(|_| !http::named(headers, "authorization"));
        let bearer = token.map(|token| format!("Bearer {token}"));
        let bearer = bearer.iter().map(|bearer| ("Authorization", bearer.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(bearer).collect();
        http::send(self.address, method, path, &headers, body)
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
