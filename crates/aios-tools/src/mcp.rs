//! Clients of the Model Context Protocol over HTTP: who has a token of this device gets through the same door.

use std::sync::Arc;

use aios_api::tools::v1::{
    ApproveRequest, ExecuteRequest, ExecuteResponse, ListApprovalsRequest, ListApprovalsResponse, ListToolsRequest,
    ListToolsResponse, tools_service_server::ToolsService as _,
};
use aios_mcp::{Conversation, Door, http::Authenticate};
use aios_policy::Token;
use tonic::{Request, Status};

use crate::{grpc::Service, pipeline::Caller};

/// Whoever has a token.
pub struct Bearers(pub Arc<Service>);

/// The service, asked by the bearer of a token.
struct BearerDoor {
    service: Arc<Service>,
    token: Token,
}

impl Authenticate for Bearers {
    fn conversation(&self, token: &str) -> Result<Conversation, String> {
        let token = Token::from_text(token).map_err(|error| error.to_string())?;
        let verified = self.0.pipeline.bearer(&token).map_err(|refusal| refusal.message)?;
        // A narrower token made of this one, or another connection, does not forget what was read with it.
        let root = verified.ids().first().ok_or("the token has no id")?;
        let session = format!("mcp-{root}");
        let door = BearerDoor { service: self.0.clone(), token };
        // The token says who calls, and so it need not come with each call.
        Ok(Conversation { door: Arc::new(door), session, token: String::new() })
    }
}

impl BearerDoor {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Caller::Bearer(self.token.clone()));
        request
    }
}

#[tonic::async_trait]
impl Door for BearerDoor {
    async fn list_tools(&self, request: ListToolsRequest) -> Result<ListToolsResponse, Status> {
        Ok(self.service.list_tools(self.request(request)).await?.into_inner())
    }

    async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        Ok(self.service.execute(self.request(request)).await?.into_inner())
    }

    async fn list_approvals(&self) -> Result<ListApprovalsResponse, Status> {
        Ok(self.service.list_approvals(self.request(ListApprovalsRequest {})).await?.into_inner())
    }

    async fn approve(&self, request: ApproveRequest) -> Result<(), Status> {
        self.service.approve(self.request(request)).await.map(drop)
    }
}
