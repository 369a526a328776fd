//! The gRPC API, `aios.memory.v1`. Its proto is its public description.

pub(crate) mod caller;
mod context;
pub(crate) mod convert;
mod find;

use std::sync::Arc;

use aios_api::memory::v1::{
    AddKnowledgeRequest, AddKnowledgeResponse, AssembleContextRequest, AssembleContextResponse, EraseRequest,
    EraseResponse, FindPatternRequest, FindPatternResponse, GetActiveGoalsRequest, GetActiveGoalsResponse,
    GetAgentStateRequest, GetAgentStateResponse, GetMetricRequest, GetMetricResponse, GetRecentEventsRequest,
    GetRecentEventsResponse, GetSystemSnapshotRequest, GetSystemSnapshotResponse, GetTasksForGoalRequest,
    GetTasksForGoalResponse, PushEventRequest, PushEventResponse, SearchKnowledgeRequest, SearchKnowledgeResponse,
    SemanticSearchRequest, SemanticSearchResponse, StatsRequest, StatsResponse, StoreAgentStateRequest,
    StoreAgentStateResponse, StoreConfigChangeRequest, StoreConfigChangeResponse, StoreDecisionRequest,
    StoreDecisionResponse, StoreGoalRequest, StoreGoalResponse, StoreIncidentRequest, StoreIncidentResponse,
    StorePatternRequest, StorePatternResponse, StoreProcedureRequest, StoreProcedureResponse, StoreTaskRequest,
    StoreTaskResponse, StoreToolCallRequest, StoreToolCallResponse, UpdateGoalRequest, UpdateGoalResponse,
    UpdateMetricRequest, UpdateMetricResponse, UpdatePatternStatsRequest, UpdatePatternStatsResponse, erase_request,
    memory_service_server::{MemoryService, MemoryServiceServer},
};
use aios_policy::Policy;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    assemble::Tokenizer,
    error::StoreError,
    index::Embedder,
    item::{AgentState, Body, Item, Metric},
    kind::Kind,
    limits::{ITEM, RING},
    schema::SCHEMA_NOW,
    store::{Done, Events, GoalUpdate, Selector, Store, View, Write},
};
use caller::{Action, Caller};
use convert::{needed, status, to_wire};

/// Largest request in bytes: an item and what is around it.
const REQUEST: usize = 2 * ITEM;
/// What metrics are called in capabilities.
const METRIC: &str = "metric";

/// Clones are the same service.
#[derive(Clone)]
pub(crate) struct Service {
    pub store: Arc<Store>,
    pub policy: Arc<Policy>,
    /// Makes vectors of queries; without one, words are searched for.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Counts the tokens of contexts; without one, there are none.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
}

/// The service, in its wrapping.
pub(crate) fn service(service: Service) -> MemoryServiceServer<Service> {
    MemoryServiceServer::new(service).max_decoding_message_size(REQUEST).max_encoding_message_size(usize::MAX)
}

/// A limit as a request gives it: what it is where the request gives none, and what it is at most.
fn limit(asked: u32, usual: u32, most: u32) -> usize {
    (if asked == 0 { usual } else { asked.min(most) }) as usize
}

impl Service {
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Caller::of(request, &self.policy)
    }

    /// The caller, if it may do this with items of this kind.
    fn permitted<T>(&self, request: &Request<T>, action: Action, kind: Kind) -> Result<Caller, Status> {
        let caller = self.caller(request)?;
        caller.check(action, kind)?;
        Ok(caller)
    }

    /// Writes, and answers when it is on the disk.
    async fn write(&self, write: Write) -> Result<Done, Status> {
        let (reply, answer) = oneshot::channel();
        // Who asked may have gone meanwhile; what was asked is done all the same.
        self.store.submit(write, Box::new(move |done| drop(reply.send(done))));
        answer.await.unwrap_or(Err(StoreError::Closed)).map_err(status)
    }

    async fn write_item(&self, write: Write) -> Result<Item, Status> {
        match self.write(write).await? {
            Done::Item(item) => Ok(item),
            Done::Written => Err(Status::internal("the store wrote no item")),
        }
    }

    /// Adds an item of what the caller sent, and answers with its id.
    async fn put(
        &self,
        caller: &Caller,
        provenance: Option<aios_api::memory::v1::Provenance>,
        body: Body,
    ) -> Result<u64, Status> {
        let content = convert::content(caller, provenance, body)?;
        Ok(self.write_item(Write::Put(content)).await?.id)
    }

    /// Reads where that keeps nobody else waiting.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        self.work(move |store| store.read(read)).await
    }

    /// Works with the store where that keeps nobody else waiting.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.map_err(|error| Status::internal(format!("the call ended by itself: {error}")))?.map_err(status)
    }
}

