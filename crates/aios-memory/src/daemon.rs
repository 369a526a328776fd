//! The process around the service: configuration, log, signals, exit codes.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use aios_core::config::{self, Config, ConfigError};
use aios_policy::{
    Policy,
    policy::{DEVICE_POLICY, IMAGE_POLICY},
};
use aios_service::EXIT_CONFIG;

use crate::{
    assemble::Tokenizer,
    hybrid::HybridIndex,
    index::Embedder,
    runtime::Runtime,
    server::{Options, Server},
};

/// Threads for the protocol. Reading the file has its own, and writing one.
const PROTOCOL_THREADS: usize = 2;

/// Files in place of the system's; of each kind, later ones win.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Configuration.
    pub config: Vec<PathBuf>,
    /// Policy.
    pub policy: Vec<PathBuf>,
    /// Folder in place of the service's state.
    pub state: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(files: Files) -> ExitCode {
    let (config, policy) = match read(&files) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("aios memory: configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    aios_service::start_log(config.log.level);
    match serve(config, policy, files.state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios memory: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(files: &Files) -> Result<(Config, Policy), ConfigError> {
    let or = |given: &[PathBuf], system: Vec<PathBuf>| if given.is_empty() { system } else { given.to_vec() };
    let config = config::load(&or(&files.config, config::system_layers()))?;
    let layers = config::read(&or(&files.policy, vec![IMAGE_POLICY.into(), DEVICE_POLICY.into()]))?;
    Ok((config, Policy::from_layers(&layers)?))
}

fn serve(config: Config, policy: Policy, state: Option<PathBuf>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(PROTOCOL_THREADS).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = aios_service::shutdown()?;
        let embeds = !config.runtime.embedding_model.is_empty();
        let asked = Arc::new(Runtime::new(&config.runtime.grpc.socket));
        let options = Options {
            memory: config.memory,
            policy,
            state: state.unwrap_or_else(|| aios_core::paths::MEMORY_STATE.into()),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            index: Some(Arc::new(HybridIndex::new(&config.runtime.embedding_model))),
            embedder: embeds.then(|| asked.clone() as Arc<dyn Embedder>),
            tokenizer: Some(asked as Arc<dyn Tokenizer>),
        };
        Server::bind(options).await?.run(shutdown).await
    })
}
