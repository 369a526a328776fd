//! The life of the service: open what it keeps, serve, close the ledger.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aios_api::tools::v1::FILE_DESCRIPTOR_SET;
use aios_core::{config, paths};
use aios_keys::seed::Seed;
use aios_ledger::{Ledger, Redactor};
use aios_policy::{Grants, Policy};
use aios_sandbox::{Enforcement, Sandbox};
use aios_service::{NotifyState, OwnedSocket, connections::stopped, healthy, notify, serve_grpc};
use anyhow::{Context as _, Result, anyhow};
use ed25519_dalek::SigningKey;
use serde_json::json;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    time::timeout,
};
use tonic::transport::Server as GrpcServer;

use crate::{
    catalogue::firewall::pending::{Now, Pending},
    confined::Confined,
    error::ToolError,
    grpc,
    host::Host,
    journal::{Journal, Retention},
    kept::Kept,
    mcp::Bearers,
    pipeline::{Parts, Pipeline},
    profile::Blank,
    recorder::LedgerRecorder,
    tokens::Tokens,
    tool::Serial,
};

/// Anybody may connect: who they are is what the kernel says, and what they may do is what the policy says.
const SOCKET_MODE: u32 = 0o666;

/// Time for running calls to end before they are left to the end of the process.
const DRAIN: Duration = Duration::from_secs(5);

/// Time between two looks for what can no longer be rolled back.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Secret that the keys for tokens and redaction are derived from, in the folder of keys.
const SECRET_FILE: &str = "tools.key";

/// What tools keep in the state folder.
const TOOLS_OWN: [&str; 2] = ["baseline", "firewall"];

/// Time between two looks for a firewall that nobody confirmed.
const REVERT_EVERY: Duration = Duration::from_secs(1);

/// Everything the service needs to know.
pub struct Options {
    /// The section of the configuration.
    pub tools: config::Tools,
    /// What the fleet calls this device.
    pub device: String,
    /// Who may do what.
    pub policy: Policy,
    /// Folder that it keeps everything in.
    pub state: PathBuf,
    /// Folder of the device's keys.
    pub keys: PathBuf,
    /// Go without limits on memory and processes where there are no control groups.
    pub without_groups: bool,
}

/// A service whose socket is taken and whose ledger is open.
pub struct Server {
    tools: config::Tools,
    pipeline: Arc<Pipeline>,
    recorder: Arc<LedgerRecorder>,
    grants: Kept<Grants>,
    tokens: Arc<Tokens>,
    listener: UnixListener,
    socket: OwnedSocket,
    mcp: Option<TcpListener>,
}

