//! A door with one tool behind it.

use std::sync::{Arc, Mutex};

use aios_api::tools::v1::{
    Approval, ApproveRequest, ExecuteRequest, ExecuteResponse, ListApprovalsResponse, ListToolsRequest,
    ListToolsResponse, Refusal, Risk, Tool, execute_response::Outcome,
};
use tokio::sync::Notify;
use tonic::Status;

use crate::{Conversation, Door};

pub fn write_tool() -> Tool {
    Tool {
        name: "fs.write".into(),
        version: 1,
        description: "Writes a file.".into(),
        risk: Risk::Medium.into(),
        idempotent: true,
        reversible: true,
        input_schema: r#"{"type":"object","properties":{"path":{"type":"string"}}}"#.into(),
        output_schema: r#"{"type":"object"}"#.into(),
        origin: "system".into(),
        ..Tool::default()
    }
}

/// Remembers what is asked of it. Calls wait for approval until somebody says no.
#[derive(Default)]
pub struct Waiting {
    pub executed: Mutex<Vec<ExecuteRequest>>,
    pub answered: Mutex<Vec<ApproveRequest>>,
    pub denied: Notify,
    pub ended: Notify,
}

#[tonic::async_trait]
impl Door for Waiting {
    async fn list_tools(&self, _: ListToolsRequest) -> Result<ListToolsResponse, Status> {
        Ok(ListToolsResponse { tools: vec![write_tool()] })
    }

    async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        let call_id = request.call_id.clone();
        self.executed.lock().unwrap().push(request);
        self.denied.notified().await;
        self.ended.notify_one();
        let refusal = Refusal { stage: "approval".into(), message: "said no".into(), ..Refusal::default() };
        Ok(ExecuteResponse { call_id, outcome: Some(Outcome::Refusal(refusal)), ..ExecuteResponse::default() })
    }

    async fn list_approvals(&self) -> Result<ListApprovalsResponse, Status> {
        let waits = |request: &ExecuteRequest| Approval {
            call_id: request.call_id.clone(),
            digest: "the digest".into(),
            reason: "its risk is high".into(),
            remaining_ms: 60_000,
            ..Approval::default()
        };
        let approvals = self.executed.lock().unwrap().iter().map(waits).collect();
        Ok(ListApprovalsResponse { approvals })
    }

    async fn approve(&self, request: ApproveRequest) -> Result<(), Status> {
        self.answered.lock().unwrap().push(request);
        self.denied.notify_one();
        Ok(())
    }
}

pub fn conversation(door: Arc<dyn Door>) -> Conversation {
    Conversation { door, session: "mcp-test".into(), token: String::new() }
}