fn wire_items(items: Vec<Item>) -> Vec<aios_api::memory::v1::Item> {
    items.into_iter().map(to_wire).collect()
}

#[tonic::async_trait]
impl MemoryService for Service {
    async fn push_event(&self, request: Request<PushEventRequest>) -> Result<Response<PushEventResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Event)?;
        let PushEventRequest { event, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::event(needed(event, "event")?)?).await?;
        Ok(Response::new(PushEventResponse { id }))
    }

    async fn get_recent_events(
        &self,
        request: Request<GetRecentEventsRequest>,
    ) -> Result<Response<GetRecentEventsResponse>, Status> {
        self.permitted(&request, Action::Read, Kind::Event)?;
        let GetRecentEventsRequest { limit: asked, category, severity, before } = request.into_inner();
        let wanted = Events {
            limit: limit(asked, 100, RING as u32),
            category: (!category.is_empty()).then_some(category),
            severity: convert::severity(severity)?,
            before: (before != 0).then_some(before),
        };
        let events = self.read(move |view| view.events(&wanted)).await?;
        Ok(Response::new(GetRecentEventsResponse { events: wire_items(events) }))
    }

    async fn update_metric(
        &self,
        request: Request<UpdateMetricRequest>,
    ) -> Result<Response<UpdateMetricResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.check_named(Action::Write, METRIC)?;
        let UpdateMetricRequest { name, value, unit, provenance } = request.into_inner();
        let provenance = convert::provenance(&caller, provenance)?;
        self.write(Write::Metric(Metric { name, value, unit, updated: 0, provenance })).await?;
        Ok(Response::new(UpdateMetricResponse {}))
    }

    async fn get_metric(&self, request: Request<GetMetricRequest>) -> Result<Response<GetMetricResponse>, Status> {
        self.caller(&request)?.check_named(Action::Read, METRIC)?;
        let name = request.into_inner().name;
        let metric = self.read(move |view| view.metric(&name)).await?;
        Ok(Response::new(GetMetricResponse { metric: Some(convert::metric_to_wire(metric)) }))
    }

    async fn get_system_snapshot(
        &self,
        request: Request<GetSystemSnapshotRequest>,
    ) -> Result<Response<GetSystemSnapshotResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.check_named(Action::Read, METRIC)?;
        caller.check(Action::Read, Kind::Goal)?;
        caller.check(Action::Read, Kind::Event)?;
        let wanted = Events { limit: limit(request.into_inner().events, 20, 1000), ..Events::default() };
        let (metrics, goals, events) =
            self.read(move |view| Ok((view.metrics()?, view.active_goals(1000)?, view.events(&wanted)?))).await?;
        Ok(Response::new(GetSystemSnapshotResponse {
            time_ms: (self.store.options().clock)(),
            metrics: metrics.into_iter().map(convert::metric_to_wire).collect(),
            active_goals: wire_items(goals),
            recent_events: wire_items(events),
        }))
    }

    async fn store_goal(&self, request: Request<StoreGoalRequest>) -> Result<Response<StoreGoalResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Goal)?;
        let StoreGoalRequest { goal, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::goal(needed(goal, "goal")?)?).await?;
        Ok(Response::new(StoreGoalResponse { id }))
    }

    async fn update_goal(&self, request: Request<UpdateGoalRequest>) -> Result<Response<UpdateGoalResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Goal)?;
        let UpdateGoalRequest { id, status, progress, result, priority, provenance } = request.into_inner();
        let origins = convert::origins(&caller, &provenance.unwrap_or_default().origins)?;
        if result.is_some() && origins.is_empty() {
            return Err(convert::status(crate::limits::Invalid::Origins.into()));
        }
        let status = convert::progress_status(status)?;
        let update = GoalUpdate { id, status, progress, priority, result, origins };
        let goal = self.write_item(Write::UpdateGoal(update)).await?;
        Ok(Response::new(UpdateGoalResponse { goal: Some(to_wire(goal)) }))
    }

    async fn get_active_goals(
        &self,
        request: Request<GetActiveGoalsRequest>,
    ) -> Result<Response<GetActiveGoalsResponse>, Status> {
        self.permitted(&request, Action::Read, Kind::Goal)?;
        let most = limit(request.into_inner().limit, 100, 1000);
        let goals = self.read(move |view| view.active_goals(most)).await?;
        Ok(Response::new(GetActiveGoalsResponse { goals: wire_items(goals) }))
    }

    async fn store_task(&self, request: Request<StoreTaskRequest>) -> Result<Response<StoreTaskResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Task)?;
        let StoreTaskRequest { id, task, provenance } = request.into_inner();
        let body = convert::task(needed(task, "task")?)?;
        let content = convert::content(&caller, provenance, body)?;
        let write = if id == 0 { Write::Put(content) } else { Write::ReplaceTask { id, content } };
        let id = self.write_item(write).await?.id;
        Ok(Response::new(StoreTaskResponse { id }))
    }

    async fn get_tasks_for_goal(
        &self,
        request: Request<GetTasksForGoalRequest>,
    ) -> Result<Response<GetTasksForGoalResponse>, Status> {
        self.permitted(&request, Action::Read, Kind::Task)?;
        let goal = request.into_inner().goal;
        let tasks = self.read(move |view| view.of_goal(goal, Kind::Task)).await?;
        Ok(Response::new(GetTasksForGoalResponse { tasks: wire_items(tasks) }))
    }

    async fn store_tool_call(
        &self,
        request: Request<StoreToolCallRequest>,
    ) -> Result<Response<StoreToolCallResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::ToolCall)?;
        let StoreToolCallRequest { tool_call, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::tool_call(needed(tool_call, "tool_call")?)).await?;
        Ok(Response::new(StoreToolCallResponse { id }))
    }

    async fn store_decision(
        &self,
        request: Request<StoreDecisionRequest>,
    ) -> Result<Response<StoreDecisionResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Decision)?;
        let StoreDecisionRequest { decision, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::decision(needed(decision, "decision")?)).await?;
        Ok(Response::new(StoreDecisionResponse { id }))
    }

    async fn store_pattern(
        &self,
        request: Request<StorePatternRequest>,
    ) -> Result<Response<StorePatternResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Pattern)?;
        let StorePatternRequest { pattern, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::pattern(needed(pattern, "pattern")?)).await?;
        Ok(Response::new(StorePatternResponse { id }))
    }

    async fn find_pattern(
        &self,
        request: Request<FindPatternRequest>,
    ) -> Result<Response<FindPatternResponse>, Status> {
        self.permitted(&request, Action::Read, Kind::Pattern)?;
        self.patterns(request.into_inner()).await.map(Response::new)
    }

    async fn update_pattern_stats(
        &self,
        request: Request<UpdatePatternStatsRequest>,
    ) -> Result<Response<UpdatePatternStatsResponse>, Status> {
        self.permitted(&request, Action::Write, Kind::Pattern)?;
        let UpdatePatternStatsRequest { id, success } = request.into_inner();
        let pattern = self.write_item(Write::CountUse { id, success }).await?;
        Ok(Response::new(UpdatePatternStatsResponse { pattern: Some(to_wire(pattern)) }))
    }

    async fn store_agent_state(
        &self,
        request: Request<StoreAgentStateRequest>,
    ) -> Result<Response<StoreAgentStateResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::AgentState)?;
        let StoreAgentStateRequest { key, value, provenance } = request.into_inner();
        let body = Body::AgentState(AgentState { agent: caller.agent.clone(), key, value });
        let id = self.put(&caller, provenance, body).await?;
        Ok(Response::new(StoreAgentStateResponse { id }))
    }

    async fn get_agent_state(
        &self,
        request: Request<GetAgentStateRequest>,
    ) -> Result<Response<GetAgentStateResponse>, Status> {
        let caller = self.permitted(&request, Action::Read, Kind::AgentState)?;
        let GetAgentStateRequest { agent, key } = request.into_inner();
        let agent = if agent.is_empty() { caller.agent } else { agent };
        let state = self.read(move |view| view.agent_state(&agent, &key)).await?;
        Ok(Response::new(GetAgentStateResponse { state: Some(to_wire(state)) }))
    }

    async fn store_procedure(
        &self,
        request: Request<StoreProcedureRequest>,
    ) -> Result<Response<StoreProcedureResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Procedure)?;
        let StoreProcedureRequest { procedure, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::procedure(needed(procedure, "procedure")?)).await?;
        Ok(Response::new(StoreProcedureResponse { id }))
    }

    async fn store_incident(
        &self,
        request: Request<StoreIncidentRequest>,
    ) -> Result<Response<StoreIncidentResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Incident)?;
        let StoreIncidentRequest { incident, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::incident(needed(incident, "incident")?)?).await?;
        Ok(Response::new(StoreIncidentResponse { id }))
    }

    async fn store_config_change(
        &self,
        request: Request<StoreConfigChangeRequest>,
    ) -> Result<Response<StoreConfigChangeResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::ConfigChange)?;
        let StoreConfigChangeRequest { config_change, provenance } = request.into_inner();
        let body = convert::config_change(needed(config_change, "config_change")?);
        let id = self.put(&caller, provenance, body).await?;
        Ok(Response::new(StoreConfigChangeResponse { id }))
    }

    async fn add_knowledge(
        &self,
        request: Request<AddKnowledgeRequest>,
    ) -> Result<Response<AddKnowledgeResponse>, Status> {
        let caller = self.permitted(&request, Action::Write, Kind::Knowledge)?;
        let AddKnowledgeRequest { knowledge, provenance } = request.into_inner();
        let id = self.put(&caller, provenance, convert::knowledge(needed(knowledge, "knowledge")?)).await?;
        Ok(Response::new(AddKnowledgeResponse { id }))
    }

    async fn semantic_search(
        &self,
        request: Request<SemanticSearchRequest>,
    ) -> Result<Response<SemanticSearchResponse>, Status> {
        let caller = self.caller(&request)?;
        let SemanticSearchRequest { query, limit: asked, kinds } = request.into_inner();
        let kinds = find::readable(&caller, &kinds)?;
        let found = self.search(query, limit(asked, 10, 1000), kinds).await?;
        let find::Hits { hits, by, without_vector } = found;
        Ok(Response::new(SemanticSearchResponse { hits, by: by.into(), without_vector }))
    }

    async fn search_knowledge(
        &self,
        request: Request<SearchKnowledgeRequest>,
    ) -> Result<Response<SearchKnowledgeResponse>, Status> {
        self.permitted(&request, Action::Read, Kind::Knowledge)?;
        let SearchKnowledgeRequest { query, limit: asked } = request.into_inner();
        let found = self.search(query, limit(asked, 10, 1000), vec![Kind::Knowledge]).await?;
        let find::Hits { hits, by, without_vector } = found;
        Ok(Response::new(SearchKnowledgeResponse { hits, by: by.into(), without_vector }))
    }

    async fn assemble_context(
        &self,
        request: Request<AssembleContextRequest>,
    ) -> Result<Response<AssembleContextResponse>, Status> {
        let caller = self.caller(&request)?;
        self.context(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn erase(&self, request: Request<EraseRequest>) -> Result<Response<EraseResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.check_erase()?;
        let selector = match needed(request.into_inner().what, "what")? {
            erase_request::What::Agent(agent) => Selector::Agent(agent),
            erase_request::What::Source(source) => Selector::Source(source),
            erase_request::What::All(_) => Selector::All,
        };
        if matches!(&selector, Selector::Agent(name) | Selector::Source(name) if name.is_empty()) {
            return Err(Status::invalid_argument(
                "whose items to erase is empty: name an agent or a source, or say all",
            ));
        }
        let items = self.work(move |store| store.erase(selector)).await?;
        tracing::info!(agent = caller.agent, items, "erased");
        Ok(Response::new(EraseResponse { items }))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        self.caller(&request)?;
        let (state, reason) = convert::state_to_wire(self.store.state());
        let counted = self.read(|view| Ok((view.totals()?, view.metric_count()?, view.unembedded_count()?))).await;
        // What can't be read has no counts, and this call is how somebody learns why.
        let (totals, metrics, without_vector) = counted.unwrap_or_default();
        let file_bytes = self.work(|store| store.file_length()).await?;
        Ok(Response::new(StatsResponse {
            kinds: totals.into_iter().map(convert::total_to_wire).collect(),
            metrics,
            file_bytes,
            schema: SCHEMA_NOW,
            state: state.into(),
            reason,
            without_vector,
            searchable: self.store.options().index.is_some(),
            embeds: self.embeds().await,
        }))
    }
}
