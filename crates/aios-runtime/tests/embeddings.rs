//! Embeddings: the arithmetic against candle's own BERT and against published weights, and both protocols.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/factory_model.rs"]
mod factory_model;
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

use std::{fs, path::Path, sync::atomic::AtomicBool, time::Duration};

use aios_core::quantity::{ByteSize, HumanDuration};
use aios_models::{
    manifest::{EMBEDDING_PARTS, Manifest},
    trust,
};
use aios_runtime::embedding::{EmbedError, EmbeddingModel, Input};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use http::until;
use serde_json::{Value, json};
use served::{Served, serve_with};

fn text(text: &str) -> Input {
    Input::Text(text.to_owned())
}

fn embed(model: &EmbeddingModel, inputs: &[Input]) -> (Vec<Vec<f32>>, usize) {
    let made = model.embed(inputs, &AtomicBool::new(false)).unwrap();
    (made.vectors, made.tokens)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "value {index}: {found} and {expected}");
    }
}

fn tiny() -> (tempfile::TempDir, EmbeddingModel) {
    let dir = tempfile::tempdir().unwrap();
    tiny_bert::write(dir.path());
    let model = EmbeddingModel::load(dir.path()).unwrap();
    (dir, model)
}

/// What candle's own BERT makes of the tiny model's tokens.
fn reference(tokens: &[u32]) -> Vec<f32> {
    let config: Config = serde_json::from_value(tiny_bert::config()).unwrap();
    let weights = VarBuilder::from_tensors(tiny_bert::tensors(), DType::F32, &Device::Cpu);
    let model = BertModel::load(weights, &config).unwrap();
    let tokens = [&tiny_bert::ENDS[..1], tokens, &tiny_bert::ENDS[1..]].concat();
    let ids = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let values = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    let mean: Vec<f32> = values.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
    let length = cosine(&mean, &mean).sqrt();
    mean.iter().map(|value| value / length).collect()
}

#[test]
fn vectors_are_those_of_candle_transformers_alone_and_in_batches() {
    let (_dir, model) = tiny();
    let words: Vec<Vec<char>> = (1..=tiny_bert::LONGEST - 2)
        .map(|length| (0..length).map(|index| (b'a' + (length * 7 + index * 5) as u8 % 26) as char).collect())
        .collect();
    let texts = words.iter().map(|word| word.iter().flat_map(|letter| [*letter, ' ']).collect::<String>());
    let texts: Vec<Input> = texts.map(|letters| text(&letters)).collect();
    let tokens: Vec<Vec<u32>> =
        words.iter().map(|word| word.iter().map(|&letter| tiny_bert::letter(letter)).collect()).collect();
    let (vectors, count) = embed(&model, &texts);
    assert_eq!(count, words.iter().map(Vec::len).sum::<usize>());
    let of_tokens: Vec<Input> = tokens.iter().cloned().map(Input::Tokens).collect();
    // A model that has computed nothing yet.
    let (_other_dir, alone) = tiny();
    assert_eq!(embed(&tiny().1, &of_tokens).0, vectors, "tokens and the text that they are of");
    for ((vector, tokens), text) in vectors.iter().zip(&tokens).zip(&texts) {
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
        assert_near(vector, &reference(tokens), 2e-5);
        assert_near(&embed(&alone, std::slice::from_ref(text)).0[0], vector, 2e-5);
    }
}

#[test]
fn what_is_longer_than_the_model_reads_is_cut_off() {
    let (_dir, model) = tiny();
    let (read, longer) = ("a b ".repeat(19), "a b ".repeat(19) + "c d e");
    let (vectors, count) = embed(&model, &[text(&read), text(&longer)]);
    assert_eq!(vectors[0], vectors[1]);
    assert_eq!(count, 2 * (tiny_bert::LONGEST - 2));
}

#[test]
fn a_token_beyond_the_vocabulary_and_a_client_that_has_gone_are_errors() {
    let (_dir, model) = tiny();
    let inputs = [text("a"), Input::Tokens(vec![1, 900])];
    let error = model.embed(&inputs, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error, EmbedError::UnknownToken { input: 1, token: 900, vocabulary: tiny_bert::VOCABULARY });
    assert_eq!(model.embed(&inputs[..1], &AtomicBool::new(true)), Err(EmbedError::Cancelled));
}

