//! The service over its Unix socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/fixture.rs"]
mod fixture;

use std::{path::PathBuf, sync::Arc};

use aios_api::memory::v1::{
    AddKnowledgeRequest, Event, FindPatternRequest, GetRecentEventsRequest, Knowledge, Pattern, Provenance,
    PushEventRequest, SearchBy, SearchKnowledgeRequest, SemanticSearchRequest, StatsRequest, StorePatternRequest,
    StoreState, item, memory_service_client::MemoryServiceClient, pattern,
};
use aios_core::config::{self, Layer};
use aios_memory::{
    HybridIndex,
    server::{Options, Server},
};
use tonic::{Code, transport::Channel};

async fn connect(socket: PathBuf) -> MemoryServiceClient<Channel> {
    MemoryServiceClient::new(aios_service::dial(&socket).await.unwrap())
}

#[tokio::test]
async fn who_writes_is_who_the_kernel_says_and_the_policy_says_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw();
    let text = format!("[agents.web]\nuids = [{uid}]\ncapabilities = [\"memory:*:event\"]\n");
    let policy = aios_policy::Policy::from_layers(&[Layer { path: "policy.toml".into(), text }]).unwrap();
    let socket = folder.path().join("grpc.sock");
    let memory = config::Memory { socket: socket.clone(), ..config::Memory::default() };
    let state = folder.path().join("state");
    let options = Options { memory, policy, state, credentials: None, index: None, embedder: None, tokenizer: None };
    let server = Server::bind(options).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut client = connect(socket).await;
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
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
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

#[tokio::test]
async fn what_was_added_is_found_by_meaning_and_a_chain_for_a_goal_in_other_words() {
    let folder = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw();
    let text = format!("[agents.task]\nuids = [{uid}]\ncapabilities = [\"memory:*:**\"]\n");
    let policy = aios_policy::Policy::from_layers(&[Layer { path: "policy.toml".into(), text }]).unwrap();
    let socket = folder.path().join("grpc.sock");
    let memory = config::Memory { socket: socket.clone(), ..config::Memory::default() };
    let options = Options {
        memory,
        policy,
        state: folder.path().join("state"),
        credentials: None,
        index: Some(Arc::new(HybridIndex::new("test"))),
        embedder: Some(Arc::new(Meaning)),
        tokenizer: None,
    };
    let server = Server::bind(options).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut client = connect(socket).await;
    let provenance = || Some(Provenance { origins: vec!["model".into()], ..Provenance::default() });
    let knowledge = Some(Knowledge { title: "notebook".into(), text: "sluggish".into(), tags: Vec::new() });
    let added = client.add_knowledge(AddKnowledgeRequest { knowledge, provenance: provenance() }).await.unwrap();
    let step = pattern::Step { tool: "service.restart".into(), arguments: r#"{"unit":"nginx.service"}"#.into() };
    let pattern = Some(Pattern { goal: "restart nginx".into(), steps: vec![step], ..Pattern::default() });
    client.store_pattern(StorePatternRequest { pattern, provenance: provenance() }).await.unwrap();
    while client.stats(StatsRequest {}).await.unwrap().into_inner().without_vector > 0 {
        tokio::task::yield_now().await;
    }
    let search = SearchKnowledgeRequest { query: "slow laptop".into(), limit: 1 };
    let found = client.search_knowledge(search).await.unwrap().into_inner();
    assert_eq!(found.by(), SearchBy::MeaningAndWords);
    assert_eq!(found.hits[0].item.as_ref().unwrap().id, added.into_inner().id);
    let find = FindPatternRequest { goal: "please restart sshd".into(), limit: 0 };
    let found = client.find_pattern(find).await.unwrap().into_inner();
    let Some(item::Body::Pattern(pattern)) = found.patterns[0].pattern.clone().unwrap().body else { panic!() };
    assert_eq!((found.exact_only, &*pattern.steps[0].arguments), (false, r#"{"unit":"sshd.service"}"#));
    drop(client);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
