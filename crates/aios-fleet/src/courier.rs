//! The way to the tools: what waits there, and the answers that are brought to them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aios_api::tools::v1::{
    ApproveRequest, SignedAnswer, WatchApprovalsRequest, tools_service_client::ToolsServiceClient,
    watch_approvals_response::Event,
};
use tokio::sync::{mpsc, watch};
use tonic::{Status, transport::Channel};

use crate::board::Board;

/// Largest message that the tools send.
const MESSAGE_MAX: usize = 16 << 20;
/// Time between two attempts to reach the tools.
const AGAIN: Duration = Duration::from_secs(1);

/// An answer on its way to the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The command that brings it.
    pub command_id: String,
    /// The signed note.
    pub note: String,
    /// The public key.
    pub key: String,
}

/// Keeps the board as the tools are, for ever.
pub async fn follow(socket: PathBuf, board: watch::Sender<Board>) {
    let mut reached = true;
    loop {
        let ended = follow_once(&socket, &board, &mut reached).await;
        board.send_modify(Board::unknown);
        if reached {
            tracing::warn!(reason = ended.message(), "tools not reached");
            reached = false;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow_once(socket: &Path, board: &watch::Sender<Board>, reached: &mut bool) -> Status {
    let mut client = match connect(socket).await {
        Ok(client) => client,
        Err(status) => return status,
    };
    let mut events = match client.watch_approvals(WatchApprovalsRequest {}).await {
        Ok(events) => events.into_inner(),
        Err(status) => return status,
    };
    if !*reached {
        tracing::info!("tools reached");
        *reached = true;
    }
    loop {
        match events.message().await {
            Ok(Some(event)) => board.send_modify(|board| match event.event {
                Some(Event::Opened(approval)) => board.opened(&approval, Instant::now()),
                Some(Event::Closed(closed)) => board.closed(&closed.call_id),
                None => {}
            }),
            Ok(None) => return Status::unavailable("they ended"),
            Err(status) => return status,
        }
    }
}

/// Brings answers to the tools, one after the other, for ever.
pub async fn bring(socket: PathBuf, mut answers: mpsc::Receiver<Brought>, board: watch::Sender<Board>) {
    while let Some(Brought { command_id, note, key }) = answers.recv().await {
        let request = ApproveRequest { signed: Some(SignedAnswer { note, key }), ..ApproveRequest::default() };
        let taken = async { connect(&socket).await?.approve(request).await };
        let failed = match taken.await {
            Ok(_) => {
                tracing::info!(command_id, "answer taken");
                None
            }
            Err(status) => {
                tracing::warn!(command_id, reason = status.message(), "answer refused");
                Some(status.message().to_owned())
            }
        };
        board.send_modify(|board| board.answered(&command_id, failed, Instant::now()));
    }
}

async fn connect(socket: &Path) -> Result<ToolsServiceClient<Channel>, Status> {
    let channel = aios_service::dial(socket).await;
    let unreached = |error| Status::unavailable(format!("nobody answers on {}: {error}", socket.display()));
    Ok(ToolsServiceClient::new(channel.map_err(unreached)?).max_decoding_message_size(MESSAGE_MAX))
}