/// A file of a model, and what is done to it.
type Spoiled = (&'static str, fn(&Path));

#[test]
fn files_that_cannot_be_used_are_named() {
    let spoil: [Spoiled; 8] = [
        ("config.json", |path| fs::remove_file(path).unwrap()),
        ("config.json", |path| fs::write(path, "{}").unwrap()),
        ("config.json", |path| {
            let mut config = tiny_bert::config();
            config["num_attention_heads"] = json!(0);
            fs::write(path, config.to_string()).unwrap();
        }),
        ("config.json", |path| {
            let mut config = tiny_bert::config();
            config["model_type"] = json!("roberta");
            fs::write(path, config.to_string()).unwrap();
        }),
        ("tokenizer.json", |path| fs::write(path, "[]").unwrap()),
        ("sentence_bert_config.json", |path| fs::write(path, "{\"max_seq_length\": -1}").unwrap()),
        ("model.safetensors", |path| fs::write(path, [0xff; 64]).unwrap()),
        ("model.safetensors", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ];
    for (file, spoil) in spoil {
        let dir = tempfile::tempdir().unwrap();
        tiny_bert::write(dir.path());
        spoil(&dir.path().join(file));
        let error = EmbeddingModel::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains(file), "{error}");
    }
}

/// Figures of a reference in double precision, written in Python for this test: all operations by numpy from the tensors of
/// the file, tokens by the `tokenizers` package.
#[test]
fn minilm_gives_the_vectors_of_an_independent_implementation() {
    let model = EmbeddingModel::load(&factory_model::embeddings()).unwrap();
    let long: Vec<String> =
        (0..60).map(|index| format!("The pump in building seven reports a pressure of {index} millibar.")).collect();
    let texts = [
        text("A man is eating food."),
        text("A man is eating a piece of bread."),
        text("The girl is carrying a baby."),
        text("Ein Mann isst ein Stück Brot, für 3,50 € – naïve café!"),
        text(&long.join(" ")),
    ];
    let (vectors, tokens) = embed(&model, &texts);
    assert_eq!(tokens, 6 + 9 + 7 + 18 + 254);
    for (vector, first) in vectors.iter().zip([
        [0.033242, 0.004406, -0.006277, 0.048379, -0.138702, -0.033617],
        [0.052518, 0.055241, -0.011188, -0.005745, -0.127208, -0.022252],
        [-0.036309, -0.035653, -0.027223, 0.03832, 0.070778, -0.01658],
        [0.02257, 0.042215, -0.00476, 0.012604, 0.019715, 0.044692],
        [-0.053011, -0.00654, -0.041421, -0.021721, -0.076457, -0.01431],
    ]) {
        assert_eq!(vector.len(), 384);
        assert_near(vector, &first, 1e-5);
    }
    for (a, b, expected) in [(0, 1, 0.75534), (0, 2, -0.10496), (1, 3, 0.16497), (0, 4, -0.1033)] {
        let found = cosine(&vectors[a], &vectors[b]);
        assert!((found - expected).abs() < 2e-5, "{a} and {b}: {found} and {expected}");
    }
}

fn serve() -> Served {
    serve_with(|runtime| {
        runtime.embedding_model = "tiny-bert".into();
        tiny_bert::write(&runtime.model_dirs[0].join("tiny-bert"));
    })
}

fn vector(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

#[test]
fn texts_are_answered_with_vectors_in_their_order() {
    let server = serve();
    let body = json!({"model": "tiny-bert", "input": ["b a", "a", "a b c d", "b a"]});
    let answer = server.post("/v1/embeddings", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("tiny-bert")));
    assert_eq!(body["usage"], json!({"prompt_tokens": 9, "total_tokens": 9}));
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 4);
    for (index, item) in data.iter().enumerate() {
        assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
    }
    let [b, a] = ['b', 'a'].map(tiny_bert::letter);
    assert_near(&vector(&data[0]["embedding"]), &reference(&[b, a]), 2e-5);
    assert_near(&vector(&data[1]["embedding"]), &reference(&[a]), 2e-5);
    assert_eq!(data[0]["embedding"], data[3]["embedding"]);

    let packed = server.post(
        "/v1/embeddings",
        &json!({"model": "default", "input": [b, a], "encoding_format": "base64", "dimensions": 24}),
    );
    let packed = packed.json();
    let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_near(&numbers, &reference(&[b, a]), 2e-5);
    assert_eq!(packed["usage"]["prompt_tokens"], 2);
}

