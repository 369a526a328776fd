//! The service over its Unix socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/server.rs"]
mod server;

use std::{path::Path, sync::Arc};

use aios_api::memory::v1::{
    AddKnowledgeRequest, Event, FindPatternRequest, GetActiveGoalsRequest, GetAgentStateRequest, GetMetricRequest,
    GetRecentEventsRequest, GetTasksForGoalRequest, Goal, Knowledge, Pattern, Provenance, PushEventRequest, SearchBy,
    SearchKnowledgeRequest, SemanticSearchRequest, StatsRequest, StoreAgentStateRequest, StoreGoalRequest,
    StorePatternRequest, StoreState, StoreTaskRequest, Task, UpdateMetricRequest, UpdatePatternStatsRequest, item,
    memory_service_client::MemoryServiceClient, pattern,
};
use aios_memory::{HybridIndex, server::Options};
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _},
};
use server::*;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

#[tokio::test]
async fn who_writes_is_who_the_kernel_says_and_the_policy_says_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy("web", r#"["memory:*:event"]"#);
    let running = start(Options { policy, ..options(folder.path()) }).await;
    let mut client = connect(folder.path()).await;
    let push = |origin: &str, agent: &str| PushEventRequest {
        event: Some(Event { category: "disk".into(), message: "full".into(), ..Event::default() }),
        provenance: Some(Provenance { agent: agent.into(), source: "df".into(), origins: vec![origin.into()] }),
    };
    let id = client.push_event(push("log", "")).await.unwrap().into_inner().id;
    let events = client.get_recent_events(GetRecentEventsRequest::default()).await.unwrap().into_inner().events;
    let written = Provenance { agent: "web".into(), source: "df".into(), origins: vec!["log".into()] };
    assert_eq!((events.len(), events[0].id, events[0].provenance.clone()), (1, id, Some(written)));
    assert_eq!(client.push_event(push("log", "operator")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.push_event(push("user", "")).await.unwrap_err().code(), Code::PermissionDenied);
    let knowledge = Some(Knowledge { title: "t".into(), text: "x".into(), tags: Vec::new() });
    let refused = client.add_knowledge(AddKnowledgeRequest { knowledge, provenance: None }).await.unwrap_err();
    assert!(refused.message().contains("memory:write:knowledge"), "{refused}");
    let search = SemanticSearchRequest { query: "full".into(), ..SemanticSearchRequest::default() };
    assert_eq!(client.semantic_search(search).await.unwrap_err().code(), Code::Unimplemented);
    let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.state(), stats.kinds[0].items, stats.searchable), (StoreState::Writable, 1, false));
    drop(client);
    running.stop().await;
}

/// Vectors as the tests make them, in place of the runtime.
struct Meaning;

