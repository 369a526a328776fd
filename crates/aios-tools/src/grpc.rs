//! The gRPC API, `aios.tools.v1`. Its proto is its public description.

pub mod approvals;
mod convert;
mod user;

use std::{sync::Arc, time::Duration};

use aios_api::tools::v1::{
    ApprovalMode, ApproveRequest, ApproveResponse, ExecuteRequest, ExecuteResponse, GetToolRequest, GetToolResponse,
    GrantRequest, GrantResponse, IssueTokenRequest, IssueTokenResponse, ListApprovalsRequest, ListApprovalsResponse,
    ListGrantsRequest, ListGrantsResponse, ListRollbacksRequest, ListRollbacksResponse, ListToolsRequest,
    ListToolsResponse, QueryLedgerRequest, QueryLedgerResponse, RevokeRequest, RevokeResponse, RevokeTokenRequest,
    RevokeTokenResponse, RollbackRequest, RollbackResponse, WatchApprovalsRequest,
    tools_service_server::{ToolsService, ToolsServiceServer},
};
use aios_ledger::{Filter, Order};
use aios_policy::{Capability, GrantId, Grants};
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

use crate::{
    catalogue,
    kept::Kept,
    pipeline::{ARGUMENTS_MAX, Call, Caller, GOAL_MAX, Pipeline},
    recorder::LedgerRecorder,
    tokens::{Tokens, TokensError, Wanted},
};

/// What a caller needs for looking into the ledger.
const READ_LEDGER: &str = "ledger:read:entries";
/// Entries that one request returns when it does not say, and at most.
const ENTRIES: (u32, u32) = (100, 1000);
/// Calls that one request lists when it does not say.
const CALLS: u32 = 50;

/// The service, in its wrapping.
pub fn service(service: Arc<Service>) -> ToolsServiceServer<Service> {
    // Room for arguments and goal, escaped, and the rest.
    ToolsServiceServer::from_arc(service).max_decoding_message_size(2 * (ARGUMENTS_MAX + GOAL_MAX))
}

/// What answers.
pub struct Service {
    /// The one door.
    pub pipeline: Arc<Pipeline>,
    /// The ledger, to look into.
    pub recorder: Arc<LedgerRecorder>,
    /// Where grants are kept.
    pub grants: Kept<Grants>,
    /// The tokens that were made here.
    pub tokens: Arc<Tokens>,
    /// Calls that may be at work.
    pub room: Arc<Semaphore>,
    /// Answers that were refused lately.
    pub refusals: Arc<approvals::Refusals>,
    /// Ends what would go on for ever.
    pub stopping: approvals::Stopping,
}

/// Who is at the other end of the connection; or, where this process has made sure of it by other means, who it says.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    // Nothing that comes over a connection can put one there.
    if let Some(caller) = request.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let uid = peer.ok_or_else(|| Status::unauthenticated("the kernel does not say who calls"))?.uid();
    Ok(Caller::User { uid, name: user::name(uid) })
}

/// The caller of what takes more than a token: a user of this device.
fn user<T>(request: &Request<T>) -> Result<Caller, Status> {
    match caller(request)? {
        user @ Caller::User { .. } => Ok(user),
        Caller::Bearer(_) => Err(Status::permission_denied("a token is for calling tools, and for nothing else")),
    }
}

