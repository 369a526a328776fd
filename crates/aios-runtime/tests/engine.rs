//! The arithmetic on a tiny model, mostly in full precision, against candle's own implementation of the architecture: with
//! unquantized weights no rounding hides a difference.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/candle.rs"]
mod candle;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::fs::File;
use std::path::Path;

use aios_kernels::Isa;
use aios_runtime::engine::{Cancel, EngineError};
use aios_runtime::model::{LoadOptions, LoadedModel};
use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};

fn load(path: &Path, context: usize) -> LoadedModel {
    LoadedModel::load("tiny", path, &LoadOptions::new(context)).unwrap()
}

/// Writes the tiny model with `f32` weights and its metadata changed.
fn write_unquantized(path: &Path, change: impl FnOnce(&mut Vec<(String, Value)>)) {
    tiny_model::write_with(path, |metadata, tensors| {
        for (_, tensor) in tensors.iter_mut() {
            let values = tensor.dequantize(&Device::Cpu).unwrap();
            *tensor = QTensor::quantize(&values, GgmlDType::F32).unwrap();
        }
        change(metadata);
    });
}

/// `tolerance` is relative to the largest logit.
fn assert_same_as_candle(path: &Path, tolerance: f32) {
    let reference = candle::read(&mut File::open(path).unwrap());
    let prompt: Vec<u32> = (0..150).map(|index| 3 + index * 37 % 250).collect();
    candle::assert_same_logits(&load(path, tiny_model::CONTEXT), reference, &prompt, tolerance);
}

#[test]
fn logits_are_those_of_candle_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_unquantized(&path, |_| {});
    assert_same_as_candle(&path, 1e-3);
}

#[test]
fn weights_of_16_bits_give_the_logits_of_candle_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for (dtype, which) in
        [(GgmlDType::F16, ""), (GgmlDType::BF16, ""), (GgmlDType::F16, "token_embd"), (GgmlDType::F16, "ffn")]
    {
        tiny_model::write_with(&path, |_, tensors| {
            for (name, tensor) in tensors.iter_mut().filter(|(name, _)| !name.contains("norm")) {
                let dtype = if name.contains(which) { dtype } else { GgmlDType::Q8_0 };
                let values = tensor.dequantize(&Device::Cpu).unwrap();
                *tensor = QTensor::quantize(&values, dtype).unwrap();
            }
        });
        let fastest = Isa::detect();
        let arithmetic = if fastest.is_portable() { "candle" } else { fastest.name() };
        assert_eq!(load(&path, tiny_model::CONTEXT).engine.info().arithmetic, arithmetic);
        if which.is_empty() {
            // The kernels keep keys and values in half precision.
            assert_same_as_candle(&path, 1e-2);
        }
    }
}

#[test]
fn the_rope_base_of_the_file_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_unquantized(&path, |metadata| {
        let base = metadata.iter_mut().find(|(key, _)| key == "llama.rope.freq_base").unwrap();
        base.1 = Value::F32(500.0);
    });
    assert_same_as_candle(&path, 1e-3);
}

#[test]
fn batches_and_single_tokens_lead_to_the_same_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_unquantized(&path, |_| {});
    let model = load(&path, tiny_model::CONTEXT);
    let tokens: Vec<u32> = (0..100).map(|index| 3 + index * 11 % 200).collect();
    let (mut whole, mut single) = (model.engine.session().unwrap(), model.engine.session().unwrap());
    let cancel = Cancel::default();
    let expected = whole.forward(&tokens, 1, &cancel).unwrap();
    for token in &tokens[..99] {
        single.forward(std::slice::from_ref(token), 1, &cancel).unwrap();
    }
    let found = single.forward(&tokens[99..], 1, &cancel).unwrap();
    for (a, b) in expected.iter().zip(found) {
        assert!((a - b).abs() < 1e-3, "{a} and {b}");
    }
}