impl aios_memory::Embedder for Meaning {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, aios_memory::EmbedError> {
        Ok(texts.iter().map(|text| fixture::meaning(text)).collect())
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// A service that finds by meaning.
fn with_meaning(folder: &Path) -> Options {
    let index: aios_memory::SharedIndex = Some(Arc::new(HybridIndex::new("test")));
    Options { index, embedder: Some(Arc::new(Meaning)), ..options(folder) }
}

async fn vectors_are_there(client: &mut MemoryServiceClient<Channel>) {
    while client.stats(StatsRequest {}).await.unwrap().into_inner().without_vector > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_added_is_found_by_meaning_and_a_chain_for_a_goal_in_other_words() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(with_meaning(folder.path())).await;
    let mut client = connect(folder.path()).await;
    let provenance = || origins(&["model"]);
    let knowledge = Some(Knowledge { title: "notebook".into(), text: "sluggish".into(), tags: Vec::new() });
    let added = client.add_knowledge(AddKnowledgeRequest { knowledge, provenance: provenance() }).await.unwrap();
    let step = pattern::Step { tool: "service.restart".into(), arguments: r#"{"unit":"nginx.service"}"#.into() };
    let pattern = Some(Pattern { goal: "restart nginx".into(), steps: vec![step], ..Pattern::default() });
    client.store_pattern(StorePatternRequest { pattern, provenance: provenance() }).await.unwrap();
    vectors_are_there(&mut client).await;
    let search = SearchKnowledgeRequest { query: "slow laptop".into(), limit: 1 };
    let found = client.search_knowledge(search).await.unwrap().into_inner();
    assert_eq!(found.by(), SearchBy::MeaningAndWords);
    assert_eq!(found.hits[0].item.as_ref().unwrap().id, added.into_inner().id);
    let find = FindPatternRequest { goal: "please restart sshd".into(), limit: 0 };
    let found = client.find_pattern(find).await.unwrap().into_inner();
    let Some(item::Body::Pattern(pattern)) = found.patterns[0].pattern.clone().unwrap().body else { panic!() };
    assert_eq!((found.exact_only, &*pattern.steps[0].arguments), (false, r#"{"unit":"sshd.service"}"#));
    drop(client);
    running.stop().await;
}

fn restart_nginx() -> Option<Pattern> {
    let step = pattern::Step { tool: "service.restart".into(), arguments: r#"{"unit":"nginx.service"}"#.into() };
    Some(Pattern { goal: "restart nginx".into(), steps: vec![step], ..Pattern::default() })
}

#[tokio::test]
async fn a_failed_reuse_lowers_the_rank_of_a_pattern_until_it_is_not_offered_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(with_meaning(folder.path())).await;
    let mut client = connect(folder.path()).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = StorePatternRequest { pattern: restart_nginx(), provenance: origins(&["model"]) };
        ids.push(client.store_pattern(request).await.unwrap().into_inner().id);
    }
    let [first, second] = ids[..] else { panic!() };
    vectors_are_there(&mut client).await;
    let offered = async |client: &MemoryServiceClient<Channel>, goal: &str| -> Vec<(u64, f64)> {
        let request = FindPatternRequest { goal: goal.into(), limit: 0 };
        let patterns = client.clone().find_pattern(request).await.unwrap().into_inner().patterns;
        patterns.into_iter().map(|found| (found.pattern.unwrap().id, found.score)).collect()
    };
    let of = |offered: &[(u64, f64)]| offered.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let fail = async |client: &MemoryServiceClient<Channel>, id: u64| {
        let request = UpdatePatternStatsRequest { id, success: false };
        let used = client.clone().update_pattern_stats(request).await.unwrap().into_inner().pattern.unwrap();
        let Some(item::Body::Pattern(pattern)) = used.body else { panic!() };
        (pattern.successes, pattern.failures)
    };
    let (same, other) = ("restart nginx", "please restart the nginx service");
    let before = offered(&client, same).await;
    assert_eq!((of(&before), of(&offered(&client, other).await)), (vec![second, first], vec![second]));
    assert_eq!(fail(&client, second).await, (0, 1));
    let after = offered(&client, same).await;
    assert_eq!((of(&after), of(&offered(&client, other).await)), (vec![first, second], vec![first]));
    assert!(after[1].1 < before[0].1 && after[0] == before[1], "{before:?} {after:?}");
    assert_eq!(fail(&client, second).await, (0, 2));
    assert_eq!((of(&offered(&client, same).await), of(&offered(&client, other).await)), (vec![first], vec![first]));
    assert_eq!((fail(&client, first).await, fail(&client, first).await), ((0, 1), (0, 2)));
    assert_eq!((offered(&client, same).await, offered(&client, other).await), (vec![], vec![]), "the model is asked");
    drop(client);
    running.stop().await;
}

/// Sends bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Calls PushEvent with these bytes as the message.
async fn push_raw(folder: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(folder).await);
    grpc.ready().await.unwrap();
    let path = "/aios.memory.v1.MemoryService/PushEvent".parse().unwrap();
    grpc.unary(tonic::Request::new(bytes), path, Raw).await.map(tonic::Response::into_inner)
}

/// Number of the field `message` of an event.
const EVENT_MESSAGE: u8 = 3;

/// A PushEventRequest with this message, whatever its bytes are.
fn push_request(message: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length > 127 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [field, bytes.to_vec()].concat()
    };
    let event = Event { category: "disk".into(), message: "?".into(), ..Event::default() };
    // The last of several wins; this one is the message's.
    let event = [event.encode_to_vec(), field(EVENT_MESSAGE, message)].concat();
    [field(1, &event), field(2, &origins(&["log"]).unwrap().encode_to_vec())].concat()
}

#[tokio::test]
async fn what_is_no_text_or_too_large_is_refused_and_the_service_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(folder.path())).await;
    push_raw(folder.path(), push_request(b"fine")).await.unwrap();
    let refused = push_raw(folder.path(), push_request(b"disk \xff\xfe full")).await.unwrap_err();
    assert!(refused.message().contains("UTF-8"), "{refused}");
    let limit = aios_memory::limits::ITEM;
    let refused = push_raw(folder.path(), push_request(&vec![b'x'; limit])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().ends_with(&format!("the most is {limit}")), "{refused}");
    let refused = push_raw(folder.path(), push_request(&vec![b'x'; 64 * limit])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let mut client = connect(folder.path()).await;
    let events = client.get_recent_events(GetRecentEventsRequest::default()).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 1, "what was refused is not there");
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn whence_a_thing_is_comes_with_it_by_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(with_meaning(folder.path())).await;
    let mut client = connect(folder.path()).await;
    let given = || origins(&["web", "tool:web.read"]).map(|given| Provenance { source: "https://a.b".into(), ..given });
    let knowledge = Some(Knowledge { title: "notebook".into(), text: "sluggish".into(), tags: Vec::new() });
    client.add_knowledge(AddKnowledgeRequest { knowledge, provenance: given() }).await.unwrap();
    let request = StorePatternRequest { pattern: restart_nginx(), provenance: given() };
    client.store_pattern(request).await.unwrap();
    let event = Some(Event { category: "c".into(), message: "sluggish".into(), ..Event::default() });
    client.push_event(PushEventRequest { event, provenance: given() }).await.unwrap();
    let goal = Some(Goal { text: "tidy".into(), ..Goal::default() });
    let goal = client.store_goal(StoreGoalRequest { goal, provenance: given() }).await.unwrap().into_inner().id;
    let task = Some(Task { goal, description: "look".into(), ..Task::default() });
    client.store_task(StoreTaskRequest { task, provenance: given(), ..StoreTaskRequest::default() }).await.unwrap();
    let state = StoreAgentStateRequest { key: "k".into(), value: "v".into(), provenance: given() };
    client.store_agent_state(state).await.unwrap();
    let metric = UpdateMetricRequest { name: "load".into(), value: 1.0, unit: String::new(), provenance: given() };
    client.update_metric(metric).await.unwrap();
    vectors_are_there(&mut client).await;

