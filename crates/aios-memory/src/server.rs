//! The life of the service: open the memory, serve, keep it in order, close it.

mod listen;
mod tasks;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aios_api::memory::v1::{FILE_DESCRIPTOR_SET, memory_service_server::MemoryServiceServer};
use aios_core::{config, paths};
use aios_policy::Policy;
use aios_service::{NotifyState, OwnedSocket, connections::stopped, notify, serve_grpc};
use anyhow::{Context as _, Result, anyhow};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    time::timeout,
};
use tonic::transport::Server as GrpcServer;
use tonic_health::server::HealthReporter;

use crate::{
    assemble::Tokenizer,
    grpc::{self, Service},
    index::{Embedder, SharedIndex},
    store::{self, State, Store},
};
use listen::Token;
use tasks::Changes;

/// Anybody may connect: who they are is what the kernel says, and what they may do is what the policy says.
const SOCKET_MODE: u32 = 0o666;
/// Time for running calls to end before they are cut.
const DRAIN: Duration = Duration::from_secs(5);
/// Health's name for writing; reading has the service's own.
pub const HEALTH_OF_WRITES: &str = "aios.memory.v1.writes";

/// Everything the service needs to know.
pub struct Options {
    /// The section of the configuration.
    pub memory: config::Memory,
    /// Who may do what.
    pub policy: Policy,
    /// Folder of the memory's file.
    pub state: PathBuf,
    /// Folder below which a relative `token-file` lies.
    pub credentials: Option<PathBuf>,
    /// What searches; without one, searches are refused.
    pub index: SharedIndex,
    /// What makes vectors; without one, words alone are searched for.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// What counts the tokens of contexts; without one, there are none.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
}

/// A service whose memory is open and whose socket is taken. Clients that connect wait until it runs.
pub struct Server {
    service: Service,
    changes: Changes,
    listener: UnixListener,
    socket: OwnedSocket,
    tcp: Option<(TcpListener, Token)>,
}

impl Server {
    /// Opens the memory and takes the addresses.
    pub async fn bind(options: Options) -> Result<Server> {
        let Options { memory, policy, state, credentials, index, embedder, tokenizer } = options;
        let tcp = match memory.listen {
            Some(address) => {
                let token = Token::read(&memory, &policy, credentials.as_deref())?;
                let bound = TcpListener::bind(address).await;
                Some((bound.with_context(|| format!("listen on {address} (memory.listen)"))?, token))
            }
            None => None,
        };
        let path = state.join(paths::MEMORY);
        let changes = Changes::new();
        let kept = store::Options {
            working_retention: memory.working_retention.0,
            long_term_retention: memory.long_term_retention.0,
            size_max: memory.size_max.0,
            index,
            observer: Some(changes.observer()),
            ..store::Options::default()
        };
        let store = tokio::task::spawn_blocking(move || Store::open(&path, kept)).await??;
        let (listener, socket) = aios_service::bind(&memory.socket, SOCKET_MODE)
            .map_err(|reason| anyhow!("listen on {} (memory.socket): {reason}", memory.socket.display()))?;
        let service = Service { store: Arc::new(store), policy: Arc::new(policy), embedder, tokenizer };
        Ok(Server { service, changes, listener, socket, tcp })
    }

    /// The TCP address, with the port that the system chose where 0 was configured.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The Unix socket.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Serves until `shutdown` completes.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Server { service, changes, listener, socket, tcp } = self;
        let (stop, stopping) = watch::channel(false);
        let (health, health_service) = tonic_health::server::health_reporter();
        let (states, state) = (changes.state(), service.store.state());
        report(&health, &state).await;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(tasks::follow_state(service.store.clone(), states, move |state| told(health.clone(), state)));
        tasks.spawn(tasks::keep_in_order(service.store.clone()));
        if let Some(embedder) = service.embedder.clone().filter(|_| service.store.options().index.is_some()) {
            tasks.spawn(tasks::embed_waiting(service.store.clone(), embedder, changes.content()));
        }
        tasks.spawn(tasks::work_on_index(service.store.clone(), changes.content()));
        if let Some((listener, token)) = tcp {
            tasks.spawn(listen::tcp(listener, token, service.clone(), stopping.clone()));
        }
        let grpc = grpc::service(service.clone());
        let mut serving = tokio::spawn(async move {
            let mut stopping = stopping;
            let stop = stopped(&mut stopping);
            serve_grpc(GrpcServer::builder(), listener, grpc, health_service, FILE_DESCRIPTOR_SET, stop).await
        });
        tracing::info!(socket = %socket.path().display(), "memory ready");
        notify(&[NotifyState::Ready, NotifyState::Status(&status_text(&state))]);
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut serving => Err(anyhow!("gRPC server ended early: {ended:?}")),
        };
        tracing::info!("memory stopping");
        notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
        if timeout(DRAIN, &mut serving).await.is_err() {
            tracing::warn!("calls cut at shutdown");
            serving.abort();
            let _ = serving.await;
        }
        tasks.shutdown().await;
        close(service.store).await?;
        ended
    }
}

/// Writes what is in line and closes the file.
async fn close(store: Arc<Store>) -> Result<()> {
    let close = move || match Arc::into_inner(store) {
        Some(store) => store.close(),
        // A call that was cut holds it; the file is closed when it lets go, or by the end of the process.
        None => Ok(()),
    };
    Ok(tokio::task::spawn_blocking(close).await??)
}

/// Tells health and supervisor of another state of the memory.
async fn told(health: HealthReporter, state: State) {
    report(&health, &state).await;
    notify(&[NotifyState::Status(&status_text(&state))]);
}

async fn report(health: &HealthReporter, state: &State) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let reads = if matches!(state, State::Unreadable(_)) { NotServing } else { Serving };
    let writes = if matches!(state, State::Writable) { Serving } else { NotServing };
    let name = <MemoryServiceServer<grpc::Service> as tonic::server::NamedService>::NAME;
    health.set_service_status("", reads).await;
    health.set_service_status(name, reads).await;
    health.set_service_status(HEALTH_OF_WRITES, writes).await;
}

fn status_text(state: &State) -> String {
    match state {
        State::Writable => "serving".into(),
        State::ReadOnly(error) => format!("only reading: {error}"),
        State::Unreadable(error) => format!("unreadable: {error}"),
    }
}
