//! Who is let in over TCP: whoever carries the token.

use std::{fs, path::Path};

use aios_api::memory::v1::memory_service_server::MemoryServiceServer;
use aios_core::config;
use aios_policy::Policy;
use aios_service::connections::stopped;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};

use crate::grpc::{self, Service, caller::Bearer};

/// Shortest token in bytes.
const TOKEN_MIN: usize = 16;
/// Calls at once on one connection over TCP.
const MAX_STREAMS: u32 = 256;

/// What requests over TCP have to carry, and who they are then.
#[derive(Clone)]
pub(super) struct Token {
    /// Of what the header says; so that comparing takes as long for any wrong one.
    hash: [u8; 32],
    agent: String,
}

impl Token {
    /// The token that the configuration names.
    pub fn read(memory: &config::Memory, policy: &Policy, credentials: Option<&Path>) -> Result<Token> {
        let Some(file) = &memory.token_file else {
            bail!("memory.listen: over TCP nobody says who calls: set memory.token-file as well");
        };
        let agent = memory.token_agent.clone();
        if !policy.agents.contains_key(&agent) {
            bail!("memory.token-agent: {agent:?} is no agent of the policy");
        }
        let path = match credentials {
            _ if file.is_absolute() => file.clone(),
            Some(credentials) => credentials.join(file),
            None => bail!(
                "memory.token-file: {} is relative, and CREDENTIALS_DIRECTORY is not set: use an absolute path",
                file.display()
            ),
        };
        let text = fs::read_to_string(&path).with_context(|| format!("memory.token-file: {}", path.display()))?;
        let token = text.trim();
        if token.len() < TOKEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("memory.token-file: {}: use {TOKEN_MIN} or more visible ASCII characters", path.display());
        }
        Ok(Token { hash: hash(&format!("Bearer {token}")), agent })
    }

    fn admit(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|header| header.to_str().ok());
        if header.map(hash) != Some(self.hash) {
            return Err(Status::unauthenticated("no token, or not the right one: send `authorization: Bearer TOKEN`"));
        }
        request.extensions_mut().insert(Bearer { agent: self.agent.clone() });
        Ok(request)
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Serves TCP: the memory alone, to whoever carries the token.
pub(super) async fn tcp(listener: TcpListener, token: Token, service: Service, mut stopping: watch::Receiver<bool>) {
    let admit = move |request| token.admit(request);
    let service: InterceptedService<MemoryServiceServer<Service>, _> =
        InterceptedService::new(grpc::service(service), admit);
    let served = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped(&mut stopping))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "nobody is served over TCP any more");
    }
}
