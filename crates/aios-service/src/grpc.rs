//! A gRPC service on a Unix socket, with health and reflection beside it.

use std::convert::Infallible;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    server::NamedService,
    transport::Server,
};
use tonic_health::{
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};
use tower::Service;

/// What tells and answers for the health of `service`, which is serving. It is passed for its type, which carries its name.
pub async fn healthy<S: NamedService>(_: &S) -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, server) = health_reporter();
    reporter.set_serving::<S>().await;
    (reporter, server)
}

/// Serves until `stop` completes and the running calls have ended. `server` has the limits of a connection, `descriptors` is
/// what reflection tells of the service (an encoded `FileDescriptorSet`).
pub async fn serve_grpc<S>(
    mut server: Server,
    listener: UnixListener,
    service: S,
    health: HealthServer<impl Health>,
    descriptors: &[u8],
    stop: impl Future<Output = ()>,
) -> Result<(), String>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>,
    S: NamedService + Clone + Send + Sync + 'static,
{
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| error.to_string())?;
    server
        .add_service(service)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await
        .map_err(|error| error.to_string())
}
