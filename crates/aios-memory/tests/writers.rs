//! A thousand writers at once over the service's socket: nothing that was acknowledged is lost, and nothing is twice.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aios_api::memory::v1::{AddKnowledgeRequest, Knowledge, memory_service_client::MemoryServiceClient};
use aios_memory::{Body, Store, Tier};
use server::*;
use tokio::sync::Notify;
use tonic::transport::Channel;

const WRITERS: usize = 1000;
/// Connections that the writers share.
const CONNECTIONS: usize = 8;
/// Names the folder of the service to the process that serves it.
const FOLDER: &str = "AIOS_TEST_MEMORY_FOLDER";

fn text(writer: usize, number: usize) -> String {
    format!("writer {writer} number {number}")
}

async fn add(client: &mut MemoryServiceClient<Channel>, text: &str) -> Result<u64, tonic::Status> {
    let knowledge = Knowledge { title: "k".into(), text: text.into(), tags: Vec::new() };
    let request = AddKnowledgeRequest { knowledge: Some(knowledge), provenance: origins(&["model"]) };
    client.add_knowledge(request).await.map(|added| added.into_inner().id)
}

/// All knowledge of the memory by id.
fn kept(path: &Path) -> BTreeMap<u64, String> {
    let store = Store::open(path, aios_memory::Options::default()).unwrap();
    assert_eq!(store.read(|view| view.verify()).unwrap(), 0);
    let items = store.read(|view| view.items(Tier::LongTerm)).unwrap();
    let text = |item: aios_memory::Item| match item.content.body {
        Body::Knowledge(knowledge) => (item.id, knowledge.text),
        other => panic!("{other:?}"),
    };
    items.into_iter().map(text).collect()
}

fn check(kept: &BTreeMap<u64, String>, told: &[(u64, String)]) {
    for (id, text) in told {
        assert_eq!(kept.get(id), Some(text), "item {id} was acknowledged");
    }
    assert_eq!(told.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), told.len(), "no id is given out twice");
    assert_eq!(kept.values().collect::<BTreeSet<_>>().len(), kept.len(), "nothing is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_are_all_answered_and_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(folder.path())).await;
    let mut writers = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect(folder.path()).await);
    }
    for writer in 0..WRITERS {
        let mut client = clients[writer % CONNECTIONS].clone();
        writers.spawn(async move { (add(&mut client, &text(writer, 0)).await.unwrap(), text(writer, 0)) });
    }
    let told = writers.join_all().await;
    drop(clients);
    running.stop().await;
    let kept = kept(&file(folder.path()));
    check(&kept, &told);
    assert_eq!(kept.len(), WRITERS);
}

/// Serves in this process until it is killed.
fn serve(folder: PathBuf) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = aios_memory::server::Server::bind(options(&folder)).await.unwrap();
        println!("bound");
        server.run(std::future::pending()).await.unwrap();
    });
    unreachable!("it is only killed")
}

/// Another process that serves the memory in `folder`.
fn serve_elsewhere(folder: &Path, test: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("bound")), "it ended early");
    child
}

#[test]
fn what_a_thousand_writers_were_told_is_there_after_the_service_is_killed_meanwhile() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        serve(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "what_a_thousand_writers_were_told_is_there_after_the_service_is_killed_meanwhile";
    let mut child = serve_elsewhere(folder.path(), test);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (told, lost) = runtime.block_on(write_until_killed(folder.path(), &mut child));
    assert!(lost == WRITERS && told.len() > 3 * WRITERS, "every writer was at work when it was killed: {}", told.len());
    let kept = kept(&file(folder.path()));
    check(&kept, &told);
    // Each writer has one call at most whose answer it did not get.
    assert!((told.len()..=told.len() + WRITERS).contains(&kept.len()), "{} of {}", kept.len(), told.len());
}

/// All writers write until the process is gone. Returns what they were told, and how many lost their connection.
async fn write_until_killed(folder: &Path, child: &mut Child) -> (Vec<(u64, String)>, usize) {
    let (told, answers, enough) =
        (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut writers = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = connect(folder).await;
        for writer in (connection..WRITERS).step_by(CONNECTIONS) {
            let (mut client, told, answers, enough) = (client.clone(), told.clone(), answers.clone(), enough.clone());
            writers.spawn(async move {
                for number in 0.. {
                    let text = text(writer, number);
                    let Ok(id) = add(&mut client, &text).await else { return enough.notify_one() };
                    told.lock().unwrap().push((id, text));
                    if answers.fetch_add(1, Ordering::Relaxed) == 3 * WRITERS {
                        enough.notify_one();
                    }
                }
            });
        }
    }
    enough.notified().await;
    child.kill().unwrap();
    child.wait().unwrap();
    let lost = writers.join_all().await.len();
    let told = std::mem::take(&mut *told.lock().unwrap());
    (told, lost)
}
