//! The real binary does what its configuration says: threads, context, models, log.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/http.rs"]
mod http;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::time::{Duration, Instant};
use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
};

use aios_models::{keys::Signing, manifest::Manifest, store, trust};
use binary::{Started, free_address, prepare, runtime};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A prepared directory, and the address that the runtime will have; `extra` goes into `[runtime]`.
fn prepared(extra: &str) -> (TempDir, SocketAddr) {
    let address = free_address();
    (prepare(extra, &format!("listen = \"{address}\"")), address)
}

/// The configuration's further sections.
fn append(dir: &TempDir, text: &str) {
    let path = dir.path().join("aios.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, config + text).unwrap();
}

fn prompt(text: &str) -> Value {
    json!({"model": "default", "prompt": text, "temperature": 0, "max_tokens": 4})
}

/// Threads of the kernels besides the one that asks them.
fn compute_threads(process: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("kernels-")).count()
}

#[test]
fn arithmetic_runs_on_as_many_threads_as_configured() {
    let processors = std::thread::available_parallelism().unwrap().get();
    for (key, threads) in [("threads = 1", 1), ("threads = 3", 3), ("threads = 0", processors), ("", processors)] {
        let (dir, address) = prepared(key);
        let started = Started::new(dir.path());
        let answer = http::post(address, "/v1/completions", &prompt("the"));
        assert_eq!(answer.status, 200, "{answer:?}");
        // A thread that nobody has needed yet may not even have taken its name.
        let begun = Instant::now();
        while compute_threads(started.child.id()) != threads - 1 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(compute_threads(started.child.id()), threads - 1, "{key:?}");
    }
}

#[test]
fn prompts_share_their_beginning_where_there_is_memory_for_it() {
    for (key, known) in [("slots = 1\nprefix-cache = \"0B\"", 0), ("slots = 1", 48)] {
        let (dir, address) = prepared(key);
        let _started = Started::new(dir.path());
        let beginning = "a ".repeat(30);
        let cached = |text: &str| {
            let answer = http::post(address, "/v1/completions", &prompt(&format!("{beginning}{text}"))).json();
            answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
        };
        // The second prompt comes after an unlike one, so that it finds nothing in the memory of its own slot.
        assert_eq!(cached("x"), 0);
        assert_eq!(http::post(address, "/v1/completions", &prompt("the")).status, 200);
        let found = cached("y");
        assert!(if known == 0 { found == 0 } else { found >= known }, "{key:?}: {found}");
    }
}

#[test]
fn the_context_ends_where_the_configuration_says() {
    let [longest, too_long] = [63, 64].map(|tokens| prompt(&"x".repeat(tokens)));
    let (dir, address) = prepared("context = 64");
    let _started = Started::new(dir.path());
    let model = http::get(address, "/v1/models/default").json();
    assert_eq!(model["aios"]["context_length"], 64);
    let answer = http::post(address, "/v1/completions", &longest).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let usage = &answer["usage"];
    assert_eq!([&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]], [63, 1, 64]);
    let refused = http::post(address, "/v1/completions", &too_long);
    assert_eq!((refused.status, refused.error()), (400, (json!("prompt"), json!("context_length_exceeded"))));
    assert!(refused.text.contains("maximum context length is 64 tokens, but 64 are in the prompt"), "{refused:?}");

    // The same prompt fits where nothing is configured: the context is then as long as the model was trained for.
    let (dir, address) = prepared("");
    let _started = Started::new(dir.path());
    let answer = http::post(address, "/v1/completions", &too_long).json();
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[test]
fn the_first_directory_that_has_a_model_wins() {
    for (order, length) in [(["first", "second"], 100), (["second", "first"], 200)] {
        let (dir, address) = prepared("");
        for (name, tokens) in [("first", 100), ("second", 200)] {
            let model = dir.path().join(name).join("tiny/model.gguf");
            std::fs::create_dir_all(model.parent().unwrap()).unwrap();
            tiny_model::write_for_context(&model, tokens);
        }
        let config = std::fs::read_to_string(dir.path().join("aios.toml")).unwrap();
        let dirs = order.map(|name| format!("\"{}\"", dir.path().join(name).display())).join(", ");
        let models = format!("\"{}\"", dir.path().join("models").display());
        // A directory that does not exist is passed over, and the one that would do comes too late.
        let dirs = format!("\"/nonexistent\", {dirs}, {models}");
        std::fs::write(dir.path().join("aios.toml"), config.replace(&models, &dirs)).unwrap();
        let _started = Started::new(dir.path());
        let model = http::get(address, "/v1/models/tiny").json();
        assert_eq!(model["aios"]["context_length"], length, "{dirs}");
    }
}

#[test]
fn the_grpc_socket_is_where_the_configuration_says() {
    let dir = prepare("", "");
    let path = dir.path().join("aios.toml");
    let config = std::fs::read_to_string(&path).unwrap().replace("/grpc.sock", "/elsewhere/runtime.sock");
    std::fs::write(&path, config).unwrap();
    let refused = runtime(dir.path()).output().unwrap();
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{reason}");
    assert!(reason.contains("elsewhere/runtime.sock") && reason.contains("create it"), "{reason}");

    std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
    let _started = Started::new(dir.path());
    assert!(UnixStream::connect(dir.path().join("elsewhere/runtime.sock")).is_ok());
    assert!(!dir.path().join("grpc.sock").exists());
}

