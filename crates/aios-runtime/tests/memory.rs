//! Several models in little memory: who makes room for whom, what is refused, what comes back by itself.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http.rs"]
mod http;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/served.rs"]
mod served;
#[path = "support/tiny_bert.rs"]
mod tiny_bert;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{path::Path, time::Duration};

use aios_api::runtime::v1::{
    ListModelsRequest, LoadModelRequest, ModelState, UnloadModelRequest, runtime_service_client::RuntimeServiceClient,
};
use aios_core::quantity::{ByteSize, HumanDuration};
use aios_models::{gguf::Gguf, memory::Needs, store::Store};
use http::until;
use serde_json::json;
use served::{Served, serve_with};
use tonic::{Code, Status, transport::Channel};

/// The requests of an operator, one at a time.
struct Operator {
    tokio: tokio::runtime::Runtime,
    client: RuntimeServiceClient<Channel>,
}

impl Operator {
    fn of(server: &Served) -> Operator {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channel = tokio.block_on(aios_service::dial(&server.socket)).unwrap();
        Operator { tokio, client: RuntimeServiceClient::new(channel) }
    }

    fn load(&mut self, model: &str) -> Result<(), Status> {
        let request = LoadModelRequest { model: model.into() };
        self.tokio.block_on(self.client.load_model(request)).map(drop)
    }

    fn unload(&mut self, model: &str) -> Result<(), Status> {
        let request = UnloadModelRequest { model: model.into() };
        self.tokio.block_on(self.client.unload_model(request)).map(drop)
    }

    fn in_memory(&mut self) -> Vec<String> {
        let answer = self.tokio.block_on(self.client.list_models(ListModelsRequest {})).unwrap().into_inner();
        let loaded = answer.models.into_iter().filter(|model| model.state() == ModelState::Loaded);
        loaded.map(|model| model.id).collect()
    }
}

/// What one of the test's models needs, as the server counts it.
fn needs_of_one(folder: &Path, slots: usize) -> u64 {
    let path = folder.join("any.gguf");
    tiny_model::write(&path);
    Needs::of(&Gguf::open(&path).unwrap(), 8192).total(slots)
}

/// A server with room for so many models; `letters` is loaded.
fn server_for(models: u64) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let one = needs_of_one(dir.path(), 1);
    serve_with(|runtime| {
        (runtime.slots, runtime.prefix_cache) = (1, ByteSize(0));
        runtime.memory_budget = ByteSize(one * models + one / 2);
    })
}

fn ask(server: &Served, model: &str) -> http::Answer {
    server.post("/v1/completions", &json!({"model": model, "prompt": "x", "temperature": 0, "max_tokens": 2}))
}

#[test]
fn an_idle_model_makes_room_and_comes_back_by_itself() {
    let server = server_for(1);
    let mut operator = Operator::of(&server);
    assert_eq!(operator.in_memory(), ["letters"]);
    assert_eq!(ask(&server, "second").status, 404, "nobody loaded it");
    operator.load("second").unwrap();
    assert_eq!(operator.in_memory(), ["second"]);
    for model in ["letters", "second", "default", "second"] {
        assert_eq!(ask(&server, model).status, 200, "{model}");
        let resident = if model == "default" { "letters" } else { model };
        assert_eq!(operator.in_memory(), [resident]);
    }
    // What an operator unloads stays away, in memory or not.
    operator.unload("letters").unwrap();
    assert_eq!(ask(&server, "letters").status, 404);
    assert_eq!(operator.unload("letters").unwrap_err().code(), Code::NotFound);
    assert_eq!(operator.in_memory(), ["second"]);
}

#[test]
fn with_room_for_both_nobody_has_to_go() {
    let server = server_for(2);
    let mut operator = Operator::of(&server);
    operator.load("second").unwrap();
    assert_eq!(operator.in_memory(), ["letters", "second"]);
}

#[test]
fn the_one_goes_that_was_not_used_for_longest() {
    let server = server_for(2);
    let third = server.dir.path().join("models/third");
    std::fs::create_dir(&third).unwrap();
    tiny_model::write(&third.join("model.gguf"));
    let mut operator = Operator::of(&server);
    operator.load("second").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(ask(&server, "letters").status, 200);
    operator.load("third").unwrap();
    assert_eq!(operator.in_memory(), ["letters", "third"]);
}

#[test]
fn a_model_in_use_is_left_alone_and_the_other_is_refused_with_figures() {
    let server = server_for(1);
    let mut operator = Operator::of(&server);
    operator.load("second").unwrap();
    server.control.hold();
    let before = server.control.forwards();
    let body = json!({"model": "second", "prompt": "x", "temperature": 0, "max_tokens": 2}).to_string();
    let running = server.send("POST", "/v1/completions", &[("Content-Type", "application/json")], &body);
    until("the engine works", || server.control.forwards() > before);

    let refused = ask(&server, "letters");
    assert_eq!((refused.status, refused.error()), (503, (json!("model"), json!("insufficient_memory"))));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let reason = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    for part in ["model 'letters' needs ", "kB of memory", "are free for models (runtime.memory-budget)", "try again"] {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
    assert_eq!(operator.load("letters").unwrap_err().code(), Code::ResourceExhausted);
    server.control.release();
    assert_eq!(http::answer(running).status, 200);
    until("the model is idle", || ask(&server, "letters").status == 200);
}

#[test]
fn a_model_that_can_never_fit_is_refused_and_costs_nobody_the_place() {
    let server = server_for(1);
    let large = server.dir.path().join("models/large");
    std::fs::create_dir(&large).unwrap();
    tiny_model::write_for_context(&large.join("model.gguf"), 8192);
    let mut operator = Operator::of(&server);
    let refused = operator.load("large").unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("choose a smaller one"), "{}", refused.message());
    assert_eq!(operator.in_memory(), ["letters"]);
}

