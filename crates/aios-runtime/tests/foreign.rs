//! Architectures that candle computes with layers of its own, on tiny models, against candle asked directly.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/tiny_foreign.rs"]
mod tiny_foreign;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use aios_runtime::engine::{Cancel, EngineError, Session};
use aios_runtime::generate::{GenerateRequest, generate};
use aios_runtime::gguf::Gguf;
use aios_runtime::model::{LoadOptions, LoadedModel};
use aios_runtime::sampling::Sampling;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::{quantized_glm4, quantized_phi, quantized_phi3};
use tiny_foreign::{ARCHITECTURES, VOCABULARY, write_with};

fn with_each(test: impl Fn(&str, &Path, &LoadedModel)) {
    let folder = tempfile::tempdir().unwrap();
    for architecture in ARCHITECTURES {
        let path = folder.path().join(format!("{architecture}.gguf"));
        write_with(&path, architecture, |_, _| {});
        test(architecture, &path, &LoadedModel::load("tiny", &path, &LoadOptions::new(400)).unwrap());
    }
}

/// Logits after the last of all tokens, computed by candle at once.
fn by_candle(architecture: &str, path: &Path, tokens: &[u32]) -> Vec<f32> {
    let mut file = File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let cpu = &Device::Cpu;
    let logits = match architecture {
        "glm4" => {
            quantized_glm4::ModelWeights::from_gguf(content, &mut file, cpu, DType::F32).unwrap().forward(&input, 0)
        }
        "phi2" => quantized_phi::ModelWeights::from_gguf(content, &mut file, cpu).unwrap().forward(&input, 0),
        _ => quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, cpu).unwrap().forward(&input, 0),
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    assert!(largest > 0.1, "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 2e-3 * largest, "{what}: {a} and {b}");
    }
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|index| 3 + index * 11 % 200).collect()
}

fn forward(session: &mut dyn Session, tokens: &[u32], outputs: usize) -> Vec<f32> {
    session.forward(tokens, outputs, &Cancel::default()).unwrap().to_vec()
}

#[test]
fn logits_are_those_of_candle_asked_directly() {
    with_each(|architecture, path, model| {
        assert_eq!(
            (model.engine.info().arithmetic, model.engine.info().architecture.as_str()),
            ("candle", architecture)
        );
        let mut session = model.engine.session().unwrap();
        let all = tokens(170);
        for (from, to) in [(0, 150), (150, 151), (151, 170)] {
            let found = forward(session.as_mut(), &all[from..to], 1);
            assert_close(&found, &by_candle(architecture, path, &all[..to]), architecture);
        }
    });
}

#[test]
fn logits_can_be_had_after_several_tokens() {
    with_each(|architecture, path, model| {
        let all = tokens(90);
        for (outputs, rows) in [(0, 0), (1, 1), (3, 3), (1000, 90)] {
            let mut session = model.engine.session().unwrap();
            let found = forward(session.as_mut(), &all, outputs);
            assert_eq!(found.len(), rows * VOCABULARY);
            for (row, logits) in found.chunks(VOCABULARY).enumerate().step_by(29) {
                let expected = by_candle(architecture, path, &all[..=all.len() - rows + row]);
                assert_close(logits, &expected, &format!("{architecture}, row {row} of {rows}"));
            }
        }
    });
}

#[test]
fn a_context_that_was_cut_back_continues_as_if_it_had_never_been_longer() {
    with_each(|architecture, path, model| {
        let all = tokens(100);
        let mut session = model.engine.session().unwrap();
        forward(session.as_mut(), &all, 1);
        session.truncate(70);
        session.truncate(80);
        assert_eq!((session.len(), session.truncates_for_free()), (70, false));
        let other = [&all[..70], &[9, 8, 7]].concat();
        assert_close(&forward(session.as_mut(), &[9, 8, 7], 1), &by_candle(architecture, path, &other), architecture);
        // What was said is known; anything else is begun anew.
        assert_eq!(session.resume(&[&other[..], &[5, 6]].concat()), 73);
        assert_close(
            &forward(session.as_mut(), &[5, 6], 1),
            &by_candle(architecture, path, &[&other[..], &[5, 6]].concat()),
            architecture,
        );
        assert_eq!(session.resume(&all), 0);
        assert_close(&forward(session.as_mut(), &all[..5], 1), &by_candle(architecture, path, &all[..5]), architecture);
        session.truncate(3);
        assert_eq!(session.resume(&all), 0, "it would have to be computed");
        assert!(session.is_empty());
    });
}

#[test]
fn a_call_that_fails_leaves_the_context_as_it_was() {
    with_each(|architecture, path, model| {
        let all = tokens(20);
        let mut session = model.engine.session().unwrap();
        forward(session.as_mut(), &all[..10], 1);
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(matches!(session.forward(&all, 1, &cancel), Err(EngineError::Cancelled)));
        assert!(session.forward(&[VOCABULARY as u32], 1, &Cancel::default()).is_err());
        let full = session.forward(&tokens(400), 1, &Cancel::default()).map(|_| ());
        let capacity = model.engine.info().context_length;
        assert!(matches!(full, Err(EngineError::ContextFull { needed: 410, capacity: found }) if found == capacity));
        assert_eq!(session.len(), 10);
        assert_close(&forward(session.as_mut(), &all[10..], 1), &by_candle(architecture, path, &all), architecture);
    });
}

