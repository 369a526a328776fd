//! The client's side of gRPC over Unix sockets.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

/// Connects to the service at `socket`.
pub async fn dial(socket: &Path) -> io::Result<Channel> {
    endpoint().connect_with_connector(connector(socket)).await.map_err(|error| first_cause(&error))
}

/// A channel to the service at `socket` that connects when it is used, each time that it is not connected any more. A call
/// takes no longer than `timeout`. Must be called in the context of an asynchronous executor.
pub fn dial_lazily(socket: &Path, timeout: Duration) -> Channel {
    endpoint().timeout(timeout).connect_with_connector_lazy(connector(socket))
}

/// The address is only a name: the connector goes to the socket.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

fn connector(
    socket: &Path,
) -> impl Service<Uri, Response = TokioIo<UnixStream>, Error = io::Error, Future: Send> + Send + use<> {
    let socket: PathBuf = socket.into();
    tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    })
}

/// What the system said, without the layers around it, which repeat it.
fn first_cause(error: &(dyn Error + 'static)) -> io::Error {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(said) => io::Error::new(said.kind(), said.to_string()),
        None => io::Error::other(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_there_is_an_error_that_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = dial(&folder.path().join("socket")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string().matches("No such file").count(), 1, "{error}");
    }
}
