//! The process: configuration, log, signals, exit codes.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use aios_core::config::{self, Config, Fleet};
use aios_service::{EXIT_CONFIG, NotifyState, notify};
use anyhow::{Context as _, Result, bail};
use tokio::sync::{mpsc, watch};

use crate::{
    access::{Access, Files},
    board::Board,
    courier,
    session::Session,
    topics::Topics,
};

/// Answers that wait for the tools; one more is refused.
const ANSWERS: usize = 32;

/// What the service needs to know.
pub struct Options {
    access: Option<Access>,
    topics: Topics,
    tools: PathBuf,
}

/// Serves until SIGTERM or SIGINT. `files` are configuration files in place of the system's; later ones win.
pub fn run(files: Vec<PathBuf>) -> ExitCode {
    let read = || -> Result<(Config, Options)> {
        let layers = if files.is_empty() { config::system_layers() } else { files };
        let config = config::load(&layers)?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let options = options(&config, credentials.as_deref())?;
        Ok((config, options))
    };
    let (config, options) = match read() {
        Ok(read) => read,
        Err(error) => {
            eprintln!("aios fleet: configuration: {error:#}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    aios_service::start_log(config.log.level);
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(config: &Config, credentials: Option<&Path>) -> Result<Options> {
    let Fleet { broker, ca_file, certificate_file, key_file, keep_alive, .. } = &config.fleet;
    let find = |file: &Option<PathBuf>| -> Result<Option<PathBuf>> {
        match (file, credentials) {
            (Some(file), _) if file.is_absolute() => Ok(Some(file.clone())),
            (Some(file), Some(folder)) => Ok(Some(folder.join(file))),
            (Some(file), None) => {
                bail!("{} is relative, and CREDENTIALS_DIRECTORY is not set: use an absolute path", file.display())
            }
            (None, _) => Ok(None),
        }
    };
    let access = match broker {
        None => None,
        Some(broker) => {
            let files = Files { ca: find(ca_file)?, certificate: find(certificate_file)?, key: find(key_file)? };
            Some(Access::new(broker.clone(), &files, keep_alive.0).context("fleet")?)
        }
    };
    Ok(Options { access, topics: Topics::new(config.device_id()), tools: config.tools.socket.clone() })
}

fn serve(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = aios_service::shutdown()?;
        let Options { access, topics, tools } = options;
        let Some(access) = access else {
            tracing::info!("no broker is configured (fleet.broker): this device is in no fleet");
            notify(&[NotifyState::Ready, NotifyState::Status("in no fleet")]);
            shutdown.await;
            return Ok(());
        };
        let board = watch::Sender::new(Board::new(topics.clone()));
        let (answers, brought) = mpsc::channel(ANSWERS);
        let following = tokio::spawn(courier::follow(tools.clone(), board.clone()));
        let bringing = tokio::spawn(courier::bring(tools, brought, board.clone()));
        let (stop, stopping) = watch::channel(false);
        tracing::info!(broker = %access.broker(), device = topics.device(), "fleet ready");
        // Ready without the broker too: a device has to work where there is no network.
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let session = tokio::spawn(Session { access, topics, board, answers }.run(stopping));
        shutdown.await;
        tracing::info!("fleet stopping");
        notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
        let ended = session.await;
        following.abort();
        bringing.abort();
        ended.context("the connection to the broker")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, credentials: Option<&Path>) -> Result<Options> {
        let layer = config::Layer { path: "aios.toml".into(), text: text.into() };
        options(&config::from_layers(&[layer]).expect(text), credentials)
    }

    #[test]
    fn without_a_broker_there_is_nothing_to_connect_to() {
        let options = read("[fleet]\ndevice-id = \"pump-2\"\n", None).expect("fine");
        assert!(options.access.is_none());
        assert_eq!(options.topics, Topics::new("pump-2"));
        assert!(read("[fleet]\nbroker = \"mqtt://lab\"\n", None).expect("fine").access.is_some());
    }

    #[test]
    fn relative_files_are_credentials() {
        let text = "[fleet]\nbroker = \"mqtts://h\"\nca-file = \"fleet-ca\"\n";
        let error = format!("{:#}", read(text, None).map(drop).expect_err("no credentials"));
        assert!(error.contains("CREDENTIALS_DIRECTORY"), "{error}");
        let error = format!("{:#}", read(text, Some(Path::new("/no/such"))).map(drop).expect_err("no file"));
        assert!(error.contains("/no/such/fleet-ca"), "{error}");
    }
}