#[test]
fn logits_can_be_had_after_several_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let tokens: Vec<u32> = (0..150).map(|index| 3 + index * 11 % 200).collect();
    for quantized in [false, true] {
        if quantized {
            tiny_model::write(&path)
        } else {
            write_unquantized(&path, |_| {})
        }
        let model = load(&path, tiny_model::CONTEXT);
        let vocabulary = model.engine.info().vocabulary;
        let cancel = Cancel::default();
        let mut single = model.engine.session().unwrap();
        let expected: Vec<f32> =
            tokens.iter().flat_map(|token| single.forward(&[*token], 1, &cancel).unwrap().to_vec()).collect();
        for outputs in [0, 1, 7, 100, 1000] {
            let mut whole = model.engine.session().unwrap();
            let found = whole.forward(&tokens, outputs, &cancel).unwrap();
            let rows = outputs.min(tokens.len());
            assert_eq!(found.len(), rows * vocabulary);
            for (a, b) in found.iter().zip(&expected[(tokens.len() - rows) * vocabulary..]) {
                assert!((a - b).abs() < 1e-3, "{outputs} outputs, quantized {quantized}: {a} and {b}");
            }
        }
    }
}

#[test]
fn sessions_at_the_same_time_get_what_each_would_get_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    let model = load(&path, tiny_model::CONTEXT);
    // Prompts of all lengths, short ones and some beyond a batch, then single tokens and drafts of several.
    let steps = |session: usize| -> Vec<Vec<u32>> {
        let lengths = [1 + session * 41 % 160, 1, 1, 3, 1, 20, 1, 1];
        let token = |index: usize| (3 + (session * 97 + index * 11) % 200) as u32;
        lengths
            .iter()
            .enumerate()
            .map(|(step, length)| (0..*length).map(|at| token(step * 31 + at)).collect())
            .collect()
    };
    let run = |session: usize| -> Vec<u32> {
        let mut context = model.engine.session().unwrap();
        let mut bits = Vec::new();
        for tokens in steps(session) {
            let logits = context.forward(&tokens, 2, &Cancel::default()).unwrap();
            bits.extend(logits.iter().map(|logit| logit.to_bits()));
        }
        bits
    };
    let alone: Vec<_> = (0..8).map(run).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|session| scope.spawn(move || run(session))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (session, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert!(alone == together, "session {session} has other logits in company");
    }
}

#[test]
fn a_prompt_begins_where_an_earlier_one_left_it_and_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    let options = LoadOptions { prefix_cache: 1 << 24, ..LoadOptions::new(tiny_model::CONTEXT) };
    let model = LoadedModel::load("tiny", &path, &options).unwrap();
    let cancel = Cancel::default();
    let system: Vec<u32> = (0..100).map(|index| 3 + index * 11 % 200).collect();
    let prompt = |question: u32| [&system[..], &[question; 30]].concat();
    let mut fresh = model.engine.session().unwrap();
    let expected = [7, 8].map(|question| {
        fresh.truncate(0);
        fresh.forward(&prompt(question), 1, &cancel).unwrap().to_vec()
    });

    // Another session finds the whole blocks that both prompts begin with; its own memory goes further.
    let mut other = model.engine.session().unwrap();
    assert_eq!(other.resume(&prompt(9)), 96);
    assert!(other.forward(&prompt(9)[96..], 1, &cancel).is_ok());
    for (question, expected) in [7, 8].into_iter().zip(&expected) {
        let prompt = prompt(question);
        let mut session = model.engine.session().unwrap();
        let known = session.resume(&prompt[..129]);
        assert_eq!(known, 128);
        assert!(session.forward(&prompt[known..], 1, &cancel).unwrap() == expected);
        assert_eq!(session.resume(&prompt[..120]), 120);
        assert!(session.forward(&prompt[120..], 1, &cancel).unwrap() == expected);
        assert_eq!(session.resume(&[1, 2, 3]), 0);
    }
}

#[test]
fn who_is_cancelled_does_not_take_others_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    let model = load(&path, tiny_model::CONTEXT);
    let tokens: Vec<u32> = (0..150).map(|index| 3 + index * 11 % 200).collect();
    let mut reference = model.engine.session().unwrap();
    let expected = reference.forward(&tokens, 1, &Cancel::default()).unwrap().to_vec();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (model, tokens, expected) = (&model, &tokens, &expected);
            scope.spawn(move || {
                let mut session = model.engine.session().unwrap();
                for round in 0..20 {
                    let cancel = Cancel::default();
                    if (round + thread) % 2 == 0 {
                        cancel.cancel();
                        assert!(matches!(session.forward(tokens, 1, &cancel), Err(EngineError::Cancelled)));
                        assert!(session.is_empty());
                    } else {
                        assert!(session.forward(tokens, 1, &cancel).unwrap() == expected);
                        session.truncate(0);
                    }
                }
            });
        }
    });
}