#[test]
fn sessions_do_not_see_each_others_tokens() {
    with_each(|architecture, path, model| {
        let all = tokens(60);
        let (mut one, mut two) = (model.engine.session().unwrap(), model.engine.session().unwrap());
        forward(one.as_mut(), &all[..30], 1);
        forward(two.as_mut(), &all[30..50], 1);
        assert_close(&forward(one.as_mut(), &all[30..], 1), &by_candle(architecture, path, &all), architecture);
        let second = &all[30..];
        assert_close(&forward(two.as_mut(), &second[20..], 1), &by_candle(architecture, path, second), architecture);
    });
}

#[test]
fn answers_are_generated() {
    with_each(|architecture, path, model| {
        let prompt = tokens(40);
        let request = GenerateRequest {
            prompt_tokens: prompt.clone(),
            sampling: Sampling::GREEDY,
            max_tokens: Some(1),
            stop: Vec::new(),
            guidance: None,
            logprobs: Some(0),
            lookup: true,
            pin: 0,
            cancel: Cancel::default(),
        };
        let mut chosen = Vec::new();
        let mut session = model.engine.session().unwrap();
        generate(model, session.as_mut(), &request, &mut |piece| {
            chosen.extend(piece.tokens.iter().map(|token| token.token));
            ControlFlow::Continue(())
        })
        .unwrap();
        let logits = by_candle(architecture, path, &prompt);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        assert_eq!(chosen, [best]);
    });
}

#[test]
fn the_context_ends_where_candle_would_compute_something_else() {
    with_each(|architecture, path, _| {
        // phi3 has a window of 300 here, of which candle knows nothing.
        let trained = if architecture == "phi3" { 300 } else { 512 };
        let model = LoadedModel::load("tiny", path, &LoadOptions::new(1 << 20)).unwrap();
        assert_eq!(model.engine.info().context_length, trained);
        let advice = aios_models::formats::advice(&Gguf::open(path).unwrap()).join("; ");
        assert!(advice.contains("candle computes this model, several times slower"), "{advice}");
    });
}

#[test]
fn what_candle_would_compute_wrongly_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let refusal = |architecture: &str, key: &str, value: Value| {
        write_with(&path, architecture, |metadata, _| {
            metadata.retain(|(name, _)| name != key);
            metadata.push((key.to_owned(), value));
        });
        LoadedModel::load("tiny", &path, &LoadOptions::new(64)).unwrap_err().to_string()
    };
    for (architecture, key, value, reason) in [
        ("phi3", "phi3.rope.freq_base", Value::F32(250_000.0), "candle computes this architecture with 10000 alone"),
        ("phi3", "phi3.rope.dimension_count", Value::U32(12), "which candle does not compute"),
        ("phi3", "phi3.rope.scaling.type", Value::String("longrope".into()), "is not what candle computes"),
        ("phi3", "phi3.attention.head_count", Value::U32(0), "phi3.attention.head_count is 0"),
        ("phi3", "phi3.attention.head_count_kv", Value::U32(3), "which candle can't compute"),
        ("phi3", "phi3.block_count", Value::U32(3), "tensor blk.2.attn_qkv.weight is missing"),
        ("phi3", "phi3.block_count", Value::U32(1), "is not part of the phi3 architecture as candle computes it"),
        ("phi3", "phi3.block_count", Value::U32(u32::MAX), "claims 4294967295 layers"),
        (
            "phi3",
            "phi3.feed_forward_length",
            Value::U32(64),
            "ffn_up.weight has shape [192, 64], the metadata needs [128, 64]",
        ),
        ("glm4", "glm4.rope.dimension_count", Value::U32(16), "which candle does not compute"),
        ("phi2", "phi2.rope.dimension_count", Value::U32(64), "which candle does not compute"),
        ("phi2", "phi2.attention.head_count_kv", Value::U32(2), "which candle can't compute"),
        ("mamba", "mamba.block_count", Value::U32(2), "architecture \"mamba\" is not supported; supported are llama"),
    ] {
        let found = refusal(architecture, key, value);
        assert!(found.contains(reason), "{key}: {found:?} does not contain {reason:?}");
    }
    write_with(&path, "phi3", |_, tensors| {
        let factors = tiny_model::quantized(vec![1.0; 8], &[8], GgmlDType::F32);
        tensors.push(("rope_factors_long.weight".to_owned(), factors));
    });
    let found = LoadedModel::load("tiny", &path, &LoadOptions::new(64)).unwrap_err().to_string();
    assert!(found.contains("tensor rope_factors_long.weight is not part of"), "{found}");
}
