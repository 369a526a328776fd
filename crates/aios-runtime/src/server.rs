//! The life of the process: bind, load, serve, drain.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aios_api::runtime::v1::FILE_DESCRIPTOR_SET;
use aios_core::{config, paths};
use aios_models::trust::Trust;
use aios_service::{
    NotifyState, OwnedSocket,
    connections::{self, Limits},
    healthy, notify,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    embedding::Embedder,
    grpc,
    inference::Inference,
    kept::Place,
    model::{LoadOptions, LoadedModel},
    openai::{self, BodyLimits, Token, TokenError},
    registry::{Loader, Registry, RegistryError, Settings, budget},
    scheduler::Scheduler,
};

/// Time for running requests to end before they are cancelled.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Time for connections to deliver what is left after that.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Owner and group may connect to the gRPC socket.
const SOCKET_MODE: u32 = 0o660;

/// Longest time between two looks for idle models.
const IDLE_CHECK: Duration = Duration::from_secs(60);

/// Time between two looks for beginnings of prompts that were kept for long enough.
const KEPT_CHECK: Duration = Duration::from_secs(600);

/// Calls at once on one gRPC connection; all that is on the way to the queue costs memory.
const MAX_STREAMS: u32 = 256;

/// Everything the server needs to know.
pub struct Options {
    /// The section of the configuration.
    pub runtime: config::Runtime,
    /// The section about models.
    pub models: config::Models,
    /// Directory that keeps what this process learns, until the next one.
    pub state: Option<PathBuf>,
    /// Directory below which a relative `token-file` lies.
    pub credentials: Option<PathBuf>,
    /// Makes models of files.
    pub loader: Loader,
    /// How long clients may dawdle.
    pub timeouts: Timeouts,
}

/// How long clients may dawdle. No key of the configuration: docs/api.md promises these times.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Time to send a request's headers, counted from the end of the request before.
    pub header: Duration,
    /// Time to send a request's body.
    pub body: Duration,
    /// Time after which an HTTP client that acknowledges nothing, or takes nothing, loses its connection.
    pub send: Duration,
    /// Longest wait of a slot for a client that takes nothing of its answer.
    pub receiver: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let [header, body, receiver] = [Duration::from_secs(30); 3];
        Timeouts { header, body, send: Duration::from_secs(60), receiver }
    }
}

/// A server whose addresses are taken. Clients that connect wait until it runs.
pub struct Server {
    runtime: config::Runtime,
    trust: Trust,
    kept: Option<Place>,
    token: Option<Token>,
    loader: Loader,
    timeouts: Timeouts,
    http: TcpListener,
    address: SocketAddr,
    grpc: UnixListener,
    socket: OwnedSocket,
}

/// Why the server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration can't be used.
    #[error("{key}: {reason}")]
    Config {
        /// Key at fault.
        key: &'static str,
        /// What is wrong, and what would do.
        reason: String,
    },
    /// The HTTP address could not be taken.
    #[error("listen on {address} (runtime.http.listen): {source}")]
    Http {
        /// Address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The Unix socket could not be taken.
    #[error("listen on {} (runtime.grpc.socket): {reason}", path.display())]
    Socket {
        /// Path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The default model could not be loaded.
    #[error("default model (runtime.default-model): {0}")]
    Model(#[from] RegistryError),
    /// The worker threads could not be started.
    #[error("start the worker threads: {0}")]
    Workers(io::Error),
    /// A server ended by itself.
    #[error("gRPC server: {0}")]
    Grpc(String),
}

/// Loads GGUF files.
pub fn gguf_loader() -> Loader {
    Box::new(|id, path, options| Ok(LoadedModel::load(id, path, options)?))
}

impl Server {
    /// Checks the options and takes both addresses.
    pub async fn bind(options: Options) -> Result<Server, ServeError> {
        let Options { runtime, models, state, credentials, loader, timeouts } = options;
        let token = token(&runtime.http, credentials.as_deref())?;
        let failed = |source| ServeError::Http { address: runtime.http.listen, source };
        let http = TcpListener::bind(runtime.http.listen).await.map_err(failed)?;
        let address = http.local_addr().map_err(failed)?;
        let (grpc, socket) = aios_service::bind(&runtime.grpc.socket, SOCKET_MODE)
            .map_err(|reason| ServeError::Socket { path: runtime.grpc.socket.clone(), reason })?;
        let trust = trust(models, state.as_deref());
        let kept = state.map(|state| Place {
            directory: state.join(paths::PREFIXES),
            bytes: runtime.prefix_cache_disk.0,
            age: runtime.prefix_cache_retention.0,
        });
        Ok(Server { runtime, trust, kept, token, loader, timeouts, http, address, grpc, socket })
    }

    /// The HTTP address, with the port that the system chose where 0 was configured.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loads the default model, serves until `shutdown` completes, and drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        tokio::pin!(shutdown);
        let _kept = self.kept.clone().map(|place| AbortOnDrop::new(sweep(place)));
        let place = self.kept.filter(|place| place.bytes > 0);
        let inference = Arc::new(inference(&self.runtime, self.trust, self.loader, place, self.timeouts.receiver)?);
        if !self.runtime.default_model.is_empty() {
            notify(&[NotifyState::Status("loading the default model")]);
            tokio::select! {
                loaded = inference.registry.load(&self.runtime.default_model) => drop(loaded?),
                () = &mut shutdown => return Ok(()),
            }
        }

        let _idle = AbortOnDrop::new(unload_idle(inference.registry.clone(), self.runtime.idle_unload.0));
        let max_body = usize::try_from(self.runtime.http.max_body.0).unwrap_or(usize::MAX);
        let (stop, stopping) = watch::channel(false);
        let body = BodyLimits { size: max_body, time: self.timeouts.body };
        let router = openai::router(inference.clone(), self.token, body);
        let Timeouts { header, send, .. } = self.timeouts;
        let limits = Limits { connections: self.runtime.http.max_connections, header, send };
        let http = connections::serve(self.http, router, limits, stopping.clone());
        let mut http = tokio::spawn(http);
        let mut grpc = tokio::spawn(serve_grpc(self.grpc, inference.clone(), max_body, stopping));

        tracing::info!(http = %self.address, grpc = %self.socket.path().display(), "runtime ready");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut grpc => Err(ServeError::Grpc(format!("ended early: {ended:?}"))),
        };

        tracing::info!("runtime stopping");
        notify(&[NotifyState::Stopping, NotifyState::Status("finishing requests")]);
        let _ = stop.send(true);
        inference.embedder.close();
        inference.scheduler.drain(DRAIN_GRACE).await;
        if timeout(CLOSE_GRACE, async { (&mut http).await.and((&mut grpc).await) }).await.is_err() {
            tracing::warn!("connections cut at shutdown");
        }
        http.abort();
        grpc.abort();
        tracing::info!("runtime stopped");
        ended
    }
}