#[test]
fn every_block_format_loads_and_computes() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [GgmlDType::F16, GgmlDType::BF16, GgmlDType::Q4_0, GgmlDType::Q5_0, GgmlDType::Q5_1, GgmlDType::Q8_0] {
        let path = folder.path().join("tiny.gguf");
        tiny_model::write_with(&path, |_, tensors| {
            for (_, tensor) in tensors.iter_mut().filter(|(name, _)| !name.contains("norm")) {
                let values = tensor.dequantize(&Device::Cpu).unwrap();
                *tensor = QTensor::quantize(&values, dtype).unwrap();
            }
        });
        let model = load(&path, tiny_model::CONTEXT);
        let mut session = model.engine.session().unwrap();
        let logits = session.forward(&[5, 6, 7], 1, &Cancel::default()).unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|&logit| logit != 0.0), "{dtype:?}");
    }
}

#[test]
fn quantized_weights_give_the_logits_of_the_same_numbers_in_full_precision() {
    let folder = tempfile::tempdir().unwrap();
    let (rounded, exact) = (folder.path().join("rounded.gguf"), folder.path().join("exact.gguf"));
    for dtype in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0, GgmlDType::Q5_1, GgmlDType::Q8_0] {
        for (path, expand) in [(&rounded, false), (&exact, true)] {
            tiny_model::write_with(path, |_, tensors| {
                for (_, tensor) in tensors.iter_mut().filter(|(name, _)| !name.contains("norm")) {
                    let values = tensor.dequantize(&Device::Cpu).unwrap();
                    *tensor = QTensor::quantize(&values, dtype).unwrap();
                    if expand {
                        let values = tensor.dequantize(&Device::Cpu).unwrap();
                        *tensor = QTensor::quantize(&values, GgmlDType::F32).unwrap();
                    }
                }
            });
        }
        let models = [&rounded, &exact].map(|path| load(path, tiny_model::CONTEXT));
        let [mut session, mut in_full] = models.each_ref().map(|model| model.engine.session().unwrap());
        let mut reference = candle::read(&mut File::open(&rounded).unwrap());
        let mut tokens: Vec<u32> = (0..150).map(|index| 3 + index * 37 % 250).collect();
        let (mut position, mut errors) = (0, [0.0; 2]);
        for step in 0..40 {
            let expected = in_full.forward(&tokens, 1, &Cancel::default()).unwrap().to_vec();
            let theirs = candle::logits(&mut reference, &tokens, position);
            let ours = session.forward(&tokens, 1, &Cancel::default()).unwrap();
            for (error, found) in errors.iter_mut().zip([ours, &theirs]) {
                *error += distance(found, &expected) / distance(&expected, &vec![0.0; expected.len()]) / 40.0;
            }
            position += tokens.len();
            tokens = vec![3 + step * 11 % 250];
        }
        // Both round activations to 8 bits, which a model as narrow as this one feels.
        let [ours, theirs] = errors;
        assert!(ours < 0.05 && ours < 1.2 * theirs, "{dtype:?}: mean error {ours}, candle's {theirs}");
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[test]
fn the_context_is_bounded_by_the_option_and_by_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    assert_eq!(load(&path, 1 << 20).engine.info().context_length, tiny_model::CONTEXT);
    let model = load(&path, 16);
    assert_eq!(model.engine.info().context_length, 16);
    let mut session = model.engine.session().unwrap();
    session.forward(&[5; 10], 1, &Cancel::default()).unwrap();
    let result = session.forward(&[5; 7], 1, &Cancel::default()).map(|_| ());
    assert!(matches!(result, Err(EngineError::ContextFull { capacity: 16, needed: 17 })));
    assert_eq!(session.len(), 10);
    session.forward(&[5; 6], 1, &Cancel::default()).unwrap();
}

#[test]
fn a_cancelled_call_leaves_the_context_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    let model = load(&path, 64);
    let mut session = model.engine.session().unwrap();
    session.forward(&[5; 3], 1, &Cancel::default()).unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    assert!(matches!(session.forward(&[6; 3], 1, &cancel).map(|_| ()), Err(EngineError::Cancelled)));
    assert_eq!(session.len(), 3);
}

#[test]
fn a_token_beyond_the_vocabulary_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    let model = load(&path, 64);
    let mut session = model.engine.session().unwrap();
    assert!(session.forward(&[u32::MAX], 1, &Cancel::default()).is_err());
    assert!(session.is_empty());
}