#[test]
fn a_model_that_fits_with_fewer_contexts_than_slots_takes_all_of_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let [one, four] = [1, 4].map(|slots| needs_of_one(dir.path(), slots));
    let server = serve_with(|runtime| {
        (runtime.slots, runtime.prefix_cache) = (4, ByteSize(0));
        runtime.memory_budget = ByteSize((one + four) / 2);
    });
    let mut operator = Operator::of(&server);
    operator.load("second").unwrap();
    assert_eq!(operator.in_memory(), ["second"]);
    assert_eq!(ask(&server, "second").status, 200);
}

#[test]
fn an_idle_model_leaves_memory_and_the_next_request_brings_it_back() {
    let server = serve_with(|runtime| runtime.idle_unload = HumanDuration(Duration::from_millis(200)));
    let mut operator = Operator::of(&server);
    assert_eq!(ask(&server, "default").status, 200);
    until("the model is unloaded", || operator.in_memory().is_empty());
    assert_eq!(server.control.sessions(), 0, "its contexts are gone with it");
    assert_eq!(ask(&server, "default").status, 200);

    let server = serve_with(|runtime| runtime.idle_unload = HumanDuration(Duration::ZERO));
    let mut operator = Operator::of(&server);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(operator.in_memory(), ["letters"], "never, where it is zero");
}

#[test]
fn the_cache_is_counted_by_context_and_slots() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    tiny_model::write(&path);
    let gguf = Gguf::open(&path).unwrap();
    let needs = |context| Needs::of(&gguf, context);
    // Two layers, keys and values, two heads of 16, 512 tokens, 2 bytes.
    assert_eq!(needs(8192).cache, 2 * 2 * 2 * 16 * 512 * 2);
    assert_eq!(needs(64).cache, needs(512).cache / 8);
    let more = needs(512).total(3) - needs(512).total(1);
    assert_eq!(more, 2 * (needs(512).cache + needs(512).scratch));
    // Layers, keys and values, key heads of 32, 512 tokens, 2 bytes.
    for (family, layers, key_heads) in [("qwen2", 2, 1), ("qwen3", 2, 2), ("gemma3", 7, 1)] {
        tiny_model::write_family(&path, family, |_, _| {});
        let needs = Needs::of(&Gguf::open(&path).unwrap(), 8192);
        assert_eq!(needs.cache, layers * 2 * key_heads * 32 * 512 * 2, "{family}");
    }
    assert!(needs(512).weights >= gguf.tensors().values().map(|tensor| tensor.bytes as u64).sum::<u64>());
}

#[test]
fn an_embedding_model_is_loaded_listed_and_unloaded_as_others_are() {
    let server = serve_with(|runtime| {
        runtime.embedding_model = "tiny-bert".into();
        tiny_bert::write(&runtime.model_dirs[0].join("tiny-bert"));
    });
    let mut operator = Operator::of(&server);
    let embed = || server.post("/v1/embeddings", &json!({"model": "tiny-bert", "input": "a"}));
    assert_eq!(operator.in_memory(), ["letters"]);
    operator.load("tiny-bert").unwrap();
    assert_eq!(operator.in_memory(), ["letters", "tiny-bert"]);
    assert_eq!(embed().status, 200);
    // What an operator unloads stays away.
    operator.unload("tiny-bert").unwrap();
    assert_eq!(operator.in_memory(), ["letters"]);
    let refused = embed();
    assert_eq!((refused.status, refused.error()), (404, (json!("model"), json!("model_not_found"))));
    assert_eq!(server.get("/v1/models/tiny-bert").status, 404);
    operator.load("tiny-bert").unwrap();
    assert_eq!(embed().status, 200);
}

/// The calls of `aios model rm --force`: unload, then remove the files.
#[test]
fn a_model_that_is_removed_by_force_goes_and_the_others_answer_on() {
    let server = server_for(2);
    let models = server.dir.path().join("models");
    let store = Store { directory: models.clone(), dirs: vec![models.clone()], factory: Vec::new() };
    let mut operator = Operator::of(&server);
    operator.load("second").unwrap();
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| (0..30).map(|_| ask(&server, "letters").status).collect::<Vec<_>>());
        let removed = scope.spawn(|| (0..30).map(|_| ask(&server, "second")).collect::<Vec<_>>());
        operator.unload("second").unwrap();
        store.remove("second").unwrap();
        for answer in removed.join().unwrap() {
            assert!(answer.status == 200 || answer.error().1 == "model_not_found", "{answer:?}");
        }
        asking.join().unwrap()
    });
    assert!(asking.iter().all(|&status| status == 200), "{asking:?}");
    assert_eq!(operator.in_memory(), ["letters"]);
    let refused = ask(&server, "second");
    assert_eq!((refused.status, refused.error()), (404, (json!("model"), json!("model_not_found"))));
    let reason = operator.load("second").unwrap_err();
    assert_eq!(reason.code(), Code::NotFound);
    assert!(reason.message().contains("second/model.gguf"), "{reason:?}");

    // Without the unloading, as by `rm -r`: what is in memory answers on, and once it has left, the error says why.
    std::fs::remove_dir_all(models.join("letters")).unwrap();
    assert_eq!(ask(&server, "letters").status, 200);
    operator.unload("letters").unwrap();
    assert_eq!(operator.load("letters").unwrap_err().code(), Code::NotFound);
}