#[test]
fn requests_at_once_are_all_answered() {
    let server = serve();
    let address = server.address;
    let ask = |index: usize| {
        let body = json!({"model": "tiny-bert", "input": vec!["a b c"; index + 1]});
        std::thread::spawn(move || http::post(address, "/v1/embeddings", &body))
    };
    let asked: Vec<_> = (0..8).map(ask).collect();
    for (index, asked) in asked.into_iter().enumerate() {
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.json()["data"].as_array().unwrap().len()), (200, index + 1));
    }
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let server = serve();
    let refused = |body: Value| {
        let answer = server.post("/v1/embeddings", &body);
        let error = answer.json();
        (answer.status, error["error"]["param"].clone(), error["error"]["code"].clone())
    };
    let body = |input: Value| json!({"model": "tiny-bert", "input": input});
    assert_eq!(refused(json!({"model": "letters", "input": "a"})), (404, json!("model"), json!("model_not_found")));
    assert_eq!(refused(body(json!(""))), (400, json!("input"), json!("empty_string")));
    assert_eq!(refused(body(json!([[4], [99]]))), (400, json!("input[1]"), json!("invalid_value")));
    let mut shorter = body(json!("a"));
    shorter["dimensions"] = json!(12);
    assert_eq!(refused(shorter), (400, json!("dimensions"), json!("unsupported_parameter")));
    assert_eq!(server.get("/v1/embeddings").status, 405);
    // A text that the tokenizer makes nothing of is one of no words, not an error.
    assert_eq!(server.post("/v1/embeddings", &body(json!("\u{1}"))).status, 200);
}

#[test]
fn a_model_that_is_missing_or_broken_fails_the_request_alone() {
    let server = serve_with(|runtime| runtime.embedding_model = "none".into());
    let answer = server.post("/v1/embeddings", &json!({"model": "default", "input": "a"}));
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (404, json!("model_not_found")));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("none/model.safetensors"));
    // Once it is there, it is found.
    let dir = server.dir.path().join("models/none");
    tiny_bert::write(&dir);
    fs::write(dir.join("config.json"), "{}").unwrap();
    let answer = server.post("/v1/embeddings", &json!({"model": "default", "input": "a"}));
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (500, json!("model_failed")));
    tiny_bert::write(&dir);
    assert_eq!(server.post("/v1/embeddings", &json!({"model": "default", "input": "a"})).status, 200);
    let off = serve_with(|runtime| runtime.embedding_model = String::new());
    assert_eq!(off.post("/v1/embeddings", &json!({"model": "default", "input": "a"})).status, 404);
}

fn ask(server: &Served) -> http::Answer {
    server.post("/v1/embeddings", &json!({"model": "default", "input": "a"}))
}

/// The embedding model's object in the list of models.
fn listed(server: &Served) -> Option<Value> {
    let models = server.get("/v1/models").json();
    models["data"].as_array().unwrap().iter().find(|model| model["id"] == "tiny-bert").cloned()
}

#[test]
fn it_is_listed_with_its_kind_in_memory_or_not() {
    let server = serve();
    let model = listed(&server).unwrap();
    let size = fs::metadata(server.dir.path().join("models/tiny-bert/model.safetensors")).unwrap().len();
    let expected = json!({"id": "tiny-bert", "kind": "embedding", "loaded": false, "size_bytes": size});
    assert_eq!((&model["object"], &model["aios"]), (&json!("model"), &expected));
    assert_eq!(server.get("/v1/models/letters").json()["aios"]["kind"], "language");
    assert_eq!(ask(&server).status, 200);
    let model = server.get("/v1/models/tiny-bert").json();
    assert_eq!(Some(&model), listed(&server).as_ref());
    assert_eq!((&model["aios"]["loaded"], &model["aios"]["dimensions"]), (&json!(true), &json!(24)));
    assert_eq!(model["aios"]["context_length"], tiny_bert::LONGEST);
    let answer = server
        .post("/v1/chat/completions", &json!({"model": "tiny-bert", "messages": [{"role": "user", "content": "a"}]}));
    assert_eq!(answer.error(), (json!("model"), json!("model_not_found")), "it answers nothing");
    let none = serve_with(|runtime| runtime.embedding_model = "none".into());
    assert!(listed(&none).is_none());
}

