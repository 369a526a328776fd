//! The way to the tools.

use std::sync::Arc;

use aios_api::tools::v1::{
    ApproveRequest, ExecuteRequest, ExecuteResponse, ListApprovalsRequest, ListApprovalsResponse, ListToolsRequest,
    ListToolsResponse, tools_service_client::ToolsServiceClient,
};
use tonic::{Status, transport::Channel};

/// Largest answer of the service in bytes: a tool's result, or the list of all tools with their schemas.
const ANSWER_MAX: usize = 16 << 20;

/// The tools' service, as it answers one caller. Whoever makes a door has made sure who that is; what the caller may do
/// is decided behind it, at every call.
#[tonic::async_trait]
pub trait Door: Send + Sync + 'static {
    /// The tools of the device.
    async fn list_tools(&self, request: ListToolsRequest) -> Result<ListToolsResponse, Status>;
    /// Calls a tool.
    async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status>;
    /// The calls that wait for a human, as far as the caller sees them.
    async fn list_approvals(&self) -> Result<ListApprovalsResponse, Status>;
    /// Answers one of them.
    async fn approve(&self, request: ApproveRequest) -> Result<(), Status>;
}

/// A door, and what a call through it carries beside its arguments.
#[derive(Clone)]
pub struct Conversation {
    /// The door.
    pub door: Arc<dyn Door>,
    /// What the calls have read counts for all of one session: it taints the arguments of later ones.
    pub session: String,
    /// Narrows what the caller may do; empty: all that it may.
    pub token: String,
}

/// The service behind its socket: the caller is the user of this process.
pub struct GrpcDoor(ToolsServiceClient<Channel>);

impl GrpcDoor {
    /// A door over this connection.
    pub fn new(channel: Channel) -> GrpcDoor {
        GrpcDoor(ToolsServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX))
    }
}

#[tonic::async_trait]
impl Door for GrpcDoor {
    async fn list_tools(&self, request: ListToolsRequest) -> Result<ListToolsResponse, Status> {
        Ok(self.0.clone().list_tools(request).await?.into_inner())
    }

    async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        Ok(self.0.clone().execute(request).await?.into_inner())
    }

    async fn list_approvals(&self) -> Result<ListApprovalsResponse, Status> {
        Ok(self.0.clone().list_approvals(ListApprovalsRequest {}).await?.into_inner())
    }

    async fn approve(&self, request: ApproveRequest) -> Result<(), Status> {
        self.0.clone().approve(request).await.map(drop)
    }
}
