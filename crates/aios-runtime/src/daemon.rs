//! The process around the server: configuration, log, threads, signals, exit codes.

use std::{env, path::PathBuf, process::ExitCode};

use aios_core::config::{self, Config};
use aios_service::EXIT_CONFIG;

use crate::{
    engine,
    server::{Options, ServeError, Server, Timeouts, gguf_loader},
};

/// Threads for the protocols. They only move bytes; the arithmetic has its own.
const PROTOCOL_THREADS: usize = 2;

/// Serves until SIGTERM or SIGINT. `files` are configuration files in place of the system's.
pub fn run(files: &[PathBuf]) -> ExitCode {
    let files = if files.is_empty() { config::system_layers() } else { files.to_vec() };
    let config = match config::load(&files) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("aios-runtime: configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    aios_service::start_log(config.log.level);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios-runtime: {error:#}");
            let bad_config = matches!(error.downcast_ref(), Some(ServeError::Config { .. }));
            if bad_config {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                eprintln!("aios-runtime: the configuration is from {}", files.join(", "));
            }
            if bad_config { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // Before the first thread: the number of threads is set through the environment.
    engine::use_threads(config.runtime.threads)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(PROTOCOL_THREADS).enable_all().build()?;
    let served = runtime.block_on(async {
        let shutdown = aios_service::shutdown()?;
        let directory = |name: &str| env::var_os(name).map(PathBuf::from);
        let (credentials, state) = (directory("CREDENTIALS_DIRECTORY"), directory("STATE_DIRECTORY"));
        let Config { runtime, models, .. } = config;
        let timeouts = Timeouts::default();
        let options = Options { runtime, models, state, credentials, loader: gguf_loader(), timeouts };
        let server = Server::bind(options).await?;
        anyhow::Ok(server.run(shutdown).await?)
    });
    // A load or a cancelled request that has not noticed yet ends with the process.
    runtime.shutdown_background();
    served
}