#[test]
fn it_leaves_memory_when_it_is_idle_and_comes_back() {
    let server = serve_with(|runtime| {
        runtime.embedding_model = "tiny-bert".into();
        runtime.idle_unload = HumanDuration(Duration::from_millis(300));
        tiny_bert::write(&runtime.model_dirs[0].join("tiny-bert"));
    });
    for _ in 0..2 {
        assert_eq!(ask(&server).status, 200);
        until("it is unloaded", || listed(&server).unwrap()["aios"]["loaded"] == false);
    }
}

/// Serves with room for the embedding model, and so many bytes more.
fn serve_within(more: i64) -> Served {
    serve_with(|runtime| {
        runtime.embedding_model = "tiny-bert".into();
        let dir = runtime.model_dirs[0].join("tiny-bert");
        tiny_bert::write(&dir);
        let needs = EmbeddingModel::needs(&dir).unwrap();
        runtime.prefix_cache = ByteSize(0);
        runtime.memory_budget = ByteSize(needs.saturating_add_signed(more));
    })
}

#[test]
fn it_shares_the_budget_of_memory_with_the_other_models() {
    let server = serve_within(1000);
    let ask_other =
        || server.post("/v1/completions", &json!({"model": "letters", "prompt": "x", "temperature": 0})).status;
    let loaded = || server.get("/v1/models/letters").status == 200;
    assert!(loaded() && listed(&server).unwrap()["aios"]["loaded"] == false);
    for _ in 0..2 {
        assert_eq!(ask(&server).status, 200);
        assert!(!loaded(), "the other one made room");
        assert_eq!(ask_other(), 200);
        assert_eq!(listed(&server).unwrap()["aios"]["loaded"], false, "and took it back");
    }

    server.control.hold();
    let before = server.control.forwards();
    let running = server.send_chat(false);
    until("the engine works", || server.control.forwards() > before);
    let refused = ask(&server);
    assert_eq!((refused.status, refused.error()), (503, (json!("model"), json!("insufficient_memory"))));
    server.control.release();
    assert_eq!(http::answer(running).status, 200);
    until("there is room again", || ask(&server).status == 200);
}

#[test]
fn where_it_can_never_fit_it_is_refused_with_figures_before_it_is_read() {
    let server = serve_within(-1000);
    fs::write(server.dir.path().join("models/tiny-bert/tokenizer.json"), vec![b' '; 1 << 16]).unwrap();
    let refused = ask(&server);
    assert_eq!((refused.status, refused.error()), (503, (json!("model"), json!("insufficient_memory"))));
    let reason = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    for part in ["model 'tiny-bert' needs ", " MB of memory", "runtime.memory-budget", "choose a smaller one"] {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
    assert_eq!(server.get("/v1/models/letters").status, 200, "it costs nobody the place");
}

#[test]
fn files_that_are_not_those_of_the_manifest_are_not_loaded() {
    let hash = |path: &Path| trust::hash(&mut fs::File::open(path).unwrap()).unwrap();
    let server = serve();
    let dir = server.dir.path().join("models/tiny-bert");
    let part = |name: &str| format!("{name} {}", hash(&dir.join(name)));
    let manifest = Manifest {
        id: "tiny-bert".into(),
        file: "model.safetensors".into(),
        sha256: hash(&dir.join("model.safetensors")),
        size: fs::metadata(dir.join("model.safetensors")).unwrap().len(),
        licence: "MIT".into(),
        source: "test".into(),
        revision: None,
        context: None,
        also: EMBEDDING_PARTS.map(part).to_vec(),
    };
    let refused = |manifest: &Manifest, file: &str| {
        fs::write(dir.join("model.toml"), manifest.text()).unwrap();
        let answer = ask(&server);
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 500 && message.contains(file), "{answer:?}");
    };
    refused(&Manifest { sha256: "ab".repeat(32), ..manifest.clone() }, "model.safetensors");
    refused(&Manifest { file: "model.gguf".into(), ..manifest.clone() }, "model.safetensors");
    for (index, name) in EMBEDDING_PARTS.into_iter().enumerate() {
        let mut other = manifest.clone();
        other.also[index] = format!("{name} {}", "ab".repeat(32));
        refused(&other, name);
        other.also.remove(index);
        refused(&other, name);
    }
    fs::write(dir.join("model.toml"), manifest.text()).unwrap();
    assert_eq!(ask(&server).status, 200);
}
