//! The gRPC API over its Unix socket.

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

use std::path::Path;

use aios_api::runtime::v1::{
    Conversation, CountTokensRequest, EmbedRequest, FinishReason, Form, InferRequest, ListModelsRequest,
    LoadModelRequest, Message, ModelState, Role, Sampling, UnloadModelRequest, form, infer_request::Input,
    runtime_service_client::RuntimeServiceClient, stream_infer_response::Event,
};
use http::until;
use letters::ALPHABET;
use served::{serve, serve_with};
use tokio_stream::StreamExt as _;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn channel(socket: &Path) -> Channel {
    aios_service::dial(socket).await.unwrap()
}

fn chat(text: &str) -> InferRequest {
    let message = Message { role: Role::User.into(), content: text.to_owned() };
    InferRequest {
        input: Some(Input::Conversation(Conversation { messages: vec![message] })),
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        ..InferRequest::default()
    }
}

fn prompt(text: &str) -> InferRequest {
    InferRequest { input: Some(Input::Prompt(text.to_owned())), ..chat("") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_answered() {
    let server = serve();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let answer = client.infer(chat("hi")).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.model.as_str()), (ALPHABET, "letters"));
    assert_eq!(answer.finish_reason(), FinishReason::Stop);
    let usage = answer.usage.unwrap();
    assert_eq!(usage.completion_tokens, 26);
    assert!(usage.prompt_tokens > 2);
    assert!(answer.timings.unwrap().prompt_ms > 0.0);

    let request = InferRequest { stop: vec!["hi".to_owned()], max_tokens: Some(20), ..prompt("a") };
    let answer = client.infer(request).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.finish_reason()), ("bcdefg", FinishReason::Stop));
    let answer = client.infer(InferRequest { max_tokens: Some(2), ..prompt("a") }).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.finish_reason()), ("bc", FinishReason::Length));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_ends_with_its_figures() {
    let server = serve();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let mut stream = client.stream_infer(chat("hi")).await.unwrap().into_inner();
    let (mut text, mut done) = (String::new(), None);
    while let Some(response) = stream.next().await {
        match response.unwrap().event.unwrap() {
            Event::Text(piece) => text.push_str(&piece),
            Event::Done(figures) => assert!(done.replace(figures).is_none()),
        }
    }
    let done = done.unwrap();
    assert_eq!((text.as_str(), done.model.as_str()), (ALPHABET, "letters"));
    assert_eq!((done.finish_reason(), done.usage.unwrap().completion_tokens), (FinishReason::Stop, 26));
}

