//! Streamable HTTP: one path, a bearer token on every request, nothing kept between requests.
//!
//! Later versions of the protocol have no sessions, and clients of the earlier ones do without where the server offers
//! none. So there is nothing to fill up, to steal or to expire; what conversations have read is kept with their token.

mod front;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aios_service::connections::{self, Limits};
use axum::{Router, middleware};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{Conversation, Server};

/// Where the protocol is spoken.
pub const PATH: &str = "/mcp";

/// Largest message of a client, in bytes: room for a tool's arguments (1 MiB), escaped, and the rest.
pub const BODY_MAX: usize = 4 << 20;

/// What clients may take: 64 connections, a minute for a request's headers, and one for taking of an answer.
const LIMITS: Limits = Limits { connections: 64, header: Duration::from_secs(60), send: Duration::from_secs(60) };

/// Tells whose request it is.
pub trait Authenticate: Send + Sync + 'static {
    /// The conversation that the bearer of this token has; an error says what is wrong with the token.
    fn conversation(&self, token: &str) -> Result<Conversation, String>;
}

/// Serves until `stopping` is true, and then what is at work.
///
/// `names` are the host names, beside loopback's and the address itself, by which clients may reach it.
pub async fn serve(
    listener: TcpListener,
    names: Vec<String>,
    authenticate: Arc<dyn Authenticate>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let config = config(listener.local_addr()?, names);
    let cancel = config.cancellation_token.clone();
    let router = router(config, authenticate);
    let serving = connections::serve(listener, router, LIMITS, stopping.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = connections::stopped(&mut stopping) => {}
    }
    // Calls that wait for approval are taken back; nobody has said yes.
    cancel.cancel();
    serving.await;
    Ok(())
}

/// A web page that points its own host name at this address, or that is open in a browser here, must not get through even
/// if it had a token: its requests carry another host, or an origin.
fn config(address: SocketAddr, names: Vec<String>) -> StreamableHttpServerConfig {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() {
        hosts.push(address.ip().to_string());
    }
    hosts.extend(names);
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts)
        .enforce_origin_validation()
        .with_max_request_body_bytes(BODY_MAX)
}

fn router(config: StreamableHttpServerConfig, authenticate: Arc<dyn Authenticate>) -> Router {
    let server = Server::of_requests();
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    Router::new().route_service(PATH, service).layer(middleware::from_fn_with_state(authenticate, front::check))
}
