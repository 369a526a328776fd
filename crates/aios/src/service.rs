//! Talking to the services of this device.

use std::path::Path;

use anyhow::{Context, Result};
use tonic::{Status, transport::Channel};

/// Runs a conversation with a service to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A connection to the gRPC socket of the unit `unit`, which errors call `what`.
pub async fn connect(socket: &Path, what: &str, unit: &str) -> Result<Channel> {
    let channel = aios_service::dial(socket).await;
    channel.with_context(|| format!("can't reach {what} at {} (see `aios status {unit}`)", socket.display()))
}

/// A refusal in the service's own words.
pub fn refused(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
