//! Forms, tools and probabilities over HTTP, around an engine that the test controls.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http.rs"]
mod http;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/served.rs"]
mod served;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use http::Answer;
use letters::{ALPHABET, CALLER};
use serde_json::{Value, json};
use served::{Served, chat, serve_with};

const CHATS: &str = "/v1/chat/completions";

/// A server whose model has room for the description of tools.
fn serve() -> Served {
    serve_with(|runtime| {
        tiny_model::write_for_context(&runtime.model_dirs[0].join("letters/model.gguf"), 4096);
    })
}

fn asked(server: &Served, text: &str, fields: Value) -> Answer {
    let mut body = chat(text);
    fields.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    server.post(CHATS, &body)
}

fn tools() -> Value {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "description": "does it", "parameters": parameters}});
    let letter = json!({
        "type": "object", "required": ["letter", "note"],
        "properties": {"letter": {"enum": ["a", "b"]}, "note": {"const": "}\"</tool_call>{"}},
    });
    json!([tool("pick", letter), tool("stop", json!({"type": "object", "properties": {}}))])
}

/// What a stream's chunks say when they are put together: text, calls as `(id, name, arguments)`, finish reason.
fn joined(chunks: &[Value]) -> (String, Vec<(String, String, String)>, Value) {
    let (mut text, mut calls) = (String::new(), Vec::<(String, String, String)>::new());
    for choice in chunks.iter().map(|chunk| &chunk["choices"][0]) {
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert_eq!((&call["type"], &call["function"]["arguments"]), (&json!("function"), &json!("")));
                let of = |value: &Value| value.as_str().unwrap().to_owned();
                calls.push((of(&call["id"]), of(&call["function"]["name"]), String::new()));
            } else {
                assert_eq!(call.as_object().unwrap().len(), 2, "a later delta has index and arguments alone: {call}");
                calls[index].2 += call["function"]["arguments"].as_str().unwrap();
            }
        }
    }
    (text, calls, chunks.last().unwrap()["choices"][0]["finish_reason"].clone())
}

#[test]
fn an_answer_has_the_form_that_is_asked_for() {
    let server = serve();
    let schema = json!({"type": "object", "required": ["word"], "properties": {"word": {"enum": ["abc", "xyz"]}}});
    for (fields, expected) in [
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "w", "strict": true, "schema": schema}}}),
            "{\"word\": \"abc\"}",
        ),
        (json!({"structured_outputs": {"json": schema}}), "{\"word\": \"abc\"}"),
        (json!({"structured_outputs": {"regex": "[b-f]+g"}}), "bcdefg"),
        (json!({"structured_outputs": {"choice": ["mno", "xyz"]}}), "mno"),
        (json!({"structured_outputs": {"grammar": "start: A+ \"!\"\nA: /[a-c]/"}}), "abc!"),
        (json!({"response_format": {"type": "text"}}), ALPHABET),
    ] {
        let body = asked(&server, "hi", fields.clone()).json();
        assert_eq!(body["choices"][0]["message"]["content"], expected, "{fields}");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        let mut streamed = fields.clone();
        streamed["stream"] = json!(true);
        let (text, calls, finish) = joined(&asked(&server, "hi", streamed).chunks());
        assert_eq!((text.as_str(), calls.len(), finish), (expected, 0, json!("stop")));
        let mut body = json!({"model": "default", "prompt": "hi", "temperature": 0, "max_tokens": 60});
        fields.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let text = server.post("/v1/completions", &body).json();
        let expected = if expected == ALPHABET { &ALPHABET[9..] } else { expected };
        assert_eq!(text["choices"][0]["text"], expected, "the letter after i, where it is free to come");
    }
}