    let mut seen = Vec::new();
    let search = SearchKnowledgeRequest { query: "slow laptop".into(), limit: 1 };
    seen.extend(client.search_knowledge(search).await.unwrap().into_inner().hits.into_iter().map(|hit| hit.item));
    let search = SemanticSearchRequest { query: "sluggish".into(), ..SemanticSearchRequest::default() };
    let hits = client.semantic_search(search).await.unwrap().into_inner().hits;
    assert!(hits.len() >= 2, "{hits:?}");
    seen.extend(hits.into_iter().map(|hit| hit.item));
    let find = FindPatternRequest { goal: "please restart sshd".into(), limit: 0 };
    let patterns = client.find_pattern(find).await.unwrap().into_inner().patterns;
    assert_eq!(patterns.len(), 1);
    let id = patterns[0].pattern.as_ref().unwrap().id;
    seen.extend(patterns.into_iter().map(|found| found.pattern));
    let used = client.update_pattern_stats(UpdatePatternStatsRequest { id, success: true }).await.unwrap();
    seen.push(used.into_inner().pattern);
    let events = client.get_recent_events(GetRecentEventsRequest::default()).await.unwrap().into_inner().events;
    seen.extend(events.into_iter().map(Some));
    let goals = client.get_active_goals(GetActiveGoalsRequest::default()).await.unwrap().into_inner().goals;
    seen.extend(goals.into_iter().map(Some));
    let tasks = client.get_tasks_for_goal(GetTasksForGoalRequest { goal }).await.unwrap().into_inner().tasks;
    seen.extend(tasks.into_iter().map(Some));
    let state = GetAgentStateRequest { key: "k".into(), ..GetAgentStateRequest::default() };
    seen.push(client.get_agent_state(state).await.unwrap().into_inner().state);
    let metric = GetMetricRequest { name: "load".into() };
    let metric = client.get_metric(metric).await.unwrap().into_inner().metric.unwrap();

    let expected = Some(Provenance { agent: "task".into(), ..given().unwrap() });
    for item in seen {
        assert_eq!(sorted(item.clone().unwrap().provenance), sorted(expected.clone()), "{item:?}");
    }
    assert_eq!(sorted(metric.provenance), sorted(expected));
    drop(client);
    running.stop().await;
}

fn sorted(mut provenance: Option<Provenance>) -> Option<Provenance> {
    provenance.iter_mut().for_each(|provenance| provenance.origins.sort());
    provenance
}
