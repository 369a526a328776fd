//! The service on a socket in a folder, and clients of it.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use aios_api::memory::v1::{Provenance, memory_service_client::MemoryServiceClient};
use aios_core::config::{self, Layer};
use aios_memory::server::{Options, Server};
use aios_policy::Policy;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

/// A policy by which the user of the test is `agent` and may do this.
pub fn policy(agent: &str, capabilities: &str) -> Policy {
    vouching(agent, capabilities, "[]")
}

/// The same for an agent that may speak for others.
pub fn vouching(agent: &str, capabilities: &str, vouches: &str) -> Policy {
    let uid = rustix::process::getuid().as_raw();
    let text = format!("[agents.{agent}]\nuids = [{uid}]\ncapabilities = {capabilities}\nvouches = {vouches}\n");
    Policy::from_layers(&[Layer { path: "policy.toml".into(), text }]).unwrap()
}

/// A service in `folder`, whose only caller may do everything but erase, as the agent `task`.
pub fn options(folder: &Path) -> Options {
    Options {
        memory: config::Memory { socket: socket(folder), ..config::Memory::default() },
        policy: policy("task", r#"["memory:*:**"]"#),
        state: folder.join("state"),
        credentials: None,
        index: None,
        embedder: None,
        tokenizer: None,
    }
}

/// The socket of the service in `folder`.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("grpc.sock")
}

/// The memory's file in `folder`.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("state").join(aios_core::paths::MEMORY)
}

/// A channel to the service in `folder`: a connection of its own.
pub async fn channel(folder: &Path) -> Channel {
    aios_service::dial(&socket(folder)).await.unwrap()
}

pub async fn connect(folder: &Path) -> MemoryServiceClient<Channel> {
    MemoryServiceClient::new(channel(folder).await)
}

/// A service that runs until it is stopped.
pub struct Running {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<()>>,
}

pub async fn start(options: Options) -> Running {
    let server = Server::bind(options).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    Running { stop, serving: tokio::spawn(server.run(async { drop(stopped.await) })) }
}

impl Running {
    /// Ends it in order. Clients have to be gone.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}

pub fn origins(origins: &[&str]) -> Option<Provenance> {
    Some(Provenance { origins: origins.iter().map(|origin| (*origin).to_owned()).collect(), ..Provenance::default() })
}
