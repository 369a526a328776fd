//! What service processes do alike: log, listen on a Unix socket and connect to one, serve gRPC and HTTP connections, tell
//! the supervisor, end when asked to.

pub mod connections;
mod dial;
mod grpc;
mod socket;

use std::io;

use aios_core::config::LogLevel;
pub use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub use dial::{dial, dial_lazily};
pub use grpc::{healthy, serve_grpc};
pub use socket::{OwnedSocket, bind};

/// Exit code of a bad configuration (`EX_USAGE`): starting again won't help.
pub const EXIT_CONFIG: u8 = 64;

/// Completes when the process is asked to end (SIGTERM, SIGINT).
pub fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Logs to standard output, as much as `RUST_LOG` or else `level` says. Whoever captures it adds the time.
pub fn start_log(level: LogLevel) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level.as_str()));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false).without_time().init();
}

/// Tells the supervisor, where there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "supervisor not notified");
    }
}
