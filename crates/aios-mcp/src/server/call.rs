//! One call: its wait for approval is reported as progress, and who takes the call back takes the question back.

use std::{convert::Infallible, future, time::Duration};

use aios_api::tools::v1::{Approval, ApproveRequest, ExecuteRequest};
use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolResult, ProgressNotificationParam},
    service::RequestContext,
};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};

use crate::{Conversation, convert};

/// Time between two looks for whether the call waits for a human.
const LOOK: Duration = Duration::from_millis(500);

/// Looks between two reports that it still waits.
const REPORT_EVERY: u32 = 10;

/// A call on its way.
pub struct Calling {
    conversation: Conversation,
    request: ExecuteRequest,
}

impl Calling {
    /// The call of `tool` with these arguments, under a new id.
    pub fn new(conversation: Conversation, tool: String, arguments: String) -> Result<Calling, ErrorData> {
        let mut id = [0; 16];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ErrorData::internal_error(format!("no random number for the call's id: {error}"), None))?;
        let request = ExecuteRequest {
            tool,
            arguments,
            session: conversation.session.clone(),
            token: conversation.token.clone(),
            call_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            ..ExecuteRequest::default()
        };
        Ok(Calling { conversation, request })
    }

    /// Makes the call and tells the client while it waits. A call that is taken back while it waits does not run; one
    /// that runs already runs to its end, and is in the ledger, though nobody reads its answer.
    ///
    /// `place` is held until the call has ended, however it did.
    pub async fn run(
        self,
        context: RequestContext<RoleServer>,
        place: OwnedSemaphorePermit,
    ) -> Result<CallToolResult, ErrorData> {
        // In a task of its own: where the request is dropped, the call is still taken back in order.
        let driven = tokio::spawn(async move {
            let result = self.drive(&context).await;
            drop(place);
            result
        });
        driven
            .await
            .unwrap_or_else(|error| Err(ErrorData::internal_error(format!("the call ended by itself: {error}"), None)))
    }

    async fn drive(&self, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        let answer = self.conversation.door.execute(self.request.clone());
        tokio::pin!(answer);
        tokio::select! {
            answered = &mut answer => match answered {
                Ok(answered) => Ok(convert::answer(answered)),
                Err(status) => convert::status(&status),
            },
            () = context.ct.cancelled() => {
                tokio::select! {
                    _ = &mut answer => {}
                    never = self.take_back() => match never {},
                }
                Err(ErrorData::internal_error("the client took the call back", None))
            }
            never = self.report(context) => match never {},
        }
    }

    /// Reports to a client that wants to know, while the call waits for a human.
    async fn report(&self, context: &RequestContext<RoleServer>) -> Infallible {
        let Some(token) = context.meta.get_progress_token() else { return future::pending().await };
        for look in 0_u32.. {
            sleep(LOOK).await;
            if look % REPORT_EVERY != 0 && look > REPORT_EVERY {
                continue;
            }
            let Some(waiting) = self.waiting().await else { continue };
            let seconds = waiting.remaining_ms / 1000;
            let text =
                format!("waits {seconds} s for approval ({}): aios tool approve {}", waiting.reason, waiting.call_id);
            let progress = ProgressNotificationParam::new(token.clone(), f64::from(look) + 1.0).with_message(text);
            // A client that is gone is seen elsewhere.
            let _ = context.peer.notify_progress(progress).await;
        }
        future::pending().await
    }

    /// Says no to the question that the call waits for, as soon as there is one.
    async fn take_back(&self) -> Infallible {
        loop {
            if let Some(Approval { call_id, digest, .. }) = self.waiting().await {
                let no = ApproveRequest { call_id, digest, approve: false, signed: None };
                if let Err(status) = self.conversation.door.approve(no).await {
                    tracing::warn!(reason = status.message(), "question of a call that was taken back stays");
                }
            }
            sleep(LOOK).await;
        }
    }

    /// The call's question, where it waits for a human.
    async fn waiting(&self) -> Option<Approval> {
        let listed = self.conversation.door.list_approvals().await.ok()?;
        listed.approvals.into_iter().find(|approval| approval.call_id == self.request.call_id)
    }
}