impl Service {
    /// The agent of the user at the other end.
    fn user<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let user = user(request)?;
        self.pipeline.identify(&user).map_err(|refusal| convert::refusal_status(&refusal))
    }

    /// The agent at the other end, and whether it may approve calls: nobody does by a token.
    fn agent<T>(&self, request: &Request<T>) -> Result<(String, bool), Status> {
        let caller = caller(request)?;
        let agent = self.pipeline.identify(&caller).map_err(|refusal| convert::refusal_status(&refusal))?;
        let approves = matches!(caller, Caller::User { .. }) && self.pipeline.policy().may_approve(&agent);
        Ok((agent, approves))
    }

    /// The agent at the other end, and whether it sees everybody's questions: nobody does by a token.
    fn onlooker<T>(&self, request: &Request<T>) -> Result<(String, bool), Status> {
        let (agent, _) = self.agent(request)?;
        let all = matches!(caller(request)?, Caller::User { .. }) && self.sees_all_approvals(&agent);
        Ok((agent, all))
    }

    /// Does what takes its time where that keeps nobody else waiting.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Pipeline) -> T + Send + 'static) -> Result<T, Status> {
        let full =
            || Status::resource_exhausted("as many calls as allowed are at work (tools.max-calls): try again later");
        let permit = self.room.clone().try_acquire_owned().map_err(|_| full())?;
        let pipeline = self.pipeline.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&pipeline);
            drop(permit);
            done
        });
        done.await.map_err(|error| Status::internal(format!("the call ended by itself: {error}")))
    }
}

