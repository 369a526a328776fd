//! The service over its Unix socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aios_api::memory::v1::{
    AddKnowledgeRequest, Event, GetRecentEventsRequest, Knowledge, Provenance, PushEventRequest, SemanticSearchRequest,
    StatsRequest, StoreState, memory_service_client::MemoryServiceClient,
};
use aios_core::config::{self, Layer};
use aios_memory::server::{Options, Server};
use hyper_util::rt::TokioIo;
use tonic::{Code, transport::Endpoint};

#[tokio::test]
async fn who_writes_is_who_the_kernel_says_and_the_policy_says_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw();
    let text = format!("[agents.web]\nuids = [{uid}]\ncapabilities = [\"memory:*:event\"]\n");
    let policy = aios_policy::Policy::from_layers(&[Layer { path: "policy.toml".into(), text }]).unwrap();
    let socket = folder.path().join("grpc.sock");
    let memory = config::Memory { socket: socket.clone(), ..config::Memory::default() };
    let state = folder.path().join("state");
    let options = Options { memory, policy, state, credentials: None, index: None, embedder: None };
    let server = Server::bind(options).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let connector = tower::service_fn(move |_| {
        let path = socket.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://memory").connect_with_connector(connector).await.unwrap();
    let mut client = MemoryServiceClient::new(channel);
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
