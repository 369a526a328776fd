//! What a model is counted as, before it is loaded, and what the process really grows by.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/factory_model.rs"]
mod factory_model;
#[path = "support/http.rs"]
mod http;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aios_models::{gguf::Gguf, memory::Needs};
use aios_runtime::embedding::EmbeddingModel;
use binary::{Started, free_address, prepare};
use serde_json::{Value, json};

const CONTEXT: usize = 1024;
const SLOTS: usize = 2;

struct Device {
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Device {
    /// Serves `default`, and embeddings with the image's model.
    fn new(default: &str) -> Device {
        let address = free_address();
        let embeddings = factory_model::embeddings();
        let extra = format!(
            "default-model = \"{default}\"\nslots = {SLOTS}\ncontext = {CONTEXT}\nprefix-cache = \"0B\"\n\
             embedding-model = \"minilm\""
        );
        let dir = prepare(&extra, &format!("listen = \"{address}\""));
        let models = dir.path().join("models");
        fs::create_dir_all(models.join("smollm2")).unwrap();
        symlink(factory_model::path(), models.join("smollm2/model.gguf")).unwrap();
        fs::create_dir_all(models.join("minilm")).unwrap();
        for file in ["model.safetensors", "config.json", "sentence_bert_config.json", "tokenizer.json"] {
            symlink(embeddings.join(file), models.join("minilm").join(file)).unwrap();
        }
        Device { dir, address }
    }

    fn needs(&self, id: &str) -> u64 {
        let file = self.dir.path().join("models").join(id).join("model.gguf");
        Needs::of(&Gguf::open(&file).unwrap(), CONTEXT).total(SLOTS)
    }

    /// Fills the contexts of all slots.
    fn fill(&self, words: usize) {
        let text = "word ".repeat(words);
        std::thread::scope(|scope| {
            for slot in 0..SLOTS {
                let body = json!({"model": "default", "prompt": format!("{slot} {text}"), "max_tokens": 8});
                scope.spawn(move || self.post("/v1/completions", &body));
            }
        });
    }

    fn post(&self, path: &str, body: &Value) {
        let answer = http::post(self.address, path, body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Memory of a process that no file backs, in bytes.
fn memory(started: &Started) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", started.child.id())).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix("RssAnon:")).unwrap();
    value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The most of it while `work` is done, and after it.
fn peak(started: &Started, work: impl FnOnce()) -> u64 {
    let (done, mut most) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = memory(started);
            while !done.load(Ordering::Relaxed) {
                most = most.max(memory(started));
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        work();
        done.store(true, Ordering::Relaxed);
        most = watch.join().unwrap();
    });
    most.max(memory(started))
}

#[test]
fn a_language_model_takes_no_more_than_it_is_counted_as_and_not_much_less() {
    let without = Device::new("");
    let started = Started::new(without.dir.path());
    let empty = memory(&started);
    drop(started);
    for (id, words, most) in [("tiny", 90, None), ("smollm2", 950, Some(1.6))] {
        let device = Device::new(id);
        let started = Started::new(device.dir.path());
        let (estimate, peak) = (device.needs(id) as f64, peak(&started, || device.fill(words)));
        let grown = (peak - empty) as f64;
        println!("{id}: counted as {:.1} MB, grew by {:.1} MB", estimate / 1e6, grown / 1e6);
        // Threads and the allocator's slack, whatever the model.
        let slack = 4e6;
        assert!(estimate >= grown - slack, "{id}: counted as {estimate}, grew by {grown}");
        assert!(most.is_none_or(|most| estimate <= grown * most), "{id}: counted as {estimate}, grew by {grown}");
    }
}

#[test]
fn an_embedding_model_takes_no_more_than_it_is_counted_as_and_not_much_less() {
    let device = Device::new("");
    let started = Started::new(device.dir.path());
    let before = memory(&started);
    let long = "The pump in building seven reports a pressure of some millibar. ".repeat(40);
    // Each another: what was embedded is not computed again.
    let texts = |text: &str, count: usize| (0..count).map(|number| format!("{number} {text}")).collect::<Vec<_>>();
    let texts = [texts("a", 1), texts(&long, 16), texts(&long[..100], 60)];
    let peak = peak(&started, || {
        texts.iter().for_each(|texts| device.post("/v1/embeddings", &json!({"model": "default", "input": texts})));
    });
    let estimate = EmbeddingModel::needs(&device.dir.path().join("models/minilm")).unwrap() as f64;
    let grown = (peak - before) as f64;
    println!("minilm: counted as {:.1} MB, grew by {:.1} MB", estimate / 1e6, grown / 1e6);
    assert!(estimate >= grown && estimate <= grown * 1.6, "counted as {estimate}, grew by {grown}");
}
