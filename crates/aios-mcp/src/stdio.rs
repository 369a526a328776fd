//! Over standard input and output, for a client that starts this as a process.

use std::time::Duration;

use rmcp::{ServiceExt as _, transport::async_rw::AsyncRwTransport};

use crate::{Conversation, Server, http::BODY_MAX};

/// Time for taking back what the client left on its way.
const TAKE_BACK: Duration = Duration::from_secs(3);

/// Why a conversation over standard input and output ended.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// It never began.
    #[error("the client did not begin as the protocol says: {0}")]
    Handshake(Box<rmcp::service::ServerInitializeError>),
    /// It broke off.
    #[error("the conversation broke off: {0}")]
    Broken(tokio::task::JoinError),
}

/// Serves one client until it closes standard input. Whatever else the process prints has to go to standard error.
pub async fn serve(conversation: Conversation) -> Result<(), StdioError> {
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    // A longer line is dropped, and the client is told.
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(BODY_MAX);
    let server = Server::of(conversation);
    let serving = match server.clone().serve(transport).await {
        Ok(serving) => serving,
        // It was started, and ended before it said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(StdioError::Handshake(Box::new(error))),
    };
    let ended = serving.waiting().await.map(drop).map_err(StdioError::Broken);
    server.idle(TAKE_BACK).await;
    ended
}