/// Unloads models that were idle for `limit`; never, where that is zero.
async fn unload_idle(registry: Arc<Registry>, limit: Duration) {
    if limit.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep((limit / 4).clamp(Duration::from_millis(50), IDLE_CHECK)).await;
        registry.unload_idle(limit).await;
    }
}

/// Deletes what was kept of prompts for long enough, or is more than there may be.
async fn sweep(place: Place) {
    loop {
        let look = place.clone();
        let _ = tokio::task::spawn_blocking(move || look.sweep()).await;
        tokio::time::sleep(KEPT_CHECK).await;
    }
}

/// A task that ends with this.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        AbortOnDrop(tokio::spawn(work))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn inference(
    runtime: &config::Runtime,
    trust: Trust,
    loader: Loader,
    kept: Option<Place>,
    receiver_timeout: Duration,
) -> Result<Inference, ServeError> {
    let default = Some(runtime.default_model.clone()).filter(|id| !id.is_empty());
    let prefix_cache = usize::try_from(runtime.prefix_cache.0).unwrap_or(usize::MAX);
    let options = LoadOptions { prefix_cache, ..LoadOptions::new(runtime.context) };
    let budget = Some(runtime.memory_budget.0).filter(|&bytes| bytes > 0).or_else(budget::automatic);
    let (dirs, slots) = (runtime.model_dirs.clone(), runtime.slots);
    let embedding = Some(runtime.embedding_model.clone()).filter(|id| !id.is_empty());
    let settings = Settings { dirs, default, embedding, options, loader, trust, slots, budget, kept };
    let registry = Arc::new(Registry::new(settings));
    let scheduler = Scheduler::start(runtime.slots, runtime.queue, receiver_timeout).map_err(ServeError::Workers)?;
    registry.release_sessions_by(scheduler.releaser());
    let embedder = Embedder::new(registry.clone(), runtime.queue);
    Ok(Inference { registry, scheduler, embedder })
}

/// Which models are loaded.
fn trust(models: config::Models, state: Option<&Path>) -> Trust {
    Trust {
        keys: models.keys,
        require_signature: models.require_signature,
        factory: vec![paths::FACTORY_MODELS.into()],
        memory: state.map(|state| state.join("verified-models")),
    }
}

/// The token that requests must carry. The configuration's own check is repeated here, next to the listener it is about.
fn token(http: &config::Http, credentials: Option<&Path>) -> Result<Option<Token>, ServeError> {
    let Some(file) = &http.token_file else {
        if http.listen.ip().is_loopback() {
            return Ok(None);
        }
        let reason = format!("{} can be reached from outside: set runtime.http.token-file as well", http.listen);
        return Err(ServeError::Config { key: "runtime.http.listen", reason });
    };
    let refuse = |reason| ServeError::Config { key: "runtime.http.token-file", reason };
    let path = match credentials {
        _ if file.is_absolute() => file.clone(),
        Some(credentials) => credentials.join(file),
        None => {
            let reason =
                format!("{} is relative, and CREDENTIALS_DIRECTORY is not set: use an absolute path", file.display());
            return Err(refuse(reason));
        }
    };
    Token::read(&path).map(Some).map_err(|error: TokenError| refuse(error.to_string()))
}

async fn serve_grpc(
    listener: UnixListener,
    inference: Arc<Inference>,
    max_message: usize,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), String> {
    let service = grpc::service(inference, max_message);
    let (reporter, health) = healthy(&service).await;
    let stop = async move {
        connections::stopped(&mut stopping).await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    };
    let server = tonic::transport::Server::builder().max_concurrent_streams(MAX_STREAMS);
    aios_service::serve_grpc(server, listener, service, health, FILE_DESCRIPTOR_SET, stop).await
}
