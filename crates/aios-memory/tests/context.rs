//! Contexts: within their budget whoever counts, of what the caller may read, with what they are made of.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aios_api::memory::v1::{
    AddKnowledgeRequest, AssembleContextRequest, AssembleContextResponse, Event, Goal, Incident, Knowledge,
    PushEventRequest, Severity, StoreGoalRequest, StoreIncidentRequest, StoreTaskRequest, Task,
    assemble_context_response::Reason, memory_service_client::MemoryServiceClient,
};
use aios_memory::{CountError, Counted, HybridIndex, Kind, Tokenizer, server::Options};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use server::*;
use tokio::runtime::Runtime;
use tonic::{Code, transport::Channel};

/// A model whose tokens are pieces of words of three letters and line ends.
struct Pieces {
    answers: Arc<AtomicBool>,
}

fn pieces(text: &str) -> usize {
    text.split_whitespace().map(|word| word.chars().count().div_ceil(3)).sum::<usize>() + text.matches('\n').count()
}

impl Tokenizer for Pieces {
    fn count(&self, model: &str, texts: &[&str]) -> Result<Counted, CountError> {
        match model {
            _ if !self.answers.load(Ordering::Relaxed) => Err(CountError::Unavailable("nobody is there".into())),
            "" | "tiny" => {
                Ok(Counted { model: "tiny".into(), tokens: texts.iter().map(|text| pieces(text)).collect() })
            }
            other => Err(CountError::NoModel(format!("model '{other}' does not exist"))),
        }
    }
}

struct Fixture {
    executor: Runtime,
    client: MemoryServiceClient<Channel>,
    answers: Arc<AtomicBool>,
    running: Running,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A memory, and a caller with these capabilities that may speak for the user.
    fn new(capabilities: &str) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let answers = Arc::new(AtomicBool::new(true));
        let options = Options {
            policy: vouching("task", capabilities, r#"["user"]"#),
            index: Some(Arc::new(HybridIndex::new("test"))),
            tokenizer: Some(Arc::new(Pieces { answers: answers.clone() })),
            ..options(folder.path())
        };
        let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (running, client) = executor.block_on(async { (start(options).await, connect(folder.path()).await) });
        Fixture { executor, client, answers, running, _folder: folder }
    }

    fn knowledge(&self, title: &str, text: &str, origin: &str) -> u64 {
        let knowledge = Some(Knowledge { title: title.into(), text: text.into(), tags: Vec::new() });
        let request = AddKnowledgeRequest { knowledge, provenance: origins(&[origin]) };
        self.executor.block_on(self.client.clone().add_knowledge(request)).unwrap().into_inner().id
    }

    fn event(&self, severity: Severity, message: &str) -> u64 {
        let event =
            Event { category: "disk".into(), severity: severity.into(), message: message.into(), ..Event::default() };
        let request = PushEventRequest { event: Some(event), provenance: origins(&["log"]) };
        self.executor.block_on(self.client.clone().push_event(request)).unwrap().into_inner().id
    }

    fn context(&self, request: AssembleContextRequest) -> Result<AssembleContextResponse, tonic::Status> {
        self.executor.block_on(self.client.clone().assemble_context(request)).map(tonic::Response::into_inner)
    }

    fn stop(self) {
        drop(self.client);
        self.executor.block_on(self.running.stop());
    }
}

fn ask(query: &str, budget_tokens: u32) -> AssembleContextRequest {
    AssembleContextRequest { query: query.into(), budget_tokens, ..AssembleContextRequest::default() }
}

fn included(context: &AssembleContextResponse) -> Vec<u64> {
    context.included.iter().map(|piece| piece.id).collect()
}

#[test]
fn a_context_is_within_its_budget_and_says_what_became_of_every_item_it_considered() {
    let memory = Fixture::new(r#"["memory:*:**"]"#);
    let words = ["disk", "fan", "nginx", "full", "restart", "log", "backup", "worn", "slow", "certificate"];
    for number in 0..60_usize {
        let text: Vec<&str> = (0..4 + number * 7 % 60).map(|at| words[(number * 3 + at * at) % words.len()]).collect();
        let text = format!("{}. Number {number}\nends.", text.join(" "));
        match number % 4 {
            0 => memory.event(Severity::Error, &text),
            _ => memory.knowledge(&format!("note {number}"), &text, ["user", "web", "model"][number % 3]),
        };
    }
    let strategy = (1..1500_u32, proptest::sample::subsequence(words.to_vec(), 1..4));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(150) });
    let checked = runner.run(&strategy, |(budget, query)| {
        let context = memory.context(ask(&query.join(" "), budget)).unwrap();
        prop_assert_eq!(context.tokens as usize, pieces(&context.text));
        prop_assert!(context.tokens <= budget, "{} of {}", context.tokens, budget);
        prop_assert_eq!(&context.model, "tiny");
        let (inside, outside) = (included(&context), context.left_out.iter().map(|left| left.id));
        let all: Vec<u64> = inside.iter().copied().chain(outside).collect();
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "nothing is there twice");
        prop_assert!(context.left_out.iter().all(|left| left.reason() != Reason::Unspecified && left.tier != 0));
        prop_assert!(context.included.iter().all(|piece| piece.tier != 0 && piece.tokens > 0));
        let marks = context.text.matches("(untrusted, ").count();
        prop_assert!(marks <= inside.len());
        prop_assert_eq!(marks > 0, context.origins.iter().any(|origin| origin != "user"));
        Ok(())
    });
    checked.unwrap();
    let all = memory.context(ask("disk fan", 1_000_000)).unwrap();
    assert!(all.left_out.iter().all(|left| left.reason() != Reason::Budget), "with room for all of it, all is there");
    memory.stop();
}

