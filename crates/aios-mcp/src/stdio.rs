//! Over standard input and output, for a client that starts this as a process.

use std::time::Duration;

use rmcp::{ServiceExt as _, service::ServerInitializeError, transport::async_rw::AsyncRwTransport};
use tokio::task::JoinError;

use crate::{Conversation, Server, http::BODY_MAX};

/// Time for taking back what the client left on its way.
const TAKE_BACK: Duration = Duration::from_secs(3);

/// Why a conversation over standard input and output ended.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// It never began.
    #[error("the client did not begin as the protocol says: {0}")]
    Handshake(Box<ServerInitializeError>),
    /// It broke off.
    #[error("the conversation broke off: {0}")]
    Broken(JoinError),
}

/// Serves one client until it closes standard input, or until `stop` completes. Whatever else the process prints has to go
/// to standard error.
pub async fn serve(conversation: Conversation, stop: impl Future<Output = ()>) -> Result<(), StdioError> {
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    // A longer line is dropped, and the client is told.
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(BODY_MAX);
    let server = Server::of(conversation);
    tokio::pin!(stop);
    let serving = tokio::select! {
        serving = server.clone().serve(transport) => serving,
        () = &mut stop => return Ok(()),
    };
    let serving = match serving {
        Ok(serving) => serving,
        // It was started, and ended before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(StdioError::Handshake(Box::new(error))),
    };
    let cancel = serving.cancellation_token();
    let ended = tokio::select! {
        ended = serving.waiting() => ended.map(drop).map_err(StdioError::Broken),
        () = &mut stop => {
            cancel.cancel();
            Ok(())
        }
    };
    server.idle(TAKE_BACK).await;
    ended
}
