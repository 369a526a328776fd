//! How requests share the engine: queue bound, order, cancellation, failures, slow clients, shutdown.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http.rs"]
mod http;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/served.rs"]
mod served;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    io::Read as _,
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use aios_models::trust::Trust;
use aios_runtime::{
    embedding::Embedder,
    inference::{Event, Expected, Inference, Input, Request, Retention, Run},
    model::LoadOptions,
    registry::{Registry, Settings},
    sampling::Sampling,
    scheduler::Scheduler,
};
use http::{answer, until};
use letters::{ALPHABET, Control};
use serde_json::json;
use served::{Served, chat, serve, serve_with};

/// Sends a request whose answer is streamed, and waits for its head, which comes as soon as it is admitted or refused.
fn send(server: &Served) -> (u16, TcpStream) {
    let stream = server.send_chat(true);
    let mut head = [0; "HTTP/1.1 200".len()];
    while stream.peek(&mut head).unwrap() < head.len() {}
    (std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(), stream)
}

fn admitted(server: &Served) -> TcpStream {
    let (status, stream) = send(server);
    assert_eq!(status, 200);
    stream
}

fn said(stream: TcpStream) -> String {
    let chunks = answer(stream).chunks();
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[test]
fn a_request_beyond_the_queue_is_told_to_come_back() {
    let server = serve_with(|runtime| (runtime.slots, runtime.queue) = (1, 2));
    server.control.hold();
    let admitted: Vec<TcpStream> = (0..3).map(|_| admitted(&server)).collect();
    let refused = server.post("/v1/chat/completions", &chat("hi"));
    assert_eq!((refused.status, refused.error()), (429, (serde_json::Value::Null, json!("rate_limit_exceeded"))));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(send(&server).0, 429, "before the stream, not in it");
    server.control.release();
    for stream in admitted {
        assert_eq!(said(stream), ALPHABET);
    }
    assert_eq!(server.post("/v1/chat/completions", &chat("hi")).status, 200);
}

#[test]
fn a_place_is_free_as_soon_as_its_answer_has_arrived() {
    let server = serve_with(|runtime| (runtime.slots, runtime.queue) = (1, 0));
    for _ in 0..50 {
        assert_eq!(server.post("/v1/chat/completions", &chat("hi")).status, 200);
    }
}

#[test]
fn a_client_that_goes_away_stops_the_engine() {
    let server = serve();
    for (round, streamed) in [true, false].into_iter().enumerate() {
        server.control.hold();
        let before = server.control.forwards();
        let mut stream = server.send_chat(streamed);
        until("the engine works", || server.control.forwards() > before);
        if streamed {
            // The head and the first chunk are there before the first token is.
            assert!(stream.read(&mut [0; 64]).unwrap() > 0);
        }
        drop(stream);
        until("the engine was told to stop", || server.control.cancelled() == round + 1);
        server.control.release();
        assert_eq!(server.post("/v1/chat/completions", &chat("hi")).status, 200);
        // One call that was cancelled, then 26 letters and the end of the turn.
        assert_eq!(server.control.forwards() - before, 1 + 27);
    }
}

#[test]
fn a_stream_that_is_cut_in_the_middle_stops_the_engine() {
    let server = serve();
    // An endless answer: the end of the turn is as unlikely as any other token.
    let body = json!({"model": "default", "prompt": "a", "temperature": 2, "max_tokens": 400, "stream": true});
    for _ in 0..5 {
        let mut stream =
            server.send("POST", "/v1/completions", &[("Content-Type", "application/json")], &body.to_string());
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
        stream.shutdown(Shutdown::Both).unwrap();
    }
    until("all of them have ended", || {
        let before = server.control.forwards();
        std::thread::sleep(Duration::from_millis(50));
        server.control.forwards() == before
    });
    assert_eq!(server.post("/v1/chat/completions", &chat("hi")).status, 200);
}

#[test]
fn a_request_cancelled_in_the_queue_never_runs() {
    let server = serve_with(|runtime| (runtime.slots, runtime.queue) = (1, 1));
    server.control.hold();
    let running = admitted(&server);
    until("the engine works", || server.control.forwards() == 1);
    let queued = admitted(&server);
    assert_eq!(send(&server).0, 429);
    drop(queued);
    // Its place in the queue is free again while the first one still runs.
    let mut third = None;
    until("the place is free", || {
        let (status, stream) = send(&server);
        third = (status == 200).then_some(stream);
        third.is_some()
    });
    assert_eq!(server.control.forwards(), 1);
    server.control.release();
    for stream in [running, third.unwrap()] {
        assert_eq!(said(stream), ALPHABET);
    }
    // 26 letters and the end of the turn, twice.
    assert_eq!(server.control.forwards(), 2 * 27);
}

#[test]
fn a_panic_or_failure_of_the_engine_ends_one_request_alone() {
    let server = serve();
    for trouble in [letters::PANIC, letters::FAIL] {
        let failed = server.post("/v1/chat/completions", &chat(trouble));
        assert_eq!((failed.status, failed.error().1), (500, json!("model_failed")));
        let mut streamed = chat(trouble);
        streamed["stream"] = json!(true);
        let text = server.post("/v1/chat/completions", &streamed).text;
        let last = text.trim_end().rsplit("\n\n").next().unwrap().strip_prefix("data: ").unwrap();
        let error: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["error"]["code"], "model_failed", "a stream says why it ends: {text}");
        let after = server.post("/v1/chat/completions", &chat("hi"));
        assert_eq!(after.json()["choices"][0]["message"]["content"], ALPHABET);
    }
    assert_eq!(server.control.sessions(), 1, "the slot has one new session");
}