fn formed(form: form::Form) -> InferRequest {
    InferRequest { form: Some(Form { form: Some(form) }), max_tokens: Some(40), ..chat("hi") }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_form_that_is_asked_for() {
    let server = serve();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let texts = vec!["mno".to_owned(), "xyz".to_owned()];
    for (form, expected) in [
        (form::Form::JsonSchema(r#"{"enum": ["abc", "x"]}"#.to_owned()), "\"abc\""),
        (form::Form::Regex("[b-f]+g".to_owned()), "bcdefg"),
        (form::Form::Choice(form::Choice { texts }), "mno"),
        (form::Form::Grammar("start: \"ab\" /[0-9]/".to_owned()), "ab0"),
    ] {
        let answer = client.infer(formed(form)).await.unwrap().into_inner();
        assert_eq!((answer.text.as_str(), answer.finish_reason()), (expected, FinishReason::Stop));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_never_succeed_are_invalid() {
    let server = serve();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let sampling = |temperature, top_p| Some(Sampling { temperature, top_p, seed: None });
    let nobody = Message { role: Role::Unspecified.into(), content: "hi".to_owned() };
    for (request, code) in [
        (InferRequest::default(), Code::InvalidArgument),
        (InferRequest { sampling: sampling(Some(2.5), None), ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { sampling: sampling(Some(f32::NAN), None), ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { sampling: sampling(None, Some(0.0)), ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { max_tokens: Some(0), ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { stop: vec![String::new()], ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { stop: vec!["a".to_owned(); 5], ..chat("hi") }, Code::InvalidArgument),
        (InferRequest { input: Some(Input::Conversation(Conversation::default())), ..chat("") }, Code::InvalidArgument),
        (
            InferRequest {
                input: Some(Input::Conversation(Conversation { messages: vec![nobody] })),
                ..InferRequest::default()
            },
            Code::InvalidArgument,
        ),
        (prompt(""), Code::InvalidArgument),
        (prompt(&"x".repeat(tiny_model::CONTEXT)), Code::InvalidArgument),
        (InferRequest { model: "nobody".to_owned(), ..chat("hi") }, Code::NotFound),
        (InferRequest { model: "second".to_owned(), ..chat("hi") }, Code::NotFound),
        (formed(form::Form::JsonSchema("{".to_owned())), Code::InvalidArgument),
        (formed(form::Form::JsonSchema("7".to_owned())), Code::InvalidArgument),
        (formed(form::Form::JsonSchema(r#"{"type": "strange"}"#.to_owned())), Code::InvalidArgument),
        (formed(form::Form::Regex("a(".to_owned())), Code::InvalidArgument),
        (formed(form::Form::Choice(form::Choice::default())), Code::InvalidArgument),
        (InferRequest { form: Some(Form::default()), ..chat("hi") }, Code::InvalidArgument),
        (chat(letters::PANIC), Code::Internal),
    ] {
        let status = client.infer(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{request:?}: {status}");
        assert!(!status.message().is_empty());
    }
    assert_eq!(client.infer(chat("hi")).await.unwrap().into_inner().text, ALPHABET);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_loaded_listed_and_unloaded() {
    let server = serve();
    let broken = server.dir.path().join("models/broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("model.gguf"), "no model").unwrap();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let load = |model: &str| LoadModelRequest { model: model.to_owned() };
    let unload = |model: &str| UnloadModelRequest { model: model.to_owned() };

    let loaded = client.load_model(load("second")).await.unwrap().into_inner().model.unwrap();
    assert_eq!((loaded.id.as_str(), loaded.state(), loaded.is_default), ("second", ModelState::Loaded, false));
    assert_eq!(loaded.architecture, "llama");
    let answer = client.infer(InferRequest { model: "second".to_owned(), ..chat("hi") }).await.unwrap().into_inner();
    assert_eq!(answer.model, "second");
    assert_eq!(client.load_model(load("broken")).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(client.load_model(load("nobody")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.load_model(load("../models/letters")).await.unwrap_err().code(), Code::NotFound);

    client.unload_model(unload("default")).await.unwrap();
    assert_eq!(client.unload_model(unload("letters")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.infer(chat("hi")).await.unwrap_err().code(), Code::NotFound);
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    let seen: Vec<_> = models.iter().map(|m| (m.id.as_str(), m.state(), m.is_default)).collect();
    let expected = [
        ("broken", ModelState::Failed, false),
        ("letters", ModelState::Available, true),
        ("second", ModelState::Loaded, false),
    ];
    assert_eq!(seen, expected);
    assert!(models[0].error.contains("broken"), "{}", models[0].error);

    let loaded = client.load_model(load("")).await.unwrap().into_inner().model.unwrap();
    assert_eq!((loaded.id.as_str(), loaded.is_default), ("letters", true));
    assert_eq!(client.infer(chat("hi")).await.unwrap().into_inner().text, ALPHABET);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_stops_the_engine() {
    let server = serve();
    let client = RuntimeServiceClient::new(channel(&server.socket).await);
    for (round, streamed) in [true, false].into_iter().enumerate() {
        server.control.hold();
        let before = server.control.forwards();
        let mut caller = client.clone();
        let call = tokio::spawn(async move {
            if streamed {
                let mut stream = caller.stream_infer(chat("hi")).await.unwrap().into_inner();
                let _ = stream.next().await;
            } else {
                let _ = caller.infer(chat("hi")).await;
            }
        });
        until("the engine works", || server.control.forwards() > before);
        call.abort();
        until("the engine was told to stop", || server.control.cancelled() == round + 1);
        server.control.release();
        let mut client = client.clone();
        assert_eq!(client.infer(chat("hi")).await.unwrap().into_inner().text, ALPHABET);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_an_exhausted_resource() {
    let server = serve_with(|runtime| (runtime.slots, runtime.queue) = (1, 0));
    let client = RuntimeServiceClient::new(channel(&server.socket).await);
    server.control.hold();
    let mut caller = client.clone();
    let call = tokio::spawn(async move { caller.infer(chat("hi")).await });
    until("the engine works", || server.control.forwards() == 1);
    for _ in 0..3 {
        let status = client.clone().infer(chat("hi")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let status = client.clone().stream_infer(chat("hi")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
    server.control.release();
    assert_eq!(call.await.unwrap().unwrap().into_inner().text, ALPHABET);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() {
    let server = serve();
    let channel = channel(&server.socket).await;
    for service in ["", "aios.runtime.v1.RuntimeService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service:?}");
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let mut ask = async |question: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.next().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list of services");
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"aios.runtime.v1.RuntimeService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let symbol = "aios.runtime.v1.RuntimeService.StreamInfer".to_owned();
    let answer = ask(MessageRequest::FileContainingSymbol(symbol)).await;
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_open_to_owner_and_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = serve();
    assert_eq!(std::fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o660);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_as_inference_counts_them() {
    let server = serve();
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let Some(Input::Conversation(conversation)) = chat("hi, <eos> there").input else { panic!() };
    let request = |model: &str, texts: &[&str]| CountTokensRequest {
        model: model.into(),
        texts: texts.iter().map(|&text| text.to_owned()).collect(),
        conversation: Some(conversation.clone()),
    };
    let counted = client.count_tokens(request("", &["", "abc", "abc de"])).await.unwrap().into_inner();
    assert_eq!((counted.model.as_str(), counted.texts.len(), counted.texts[0]), ("letters", 3, 0));
    assert!(counted.texts[1] > 0 && counted.texts[1] < counted.texts[2] && counted.context_length > 0);
    let mut read = Vec::new();
    for request in [chat("hi, <eos> there"), prompt("abc"), prompt("abc de")] {
        let answer = client.infer(InferRequest { max_tokens: Some(1), ..request }).await.unwrap().into_inner();
        read.push(answer.usage.unwrap().prompt_tokens);
    }
    // A prompt may have a token for its beginning besides.
    assert_eq!((counted.conversation, counted.texts[2] - counted.texts[1]), (read[0], read[2] - read[1]));
    for (bad, code) in [
        (request("nobody", &["a"]), Code::NotFound),
        (CountTokensRequest { texts: vec![String::new(); 2049], ..request("", &[]) }, Code::InvalidArgument),
        (CountTokensRequest { conversation: Some(Conversation::default()), ..request("", &[]) }, Code::InvalidArgument),
    ] {
        assert_eq!(client.count_tokens(bad).await.unwrap_err().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_embedded() {
    let server = serve_with(|runtime| {
        runtime.embedding_model = "tiny-bert".into();
        tiny_bert::write(&runtime.model_dirs[0].join("tiny-bert"));
    });
    let mut client = RuntimeServiceClient::new(channel(&server.socket).await);
    let request = |texts: &[&str]| EmbedRequest {
        model: String::new(),
        texts: texts.iter().map(|&text| text.to_owned()).collect(),
    };
    let answer = client.embed(request(&["a b c", "a b", "a b c"])).await.unwrap().into_inner();
    assert_eq!((answer.model.as_str(), answer.prompt_tokens, answer.embeddings.len()), ("tiny-bert", 8, 3));
    assert_eq!((&answer.embeddings[0], answer.cached_tokens), (&answer.embeddings[2], 0));
    let again = client.embed(request(&["a b", "c", "a b c"])).await.unwrap().into_inner();
    assert_eq!((again.prompt_tokens, again.cached_tokens), (6, 5), "what was embedded is not computed again");
    assert_eq!([&again.embeddings[0], &again.embeddings[2]], [&answer.embeddings[1], &answer.embeddings[0]]);
    for embedding in &answer.embeddings {
        assert_eq!(embedding.values.len(), tiny_bert::DIMENSIONS);
        let length: f32 = embedding.values.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    for (bad, code) in [
        (request(&[]), Code::InvalidArgument),
        (request(&["a", ""]), Code::InvalidArgument),
        (EmbedRequest { model: "letters".into(), ..request(&["a"]) }, Code::NotFound),
    ] {
        assert_eq!(client.embed(bad).await.unwrap_err().code(), code);
    }
}