#[test]
fn the_goal_at_work_comes_with_its_parts_and_what_says_the_same_is_told_once() {
    let memory = Fixture::new(r#"["memory:*:**"]"#);
    let mut client = memory.client.clone();
    let (goal, task) = memory.executor.block_on(async {
        let goal = Some(Goal { text: "Replace the certificate".into(), ..Goal::default() });
        let goal =
            client.store_goal(StoreGoalRequest { goal, provenance: origins(&["user"]) }).await.unwrap().into_inner().id;
        let task = Some(Task { goal, description: "Ask the authority".into(), ..Task::default() });
        let request = StoreTaskRequest { id: 0, task, provenance: origins(&["model"]) };
        (goal, client.store_task(request).await.unwrap().into_inner().id)
    });
    let text = "The printer on the second floor is called Gutenberg and takes no letters.";
    let (one, other) = (memory.knowledge("printer", text, "user"), memory.knowledge("printer", text, "user"));
    let context = memory.context(AssembleContextRequest { goal, ..ask("Which printer?", 400) }).unwrap();
    let found = included(&context);
    assert!(found.contains(&goal) && found.contains(&task), "{context:?}");
    assert!(context.text.contains("Replace the certificate (pending)"), "{}", context.text);
    assert_eq!(context.origins, ["user", "model"]);
    let twin = context.left_out.iter().find(|left| left.reason() == Reason::Duplicate).unwrap();
    assert_eq!(BTreeSet::from([twin.id, twin.same_as]), BTreeSet::from([one, other]));
    assert_eq!(memory.context(AssembleContextRequest { goal: 999, ..ask("x", 9) }).unwrap_err().code(), Code::NotFound);
    memory.stop();
}

#[test]
fn what_just_went_wrong_is_told_whatever_is_asked() {
    let memory = Fixture::new(r#"["memory:*:**"]"#);
    let grave = memory.event(Severity::Error, "sdb does not answer");
    let light = memory.event(Severity::Info, "sdb was mounted");
    let context = memory.context(ask("invoices", 200)).unwrap();
    assert_eq!(included(&context), [grave], "{context:?} without {light}");
    assert!(context.text.starts_with("[operational]\n- (untrusted, ") && context.text.contains("disk (error): sdb"));
    memory.stop();
}

#[test]
fn nothing_is_told_that_the_caller_may_not_read() {
    let memory = Fixture::new(r#"["memory:write:**", "memory:read:knowledge"]"#);
    let told = memory.knowledge("fan", "The fan hums.", "user");
    let incident = Some(Incident { title: "The fan hummed".into(), ..Incident::default() });
    let request = StoreIncidentRequest { incident, provenance: origins(&["user"]) };
    memory.executor.block_on(memory.client.clone().store_incident(request)).unwrap();
    memory.event(Severity::Error, "the fan stopped");
    let context = memory.context(ask("fan", 500)).unwrap();
    assert_eq!((included(&context), context.left_out.len()), (vec![told], 0), "{context:?}");
    let incidents = AssembleContextRequest { kinds: vec![Kind::Incident as i32], ..ask("fan", 500) };
    let refused = memory.context(incidents).unwrap_err();
    assert!(refused.message().contains("memory:read:incident"), "{refused}");
    memory.stop();
}

#[test]
fn without_a_count_there_is_no_context_and_the_answer_says_why() {
    let memory = Fixture::new(r#"["memory:*:**"]"#);
    memory.knowledge("fan", "The fan hums.", "user");
    assert_eq!(memory.context(ask("fan", 0)).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(memory.context(ask("", 9)).unwrap_err().code(), Code::InvalidArgument);
    let other = memory.context(AssembleContextRequest { model: "other".into(), ..ask("fan", 50) }).unwrap_err();
    assert!(other.code() == Code::NotFound && other.message().contains("'other'"), "{other}");
    memory.answers.store(false, Ordering::Relaxed);
    let gone = memory.context(ask("fan", 50)).unwrap_err();
    assert!(gone.code() == Code::Unavailable && gone.message().contains("nobody is there"), "{gone}");
    memory.stop();
}