/// What a runtime logs that has seen a client lose its connection, and must cut another's at its end.
fn log_at(level: &str) -> String {
    let (dir, address) = prepared("");
    append(&dir, level);
    let started = Started::new(dir.path());

    let mut lost = http::connect(address);
    lost.write_all(b"no request\r\n\r\n").unwrap();
    let mut refusal = Vec::new();
    // The server may close before it has read all of it, and that reads as an error.
    let _ = lost.read_to_end(&mut refusal);

    let mut cut = http::connect(address);
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    );
    cut.write_all(head.as_bytes()).unwrap();
    // This tells that the server waits for the body, which will not come.
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut heard = [0; 25];
    cut.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, expected);

    let (status, log) = started.end();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

#[test]
fn the_log_says_as_much_as_its_level_allows() {
    let lines = [("debug", "connection lost"), ("info", "runtime ready"), ("warn", "connections cut at shutdown")];
    for (level, expected) in [("debug", 3), ("info", 2), ("warn", 1), ("error", 0), ("", 2)] {
        let section = if level.is_empty() { String::new() } else { format!("[log]\nlevel = \"{level}\"\n") };
        let log = log_at(&section);
        let found: Vec<&str> = lines.iter().filter(|(_, line)| log.contains(line)).map(|(level, _)| *level).collect();
        assert_eq!(found, ["debug", "info", "warn"][3 - expected..], "at {level:?}: {log}");
        assert!(level != "error" || log.is_empty(), "{log}");
    }
}

#[test]
fn the_least_level_still_logs_errors() {
    let (dir, _) = prepared("");
    append(&dir, "[log]\nlevel = \"error\"\n");
    std::fs::write(dir.path().join("models/tiny/model.gguf"), "no model").unwrap();
    let output = runtime(dir.path()).output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("model not loaded") && !log.contains("loading model"), "{log}");
}

/// What the runtime says when it refuses to start, and what it logs.
fn refusal(dir: &TempDir) -> (String, String) {
    let output = runtime(dir.path()).output().unwrap();
    let [log, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}");
    (log, said)
}

fn set(dir: &TempDir, from: &str, to: &str) {
    let path = dir.path().join("aios.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.contains(from));
    std::fs::write(path, config.replace(from, to)).unwrap();
}

/// Signs the tiny model of a prepared directory with the key in `keys`.
fn sign(dir: &TempDir, keys: &str) {
    let folder = dir.path().join("models/tiny");
    let mut file = std::fs::File::open(folder.join("model.gguf")).unwrap();
    let size = file.metadata().unwrap().len();
    let manifest = Manifest {
        id: "tiny".into(),
        file: "model.gguf".into(),
        sha256: trust::hash(&mut file).unwrap(),
        size,
        licence: "MIT".into(),
        source: "test".into(),
        revision: None,
        context: None,
        also: Vec::new(),
    };
    let signing = Signing::open_or_make(&dir.path().join(keys)).unwrap();
    store::write_manifest(&folder, &manifest, &signing).unwrap();
}

#[test]
fn a_model_that_nobody_signed_is_loaded_only_where_the_configuration_allows_it() {
    let (dir, _) = prepared("");
    set(&dir, "require-signature = false", "");
    let (log, said) = refusal(&dir);
    assert!(said.contains("aios model verify --sign tiny"), "{said}");
    assert!(log.contains("audit=\"model-unsigned\""), "{log}");
    sign(&dir, "keys");
    let (_, log) = Started::new(dir.path()).end();
    assert!(log.contains("model loaded"), "{log}");
}

#[test]
fn a_signature_counts_where_it_is_of_the_configured_key() {
    let (dir, _) = prepared("");
    set(&dir, "require-signature = false", "");
    sign(&dir, "other-keys");
    sign_key(&dir, "keys");
    let (log, said) = refusal(&dir);
    assert!(
        said.contains("is not this device's signature") && log.contains("audit=\"model-signature\""),
        "{said}{log}"
    );
    set(&dir, "/keys", "/other-keys");
    drop(Started::new(dir.path()));
}

/// Makes a key without signing anything.
fn sign_key(dir: &TempDir, keys: &str) {
    Signing::open_or_make(&dir.path().join(keys)).unwrap();
}

#[test]
fn weights_that_changed_are_refused_and_the_refusal_is_audited() {
    let (dir, _) = prepared("");
    set(&dir, "require-signature = false", "");
    sign(&dir, "keys");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let start = || {
        let mut command = runtime(dir.path());
        command.env("STATE_DIRECTORY", &state);
        command
    };
    // What was right once is remembered, and not read again.
    let mut child = start().spawn().unwrap();
    let begun = Instant::now();
    while !state.join("verified-models").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let file = dir.path().join("models/tiny/model.gguf");
    let before = std::fs::metadata(&file).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let output = start().output().unwrap();
    let [log, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["tiny/model.gguf is not the file of its manifest", "expected sha256", "found sha256"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(log.contains("audit=\"model-tampered\"") && log.contains("expected=\"sha256"), "{log}");
    // It stays refused where no signature is asked for: the manifest counts.
    set(&dir, "[models]\n", "[models]\nrequire-signature = false\n");
    assert!(refusal(&dir).1.contains("is not the file of its manifest"));
}
