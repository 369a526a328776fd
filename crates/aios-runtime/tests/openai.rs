//! The OpenAI-compatible API over a real socket: what is answered.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http.rs"]
mod http;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/served.rs"]
mod served;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use letters::ALPHABET;
use serde_json::{Value, json};
use served::{chat, serve, serve_with};

fn with(mut body: Value, fields: &[(&str, Value)]) -> Value {
    for (key, value) in fields {
        body[*key] = value.clone();
    }
    body
}

fn text(prompt: &str) -> Value {
    json!({"model": "letters", "temperature": 0, "max_tokens": 5, "prompt": prompt})
}

#[test]
fn a_chat_is_answered_with_text_usage_and_timings() {
    let server = serve();
    let answer = server.post("/v1/chat/completions", &chat("hi"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    let body = answer.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("letters")));
    assert!(body["system_fingerprint"].as_str().unwrap().starts_with("aios-"));
    let choice = &body["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": ALPHABET, "refusal": null}));
    assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(0)));
    let (prompt, completion) = (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]);
    assert_eq!(*completion, 26);
    assert_eq!(body["usage"]["total_tokens"], json!(prompt.as_u64().unwrap() + 26));
    let timings = &body["timings"];
    assert_eq!((&timings["prompt_n"], &timings["predicted_n"]), (prompt, completion));
    for key in ["prompt_ms", "predicted_ms", "queue_ms"] {
        assert!(timings[key].as_f64().unwrap() >= 0.0, "{key}");
    }
    assert_eq!(answer.header("x-request-id").unwrap(), body["id"].as_str().unwrap().trim_start_matches("chatcmpl-"));
}

#[test]
fn a_streamed_chat_says_the_same_in_chunks() {
    let server = serve();
    let answer = server.post("/v1/chat/completions", &with(chat("hi"), &[("stream", json!(true))]));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")), "{answer:?}");
    let chunks = answer.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, ALPHABET);
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"][0]["finish_reason"], &last["choices"][0]["delta"]), (&json!("stop"), &json!({})));
    assert_eq!(last["timings"]["predicted_n"], 26);
    assert!(chunks.len() >= 10, "the answer came in {} chunks", chunks.len());
    for chunk in &chunks {
        assert_eq!((&chunk["object"], &chunk["id"]), (&json!("chat.completion.chunk"), &chunks[0]["id"]));
        assert!(chunk.get("usage").is_none());
    }
}

