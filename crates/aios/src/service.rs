//! Talking to the services of this device.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Runs a conversation with a service to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A connection to the gRPC socket of the unit `unit`, which errors call `what`.
pub async fn connect(socket: &Path, what: &str, unit: &str) -> Result<Channel> {
    let path: PathBuf = socket.into();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is only a name: the connector goes to the socket.
    Endpoint::from_static("http://service")
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("can't reach {what} at {} (see `aios status {unit}`)", socket.display()))
}

/// A refusal in the service's own words.
pub fn refused(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