impl Server {
    /// Opens ledger, journal and sandbox, completes what was interrupted, and takes the socket.
    pub async fn bind(options: Options) -> Result<Server> {
        let Options { tools, device, policy, state, keys, without_groups } = options;
        let folder = |path: &Path, mode| {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path).with_context(|| path.display().to_string())
        };
        folder(&state, 0o700)?;
        let blank = Blank { folder: state.join("empty"), file: state.join("empty-file") };
        folder(&blank.folder, 0o755)?;
        fs::write(&blank.file, "").with_context(|| blank.file.display().to_string())?;
        for kept in TOOLS_OWN {
            folder(&state.join(kept), 0o700)?;
        }
        let secret = Seed::open_or_make(&keys.join(SECRET_FILE))?;
        let signer = aios_ledger::signer(&keys)?;
        let ledger = Ledger::open(&state.join(paths::LEDGER), signer, aios_ledger::Options::default())?;
        let recorder = Arc::new(LedgerRecorder::new(ledger, Redactor::new(&secret)));
        let enforcement = if without_groups { Enforcement::WhereOffered } else { Enforcement::Required };
        let sandbox = Sandbox::start(aios_sandbox::Options { enforcement, ..aios_sandbox::Options::default() })?;
        let journal = Journal::open(state.join("journal"))?;
        journal.clear_unprepared()?;
        let grants: Kept<Grants> = Kept::at(state.join("grants.json"));
        let key = SigningKey::from_bytes(secret.derive("tools/tokens").as_bytes());
        let tokens = Arc::new(Tokens::open(key, Kept::at(state.join("tokens.json")))?);
        let pipeline = Arc::new(Pipeline::new(Parts {
            policy,
            grants: grants.read("grants")?,
            device,
            verifier: tokens.verifier(),
            recorder: recorder.clone(),
            confinement: Arc::new(Confined::new(sandbox, blank)),
            journal,
        }));
        recorder.remember(pipeline.sessions())?;
        let at_work = pipeline.clone();
        tokio::task::spawn_blocking(move || at_work.complete_rollbacks()).await?;
        let (listener, socket) = aios_service::bind(&tools.socket, SOCKET_MODE)
            .map_err(|reason| anyhow!("listen on {} (tools.socket): {reason}", tools.socket.display()))?;
        let mcp = match tools.mcp_listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.with_context(|| format!("listen on {address} (tools.mcp-listen)"))?)
            }
            None => None,
        };
        Ok(Server { tools, pipeline, recorder, grants, tokens, listener, socket, mcp })
    }

    /// Serves until `shutdown` completes.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Server { tools, pipeline, recorder, grants, tokens, listener, socket, mcp } = self;
        let started = json!({ "version": env!("CARGO_PKG_VERSION"), "tools": crate::catalogue::all().count() });
        // A full disk keeps the service from no answer: each call is refused, and told why, until there is room.
        if let Err(reason) = pipeline.note("start", "tools", &started) {
            tracing::error!(reason, "the ledger can't be written: calls are refused until it can");
        }
        let retention = Retention { age: tools.rollback_retention.0, bytes: tools.rollback_size.0 };
        let pruning = tokio::spawn(prune(pipeline.clone(), retention));
        let reverting = tokio::spawn(revert_firewall(pipeline.clone()));
        let (stop, stopping) = watch::channel(false);
        let service = Arc::new(grpc::Service {
            pipeline: pipeline.clone(),
            recorder,
            grants,
            tokens,
            refusals: Arc::default(),
            stopping: stopping.clone(),
            room: Arc::new(tokio::sync::Semaphore::new(tools.max_calls)),
        });
        let mcp = mcp.map(|listener| {
            let bearers = Arc::new(Bearers(service.clone()));
            tokio::spawn(aios_mcp::http::serve(listener, tools.mcp_hosts.clone(), bearers, stopping.clone()))
        });
        let service = grpc::service(service);
        let (_, health) = healthy(&service).await;
        let mut serving = tokio::spawn(async move {
            let mut stopping = stopping;
            let stop = stopped(&mut stopping);
            serve_grpc(GrpcServer::builder(), listener, service, health, FILE_DESCRIPTOR_SET, stop).await
        });
        tracing::info!(socket = %socket.path().display(), tools = crate::catalogue::all().count(), "tools ready");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut serving => Err(anyhow!("gRPC server ended early: {ended:?}")),
        };
        tracing::info!("tools stopping");
        notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
        pruning.abort();
        reverting.abort();
        if timeout(DRAIN, &mut serving).await.is_err() {
            tracing::warn!("calls cut at shutdown");
            serving.abort();
        }
        if let Some(mut mcp) = mcp
            && timeout(DRAIN, &mut mcp).await.is_err()
        {
            tracing::warn!("MCP clients cut at shutdown");
            mcp.abort();
        }
        if let Err(reason) = pipeline.note("stop", "tools", &json!({})) {
            tracing::error!(reason, "end not recorded");
        }
        ended
    }
}

async fn prune(pipeline: Arc<Pipeline>, retention: Retention) {
    loop {
        let at_work = pipeline.clone();
        let pruned = tokio::task::spawn_blocking(move || at_work.journal().prune(retention, SystemTime::now())).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "journal not pruned");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// Puts the firewall back that was changed and not confirmed in time, also where the call, its caller or this service died
/// meanwhile: somebody may have shut themselves out.
async fn revert_firewall(pipeline: Arc<Pipeline>) {
    let mut told = false;
    loop {
        tokio::time::sleep(REVERT_EVERY).await;
        let at_work = pipeline.clone();
        let done = tokio::task::spawn_blocking(move || revert_if_due(&at_work)).await;
        if let Ok(Err(error)) = &done
            && !told
        {
            tracing::error!(%error, "firewall not put back");
        }
        told = matches!(done, Ok(Err(_)));
    }
}

fn revert_if_due(pipeline: &Pipeline) -> Result<(), ToolError> {
    let host = Host::device();
    // A call that begins or confirms a change writes file and table one after the other.
    let _turn = pipeline.turn(Serial::Firewall);
    let Some(pending) = Pending::read(&host)? else { return Ok(()) };
    let now = Now::of(&host)?;
    if !pending.is_due(&now) {
        return Ok(());
    }
    pending.revert(&host, &now)?;
    tracing::warn!("firewall put back: its change was not confirmed in time");
    // A full disk must not keep anybody shut out, so it is recorded afterwards.
    if let Err(reason) = pipeline.note("firewall-revert", "tools", &json!({ "reason": "not confirmed in time" })) {
        tracing::error!(reason, "return of the firewall not recorded");
    }
    Ok(())
}
