//! The process around the service: configuration, log, signals, exit codes.

use std::{path::PathBuf, process::ExitCode};

use aios_core::config::{self, Config, ConfigError};
use aios_policy::policy::{DEVICE_POLICY, IMAGE_POLICY};
use aios_service::EXIT_CONFIG;
use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::server::{Options, Server};

/// Threads for the protocol. Calls have their own.
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
    /// Folder in place of the device's keys.
    pub keys: Option<PathBuf>,
    /// Go without limits on memory and processes where the machine has no control groups to give. For tests.
    pub without_groups: bool,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(files: Files) -> ExitCode {
    let (config, options) = match options(files) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("aios tools: configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    aios_service::start_log(config.log.level);
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios tools: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(files: Files) -> Result<(Config, Options), ConfigError> {
    let or = |given: Vec<PathBuf>, system: Vec<PathBuf>| if given.is_empty() { system } else { given };
    let config = config::load(&or(files.config, config::system_layers()))?;
    let policy = or(files.policy, vec![IMAGE_POLICY.into(), DEVICE_POLICY.into()]);
    let policy = aios_policy::Policy::from_layers(&config::read(&policy)?)?;
    let options = Options {
        tools: config.tools.clone(),
        device: config.device_id().to_owned(),
        policy,
        state: files.state.unwrap_or_else(|| aios_core::paths::TOOLS_STATE.into()),
        keys: files.keys.unwrap_or_else(|| aios_core::paths::KEYS.into()),
        // A container may have no control groups to give, and is no device.
        without_groups: files.without_groups || std::env::var_os(aios_core::paths::CONTAINER_VARIABLE).is_some(),
    };
    Ok((config, options))
}

/// What is in memory stays there: a crash leaves no copy of it, not through a program that takes dumps either, and other
/// processes of the same user can't look.
fn hide_memory() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("refuse dumps of memory")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("refuse dumps of memory")
}

fn serve(options: Options) -> anyhow::Result<()> {
    hide_memory()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(PROTOCOL_THREADS).enable_all().build()?;
    let served = runtime.block_on(async {
        let shutdown = aios_service::shutdown()?;
        let server = Server::bind(options).await?;
        server.run(shutdown).await
    });
    // A call that waits for approval ends with the process; nobody has said yes.
    runtime.shutdown_background();
    served
}