#[test]
fn slots_work_side_by_side() {
    let server = serve_with(|runtime| (runtime.slots, runtime.queue) = (3, 0));
    server.control.hold();
    let streams: Vec<TcpStream> = (0..3).map(|_| server.send_chat(false)).collect();
    until("all three run", || server.control.forwards() == 3);
    assert_eq!(server.post("/v1/chat/completions", &chat("hi")).status, 429);
    server.control.release();
    assert!(streams.into_iter().all(|stream| answer(stream).status == 200));
}

#[test]
fn shutdown_lets_running_requests_end_and_takes_no_new_ones() {
    let mut server = serve();
    server.control.hold();
    let whole = server.send_chat(false);
    until("the engine works", || server.control.forwards() == 1);
    let queued = admitted(&server);
    server.stop();
    until("nobody listens", || TcpStream::connect(server.address).is_err());
    server.control.release();
    assert_eq!(answer(whole).json()["choices"][0]["message"]["content"], ALPHABET);
    assert_eq!(said(queued), ALPHABET);
    server.ended().unwrap();
    assert!(!server.socket.exists(), "the socket file is removed");
}

#[test]
fn shutdown_cancels_what_does_not_end_in_time() {
    let mut server = serve_with(|runtime| runtime.slots = 1);
    server.control.hold();
    let running = server.send_chat(false);
    until("the engine works", || server.control.forwards() == 1);
    let queued = admitted(&server);
    let started = Instant::now();
    server.ended().unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(12), "took {took:?}");
    let cancelled = answer(running);
    assert_eq!((cancelled.status, cancelled.error().1), (503, json!("shutting_down")));
    assert!(answer(queued).text.contains("shutting_down"));
    assert_eq!(server.control.forwards(), 1, "the queued request never ran");
}

/// An inference without a server around it.
async fn inference(control: &Arc<Control>, slots: usize, patience: Duration) -> (tempfile::TempDir, Inference) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("letters")).unwrap();
    tiny_model::write(&dir.path().join("letters/model.gguf"));
    let options = LoadOptions::new(tiny_model::CONTEXT);
    let default = Some("letters".to_owned());
    let (dirs, loader) = (vec![dir.path().to_owned()], letters::loader(control.clone()));
    let registry = Arc::new(Registry::new(Settings {
        dirs,
        default,
        embedding: None,
        options,
        loader,
        trust: Trust::anything(),
        slots,
        budget: None,
        kept: None,
    }));
    registry.load("default").await.unwrap();
    let scheduler = Scheduler::start(slots, 100, patience).unwrap();
    registry.release_sessions_by(scheduler.releaser());
    let embedder = Embedder::new(registry.clone(), 0);
    (dir, Inference { registry, scheduler, embedder })
}

async fn start(inference: &Inference, prompt: &str, temperature: f32) -> Run {
    let request = Request {
        id: prompt.to_owned(),
        model: String::new(),
        input: Input::Text(prompt.to_owned()),
        sampling: Sampling { temperature, top_p: 1.0, seed: Some(1) },
        max_tokens: Some(400),
        stop: Vec::new(),
        expected: Expected::Text,
        logprobs: None,
        retention: Retention::Memory,
    };
    inference.start(request).await.unwrap().1
}

async fn finish(mut run: Run) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match run.next().await {
            Some(Event::Piece(piece)) => text.push_str(&piece.text),
            Some(Event::Done(_)) => return Ok(text),
            Some(Event::Failed(reason)) => return Err(reason.to_string()),
            None => return Err("no last event".to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_loses_its_slot() {
    let control = Arc::new(Control::default());
    let (_dir, inference) = inference(&control, 1, Duration::from_millis(200)).await;
    let idle = start(&inference, "a", 2.0).await;
    let next = start(&inference, "x", 0.0).await;
    // The idle one fills its channel, is waited for, and is given up; then the other's turn comes.
    assert_eq!(finish(next).await.unwrap(), "yz");
    let done = control.forwards();
    let reason = finish(idle).await.unwrap_err();
    assert!(reason.contains("taken for 0.2 s"), "its answer is cut, and it is told why: {reason}");
    assert_eq!(control.forwards(), done);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_run_in_the_order_of_their_arrival() {
    let control = Arc::new(Control::default());
    let (_dir, inference) = inference(&control, 1, Duration::from_secs(20)).await;
    control.hold();
    let mut runs = Vec::new();
    for length in 1..=10 {
        runs.push(start(&inference, &"x".repeat(length), 0.0).await);
    }
    control.release();
    for run in runs {
        finish(run).await.unwrap();
    }
    assert_eq!(control.prompts(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn unloading_waits_for_requests_and_gives_the_memory_back() {
    let control = Arc::new(Control::default());
    let (_dir, inference) = inference(&control, 1, Duration::from_secs(20)).await;
    let inference = Arc::new(inference);
    control.hold();
    let running = start(&inference, "x", 0.0).await;
    until("the engine works", || control.forwards() == 1);
    let waiting = start(&inference, "x", 0.0).await;
    let unloading = inference.clone();
    let unload = tokio::spawn(async move { unloading.registry.unload("default").await });
    let gone = || inference.registry.find("default").is_none();
    while !gone() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!unload.is_finished(), "a request still runs on it");
    control.release();
    for run in [running, waiting] {
        assert_eq!(finish(run).await.unwrap(), "yz");
    }
    let unloaded = tokio::time::timeout(http::PATIENCE, unload).await.expect("no session keeps the model");
    unloaded.unwrap().unwrap();
    assert_eq!(control.sessions(), 0);
}