#[tonic::async_trait]
impl ToolsService for Service {
    async fn list_tools(&self, request: Request<ListToolsRequest>) -> Result<Response<ListToolsResponse>, Status> {
        let caller = caller(&request)?;
        let ListToolsRequest { namespace, schemas, callable, token } = request.into_inner();
        let mut tools = Vec::new();
        for tool in catalogue::all().filter(|tool| namespace.is_empty() || tool.spec.namespace() == namespace) {
            let could = || self.pipeline.could_call(&caller, &token, tool.spec);
            if !callable || could().map_err(|refusal| convert::refusal_status(&refusal))? {
                tools.push(convert::tool(tool, schemas));
            }
        }
        Ok(Response::new(ListToolsResponse { tools }))
    }

    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        let name = request.into_inner().name;
        let tool = catalogue::find(&name).ok_or_else(|| Status::not_found(format!("there is no tool {name:?}")))?;
        Ok(Response::new(GetToolResponse { tool: Some(convert::tool(tool, true)) }))
    }

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let wait = request.approval() == ApprovalMode::Wait;
        let ExecuteRequest { tool, arguments, session, goal, token, call_id, .. } = request;
        let call = Call { id: call_id, tool, arguments, session, goal, token, wait };
        let answered = self.work(move |pipeline| pipeline.execute(&caller, &call)).await?;
        Ok(Response::new(convert::answered(answered)))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        let caller = user(&request)?;
        let RollbackRequest { call_id, force } = request.into_inner();
        let done = self.work(move |pipeline| pipeline.rollback(&caller, &call_id, force)).await?;
        let done = done.map_err(|error| convert::rollback_status(&error))?;
        Ok(Response::new(RollbackResponse { restored: done.restored, ledger_seq: done.seq }))
    }

    async fn list_rollbacks(
        &self,
        request: Request<ListRollbacksRequest>,
    ) -> Result<Response<ListRollbacksResponse>, Status> {
        let agent = self.user(&request)?;
        let limit = request.into_inner().limit;
        let limit = usize::try_from(if limit == 0 { CALLS } else { limit }).unwrap_or(usize::MAX);
        let everybodys = self.pipeline.policy().may_approve(&agent);
        let listed = self.work(move |pipeline| pipeline.journal().list(usize::MAX)).await?;
        let records = listed.map_err(|error| Status::internal(error.to_string()))?;
        let own = records.into_iter().filter(|record| everybodys || record.agent == agent);
        Ok(Response::new(ListRollbacksResponse { calls: own.take(limit).map(convert::undoable).collect() }))
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        let (agent, all) = self.onlooker(&request)?;
        let open = self.open_approvals(&agent, all);
        Ok(Response::new(ListApprovalsResponse { approvals: open.into_iter().map(convert::approval).collect() }))
    }

    type WatchApprovalsStream = approvals::Events;

    async fn watch_approvals(
        &self,
        request: Request<WatchApprovalsRequest>,
    ) -> Result<Response<approvals::Events>, Status> {
        let (agent, all) = self.onlooker(&request)?;
        Ok(Response::new(self.watch(agent, all)))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        let (agent, approves) = self.agent(&request)?;
        let ApproveRequest { call_id, digest, approve, signed } = request.into_inner();
        if let Some(signed) = signed {
            if !call_id.is_empty() || !digest.is_empty() || approve {
                return Err(Status::invalid_argument("a signed answer says by itself what it answers"));
            }
            self.take_signed(agent, signed).await?;
            return Ok(Response::new(ApproveResponse {}));
        }
        let is_own = |open: &crate::approvals::Open| open.question.call_id == call_id && open.question.agent == agent;
        if !approves && (approve || !self.pipeline.approvals().list().iter().any(is_own)) {
            let text = format!("{agent} may not approve calls: `approvals.approvers` in the policy says who may");
            return Err(Status::permission_denied(text));
        }
        let answered = self.pipeline.approvals().answer(&call_id, &digest, approve, &agent);
        answered.map_err(|error| convert::approval_status(&error))?;
        Ok(Response::new(ApproveResponse {}))
    }

    async fn grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantResponse>, Status> {
        let granter = self.user(&request)?;
        let GrantRequest { agent, capability, lifetime_s } = request.into_inner();
        let capability: Capability =
            capability.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let policy = self.pipeline.policy();
        let duration = match lifetime_s {
            0 => policy.grants.max_duration.0,
            seconds => Duration::from_secs(u64::from(seconds)),
        };
        let granted = self.change_grants(move |grants| {
            let added = grants.add(&policy, &granter, &agent, capability, duration, crate::pipeline::now());
            added.cloned().map_err(|error| convert::grant_status(&error))
        });
        let grant = granted.await?;
        let body =
            json!({ "id": grant.id, "to": grant.subject, "capability": grant.capability, "expires": grant.expires });
        self.recorded("grant", &grant.granted_by, &body).await?;
        Ok(Response::new(GrantResponse { grant: Some(convert::grant(&grant)) }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let revoker = self.user(&request)?;
        let id = request.into_inner().id;
        let number =
            id.parse().map(GrantId).map_err(|_| Status::invalid_argument(format!("{id:?} is no grant's number")))?;
        let (policy, by) = (self.pipeline.policy(), revoker.clone());
        let revoked = self.change_grants(move |grants| {
            grants.revoke(&policy, &by, number).map_err(|error| convert::grant_status(&error))
        });
        let grant = revoked.await?;
        let body = json!({ "id": grant.id, "from": grant.subject, "capability": grant.capability });
        self.recorded("revoke", &revoker, &body).await?;
        Ok(Response::new(RevokeResponse {}))
    }

    async fn list_grants(&self, request: Request<ListGrantsRequest>) -> Result<Response<ListGrantsResponse>, Status> {
        let agent = self.user(&request)?;
        let policy = self.pipeline.policy();
        let (everybodys, now) = (policy.may_approve(&agent), crate::pipeline::now());
        let grants = self.pipeline.grants();
        let in_force = grants.iter().filter(|grant| grant.expires > now);
        let own = in_force.filter(|grant| everybodys || grant.subject == agent || grant.granted_by == agent);
        Ok(Response::new(ListGrantsResponse { grants: own.map(convert::grant).collect() }))
    }

    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let issuer = self.user(&request)?;
        let IssueTokenRequest { agent, capabilities, tools, lifetime_s, sealed } = request.into_inner();
        let parsed: Result<Vec<Capability>, _> = capabilities.iter().map(|text| text.parse()).collect();
        let parsed = parsed.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (policy, now) = (self.pipeline.policy(), crate::pipeline::now());
        let longest = policy.grants.max_duration.0;
        let lifetime = if lifetime_s == 0 { longest } else { Duration::from_secs(u64::from(lifetime_s)) };
        let (subject, not_after) = (agent.clone(), now.after(lifetime));
        let wanted =
            Wanted { issuer: issuer.clone(), subject, capabilities: parsed, tools: tools.clone(), not_after, sealed };
        let book = self.tokens.clone();
        let minted = self.work(move |_| book.mint(&policy, wanted, now)).await?;
        let (token, id) = minted.map_err(|error| convert::tokens_status(&error))?;
        let expires = not_after.to_string();
        let body = json!({
            "id": id.to_string(), "to": agent, "capabilities": capabilities, "tools": tools, "expires": expires,
        });
        self.recorded("token", &issuer, &body).await?;
        Ok(Response::new(IssueTokenResponse { token: token.as_str().to_owned(), id: id.to_string(), expires }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let revoker = self.user(&request)?;
        let id = request.into_inner().id.parse().map_err(|error| convert::tokens_status(&TokensError::Token(error)))?;
        let (policy, by, book) = (self.pipeline.policy(), revoker.clone(), self.tokens.clone());
        let revoke =
            move |pipeline: &Pipeline| book.revoke(&policy, pipeline.verifier(), &by, id, crate::pipeline::now());
        self.work(revoke).await?.map_err(|error| convert::tokens_status(&error))?;
        self.recorded("token-revoke", &revoker, &json!({ "id": id.to_string() })).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn query_ledger(
        &self,
        request: Request<QueryLedgerRequest>,
    ) -> Result<Response<QueryLedgerResponse>, Status> {
        let reader = self.user(&request)?;
        let need: Capability = READ_LEDGER.parse().expect("invariant: a capability");
        if !self.pipeline.grants().hold(&self.pipeline.policy(), &reader, &need, crate::pipeline::now()) {
            let text = format!("{reader} may not read the ledger: it needs {READ_LEDGER}");
            return Err(Status::permission_denied(text));
        }
        let request = request.into_inner();
        let recorder = self.recorder.clone();
        let found = self.work(move |_| entries(&recorder, request)).await?;
        found.map(Response::new).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Service {
    /// Changes the grants: what is kept on disk first counts then.
    async fn change_grants<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Grants) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let file = self.grants.clone();
        self.work(move |pipeline| {
            let mut grants = pipeline.grants();
            let mut changed = grants.clone();
            changed.expire(crate::pipeline::now());
            let done = change(&mut changed)?;
            file.write(&changed).map_err(|error| Status::unavailable(format!("the grants can't be kept: {error}")))?;
            *grants = changed;
            Ok(done)
        })
        .await?
    }

    async fn recorded(&self, kind: &'static str, agent: &str, body: &serde_json::Value) -> Result<u64, Status> {
        let (agent, body) = (agent.to_owned(), body.clone());
        let noted = self.work(move |pipeline| pipeline.note(kind, &agent, &body)).await?;
        noted.map_err(|reason| Status::unavailable(format!("done, but it could not be recorded: {reason}")))
    }
}

fn entries(
    recorder: &LedgerRecorder,
    request: QueryLedgerRequest,
) -> Result<QueryLedgerResponse, aios_ledger::ReadError> {
    let QueryLedgerRequest { from, limit, agent, tool } = request;
    let limit = if limit == 0 { ENTRIES.0 } else { limit.min(ENTRIES.1) };
    let snapshot = recorder.ledger().snapshot()?;
    let named = |name: String| (!name.is_empty()).then_some(name);
    let filter = Filter { agent: named(agent), tool: named(tool), ..Filter::default() };
    let mut response = QueryLedgerResponse { entries: Vec::new(), next: 0 };
    for found in snapshot.select(from..snapshot.size(), Order::OldestFirst, filter)? {
        let record = found?;
        if response.entries.len() >= limit as usize {
            response.next = record.seq;
            break;
        }
        response.entries.extend(snapshot.get(record.seq)?.map(|stored| stored.record));
    }
    Ok(response)
}