#[test]
fn usage_figures_of_a_stream_come_in_a_last_chunk_where_asked_for() {
    let server = serve();
    let fields = [("stream", json!(true)), ("stream_options", json!({"include_usage": true}))];
    for (path, body) in [("/v1/chat/completions", chat("hi")), ("/v1/completions", text("a"))] {
        let whole = server.post(path, &body).json();
        let chunks = server.post(path, &with(body, &fields)).chunks();
        let (last, others) = chunks.split_last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
        assert_eq!(last["timings"]["prompt_n"], whole["usage"]["prompt_tokens"]);
        assert!(others.iter().all(|chunk| chunk["usage"] == Value::Null && chunk.get("usage").is_some()));
        assert_eq!(others.last().unwrap()["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    }
}

#[test]
fn a_text_is_continued_whole_and_streamed() {
    let server = serve();
    let body = server.post("/v1/completions", &text("see c")).json();
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["choices"][0], json!({"index": 0, "text": "defgh", "logprobs": null, "finish_reason": "length"}));
    let details = json!({"cached_tokens": 0});
    let usage =
        json!({"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10, "prompt_tokens_details": details});
    assert_eq!(body["usage"], usage);
    let chunks = server.post("/v1/completions", &with(text("see c"), &[("stream", json!(true))])).chunks();
    let said: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(said, "defgh");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
}

#[test]
fn generation_ends_before_a_stop_sequence() {
    let server = serve();
    for (stop, expected) in
        [(json!("ef"), "abcd"), (json!(["xyz", "hij", "zzz", "q"]), "abcdefg"), (json!("nowhere"), ALPHABET)]
    {
        let body = with(chat("hi"), &[("stop", stop)]);
        let whole = server.post("/v1/chat/completions", &body).json();
        assert_eq!(whole["choices"][0]["message"]["content"], expected);
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        let chunks = server.post("/v1/chat/completions", &with(body, &[("stream", json!(true))])).chunks();
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, expected, "no part of the stop sequence may leak into the stream");
    }
}

#[test]
fn both_names_of_the_token_bound_bound() {
    let server = serve();
    for key in ["max_tokens", "max_completion_tokens"] {
        let body = server.post("/v1/chat/completions", &with(chat("hi"), &[(key, json!(3))])).json();
        assert_eq!(body["choices"][0]["message"]["content"], "abc");
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        assert_eq!(body["usage"]["completion_tokens"], 3);
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let server = serve();
    let draw = |seed: i64| {
        let fields = [("temperature", json!(2)), ("seed", json!(seed)), ("max_tokens", json!(40))];
        let body = server.post("/v1/completions", &with(text("a"), &fields)).json();
        body["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(draw(1), draw(1));
    assert_eq!(draw(-5), draw(-5));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_tiny_nucleus_leaves_only_the_likeliest() {
    let server = serve();
    for top_p in [json!(0), json!(0.01)] {
        let body = with(chat("hi"), &[("temperature", json!(1)), ("top_p", top_p)]);
        let body = server.post("/v1/chat/completions", &body).json();
        assert_eq!(body["choices"][0]["message"]["content"], ALPHABET);
    }
}

#[test]
fn loaded_models_are_listed_under_their_ids() {
    let server = serve();
    let body = server.get("/v1/models").json();
    assert_eq!(body["object"], "list");
    let ids: Vec<&str> = body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["default", "letters"]);
    for id in ids {
        let model = server.get(&format!("/v1/models/{id}")).json();
        assert_eq!((&model["id"], &model["object"], &model["owned_by"]), (&json!(id), &json!("model"), &json!("aios")));
        assert_eq!(model["aios"]["id"], "letters");
        assert!(model["aios"]["load_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(model["aios"]["context_length"], tiny_model::CONTEXT);
        assert!(!model["aios"]["arithmetic"].as_str().unwrap().is_empty());
        assert!(model["created"].as_u64().unwrap() > 1_600_000_000);
    }
    let answer = server.get("/v1/models/second");
    assert_eq!((answer.status, answer.error()), (404, (json!("model"), json!("model_not_found"))));
}

#[test]
fn what_cannot_be_answered_gets_an_error_object() {
    let server = serve();
    let long = "x".repeat(2 * tiny_model::CONTEXT);
    let json_type = [("Content-Type", "application/json")];
    let chats = "/v1/chat/completions";
    for (body, status, param, code) in [
        ("{\"model\":", 400, Value::Null, "invalid_json"),
        ("[]", 400, Value::Null, "invalid_json"),
        ("", 400, Value::Null, "invalid_json"),
        (&with(chat("hi"), &[("temperature", json!("hot"))]).to_string(), 400, json!("temperature"), "invalid_type"),
        (&with(chat("hi"), &[("n", json!(2))]).to_string(), 400, json!("n"), "unsupported_parameter"),
        (&with(chat("hi"), &[("surprise", json!(2))]).to_string(), 400, json!("surprise"), "unknown_parameter"),
        (&with(chat("hi"), &[("model", json!("nobody"))]).to_string(), 404, json!("model"), "model_not_found"),
        (&with(chat("hi"), &[("model", json!("second"))]).to_string(), 404, json!("model"), "model_not_found"),
        (&with(chat("hi"), &[("model", json!("../letters"))]).to_string(), 404, json!("model"), "model_not_found"),
        (&chat(&long).to_string(), 400, json!("messages"), "context_length_exceeded"),
    ] {
        let answer = server.request("POST", chats, &json_type, body);
        assert_eq!((answer.status, answer.error()), (status, (param, json!(code))), "{body}");
    }
    let answer = server.post("/v1/completions", &text(&long));
    assert_eq!((answer.status, answer.error()), (400, (json!("prompt"), json!("context_length_exceeded"))));
    let answer = server.post("/v1/completions", &text(""));
    assert_eq!((answer.status, answer.error()), (400, (json!("prompt"), json!("empty_prompt"))));
    assert_eq!(server.control.forwards(), 0, "none of these may reach the engine");
}

#[test]
fn unknown_routes_and_methods_get_an_error_object() {
    let server = serve();
    let answer = server.get("/v1/images/generations");
    assert_eq!((answer.status, answer.error()), (404, (Value::Null, json!("unknown_url"))));
    let answer = server.get("/v1/chat/completions");
    assert_eq!((answer.status, answer.error()), (405, (Value::Null, json!("method_not_allowed"))));
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = server.request("POST", "/v1/chat/completions", &[("Content-Type", "text/plain")], "{}");
    assert_eq!((answer.status, answer.error()), (415, (Value::Null, json!("unsupported_media_type"))));
}

#[test]
fn oversized_bodies_are_refused_announced_or_not() {
    let server = serve_with(|runtime| runtime.http.max_body = aios_core::quantity::ByteSize(2048));
    let answer = server.post("/v1/chat/completions", &chat(&"x".repeat(20_000)));
    assert_eq!((answer.status, answer.error()), (413, (Value::Null, json!("request_too_large"))));
    // Chunked: the length is not known beforehand.
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    use std::io::Write as _;
    stream.write_all(format!("{head}{}0\r\n\r\n", chunk.repeat(5)).as_bytes()).unwrap();
    let answer = http::answer(stream);
    assert_eq!((answer.status, answer.error()), (413, (Value::Null, json!("request_too_large"))));
}

#[test]
fn a_configured_token_is_asked_of_everything_but_health() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "correct-horse-battery").unwrap();
    let server = serve_with(|runtime| runtime.http.token_file = Some(file));
    assert_eq!(server.get("/v1/models").status, 200);
    assert_eq!(server.request("GET", "/health", &[("Authorization", "")], "").status, 200);
    for wrong in ["", "Bearer wrong-horse-battery", "correct-horse-battery", "Basic correct-horse-battery"] {
        for path in ["/v1/models", "/v1/none", "/v1/chat/completions"] {
            let answer = server.request("GET", path, &[("Authorization", wrong)], "");
            assert_eq!((answer.status, answer.error()), (401, (Value::Null, json!("invalid_api_key"))), "{wrong}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

#[test]
fn without_a_token_requests_by_foreign_host_names_are_refused() {
    let server = serve();
    let answer = server.request("GET", "/v1/models", &[("Host", "evil.example")], "");
    assert_eq!((answer.status, answer.error()), (403, (Value::Null, json!("forbidden_host"))));
    assert_eq!(server.request("GET", "/v1/models", &[("Host", "localhost")], "").status, 200);
}

#[test]
fn what_the_models_template_says_against_messages_reaches_the_client() {
    use candle_core::quantized::gguf_file::Value as Metadata;
    const KEY: &str = "tokenizer.chat_template";
    let strict = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}";
    let with_template = |template: Option<&str>| {
        serve_with(|runtime| {
            tiny_model::write_with(&runtime.model_dirs[0].join("letters/model.gguf"), |metadata, _| {
                metadata.retain(|(key, _)| key != KEY);
                metadata.extend(template.map(|text| (KEY.to_owned(), Metadata::String(text.to_owned()))));
            });
        })
    };
    let (strict, base) = (with_template(Some(strict)), with_template(None));
    let ask = |server: &served::Served, messages: Value| {
        let answer = server.post("/v1/chat/completions", &json!({"model": "letters", "messages": messages}));
        (answer.status, answer.json()["error"].clone())
    };
    let user = json!({"role": "user", "content": "hi"});
    let (status, error) = ask(&strict, json!([user, user]));
    assert_eq!((status, &error["code"]), (400, &json!("invalid_messages")));
    assert!(error["message"].as_str().unwrap().contains("roles must alternate"), "{error}");
    assert_eq!(ask(&strict, json!([user])).0, 200);
    let (status, error) = ask(&base, json!([user]));
    assert_eq!((status, &error["code"]), (400, &json!("invalid_messages")));
    assert!(error["message"].as_str().unwrap().contains("has no chat template; use plain completion"), "{error}");
    assert_eq!(base.post("/v1/completions", &text("a")).status, 200);
}