#[test]
fn a_form_that_can_not_be_followed_is_a_bad_request() {
    let server = serve();
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    for (fields, param, part) in [
        (schema(json!({"type": "strange"})), "response_format", "strange"),
        (schema(json!({"properties": {"a": {"enum": 3}}})), "response_format", "enum"),
        (json!({"structured_outputs": {"regex": "a("}}), "structured_outputs", "unclosed"),
        (json!({"structured_outputs": {"grammar": "start: nobody"}}), "structured_outputs", "nobody"),
        (
            json!({"tool_choice": "required", "tools": [
                {"type": "function", "function": {"name": "good", "parameters": {"type": "object"}}},
                {"type": "function", "function": {"name": "bad", "parameters": {"type": "thing"}}},
            ]}),
            "tools[1].function.parameters",
            "thing",
        ),
    ] {
        let answer = asked(&server, "hi", fields.clone());
        assert_eq!((answer.status, answer.error()), (400, (json!(param), json!("invalid_schema"))), "{fields}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part) && message.contains(param), "{message}");
    }
    assert_eq!(server.control.forwards(), 0);
}

#[test]
fn a_tool_is_called_where_one_must_be() {
    let server = serve();
    let named = json!({"type": "function", "function": {"name": "stop"}});
    for (choice, name, arguments) in
        [(json!("required"), "pick", json!({"letter": "a", "note": "}\"</tool_call>{"})), (named, "stop", json!({}))]
    {
        let fields = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false});
        let body = asked(&server, "hi", fields.clone()).json();
        let (message, finish) = (&body["choices"][0]["message"], &body["choices"][0]["finish_reason"]);
        assert_eq!((&message["content"], finish), (&Value::Null, &json!("tool_calls")), "{body}");
        let call = &message["tool_calls"][0];
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!(name)));
        let said = call["function"]["arguments"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(said).unwrap(), arguments);

        let mut streamed = fields;
        streamed["stream"] = json!(true);
        let (text, calls, finish) = joined(&asked(&server, "hi", streamed).chunks());
        assert_eq!((text.as_str(), calls.len(), finish), ("", 1, json!("tool_calls")));
        assert_eq!((calls[0].1.as_str(), calls[0].2.as_str()), (name, said));
    }
}

#[test]
fn where_it_may_call_the_model_answers_or_calls() {
    let server = serve();
    let fields = json!({"tools": tools(), "parallel_tool_calls": false});
    let body = asked(&server, "hi", fields.clone()).json();
    assert_eq!(body["choices"][0]["message"]["content"], ALPHABET);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["choices"][0]["message"].get("tool_calls").is_none());

    let body = asked(&server, CALLER, fields.clone()).json();
    let message = &body["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["tool_calls"][0]["function"]["name"]),
        (&json!("ok "), &json!("pick")),
        "{body}"
    );
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let (text, calls, finish) = joined(&asked(&server, CALLER, streamed).chunks());
    assert_eq!((text.as_str(), calls.len(), finish), ("ok ", 1, json!("tool_calls")));

    let none = json!({"tools": tools(), "tool_choice": "none"});
    let body = asked(&server, "hi", none).json();
    assert_eq!(body["choices"][0]["message"]["content"], ALPHABET);
}

#[test]
fn a_call_that_is_cut_off_is_no_whole_call() {
    let server = serve();
    let fields = json!({"tools": tools(), "tool_choice": "required", "max_tokens": 48});
    let body = asked(&server, "hi", fields).json();
    assert_eq!(body["choices"][0]["finish_reason"], "length", "{body}");
    assert_eq!(body["usage"]["completion_tokens"], 48);
}

#[test]
fn results_of_tools_are_taken_as_messages() {
    let server = serve();
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "pick", "arguments": "{\"letter\": \"a\"}"}});
    let messages = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]);
    let answer = asked(&server, "hi", json!({"messages": messages}));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], ALPHABET, "{answer:?}");
}

#[test]
fn probabilities_have_the_apis_shape_whole_and_streamed() {
    let server = serve();
    let fields = json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 3});
    let body = asked(&server, "hi", fields.clone()).json();
    let content = body["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let tokens: Vec<&str> = content.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["a", "b", "c"]);
    // One logit is 8, the others 0.
    let others = (tiny_model_vocabulary() - 1) as f64;
    let expected = -(1.0 + others * (-8f64).exp()).ln();
    for entry in &content {
        assert!((entry["logprob"].as_f64().unwrap() - expected).abs() < 1e-4, "{entry}");
        assert_eq!(entry["bytes"], json!(entry["token"].as_str().unwrap().as_bytes()));
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (2, &entry["token"]));
        assert!((top[1]["logprob"].as_f64().unwrap() - (expected - 8.0)).abs() < 1e-4);
    }
    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let chunks = asked(&server, "hi", streamed).chunks();
    let of = |chunk: &Value| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default();
    assert_eq!(chunks.iter().flat_map(of).collect::<Vec<_>>(), content);

    let text = json!({"model": "default", "prompt": "a", "temperature": 0, "max_tokens": 3, "logprobs": 1});
    let choice = server.post("/v1/completions", &text).json()["choices"][0].clone();
    assert_eq!(choice["logprobs"]["tokens"], json!(["b", "c", "d"]));
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 1, 2]));
    assert_eq!(choice["logprobs"]["token_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(choice["logprobs"]["top_logprobs"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(asked(&server, "hi", json!({})).json()["choices"][0]["logprobs"], Value::Null);
}

/// Tokens of the tiny model: control tokens, bytes and merged ones.
fn tiny_model_vocabulary() -> usize {
    3 + 256 + 2
}
