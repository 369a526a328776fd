//! Families of decoders besides `llama`, on tiny models, against candle's own implementations in full precision.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/candle.rs"]
mod candle;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::path::{Path, PathBuf};

use aios_kernels::Isa;
use aios_runtime::engine::Cancel;
use aios_runtime::model::{LoadOptions, LoadedModel};
use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use tiny_model::{CONTEXT, OTHER_FAMILIES, WINDOW};

struct Sample {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// A family's model whose matrices are in `format`, after `change` to its metadata.
fn sample(family: &str, format: GgmlDType, change: impl FnOnce(&mut Vec<(String, Value)>)) -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write_family(&path, family, |metadata, tensors| {
        for (_, tensor) in tensors.iter_mut().filter(|(_, tensor)| tensor.shape().dims().len() == 2) {
            let values = tensor.dequantize(&Device::Cpu).unwrap();
            *tensor = QTensor::quantize(&values, format).unwrap();
        }
        change(metadata);
    });
    Sample { _folder: folder, path }
}

fn load(path: &Path, options: &LoadOptions) -> LoadedModel {
    LoadedModel::load("tiny", path, options).unwrap()
}

/// A prompt much longer than the window of local layers.
fn prompt(length: usize) -> Vec<u32> {
    assert!(length > 3 * WINDOW);
    (0..length as u32).map(|index| 3 + index * 37 % 250).collect()
}

/// `tolerance` is relative to the largest logit.
fn assert_same_as_candle(sample: &Sample, isa: Isa, tolerance: f32) {
    let model = load(&sample.path, &LoadOptions { isa: Some(isa), ..LoadOptions::new(CONTEXT) });
    assert_eq!(model.engine.info().arithmetic, isa.name());
    candle::assert_same_logits(&model, candle::in_full(&sample.path), &prompt(150), tolerance);
}

#[test]
fn logits_are_those_of_candle_transformers() {
    for family in OTHER_FAMILIES {
        // Products with 16-bit numbers round nothing but keys and values.
        let sample = sample(family, GgmlDType::F16, |_| {});
        for isa in Isa::available() {
            assert_same_as_candle(&sample, isa, 5e-3);
        }
    }
}

#[test]
fn the_rope_base_of_the_file_is_used() {
    for family in OTHER_FAMILIES {
        let sample = sample(family, GgmlDType::F16, |metadata| {
            let key = format!("{family}.rope.freq_base");
            metadata.iter_mut().find(|(name, _)| *name == key).unwrap().1 = Value::F32(500.0);
        });
        assert_same_as_candle(&sample, Isa::detect(), 5e-3);
    }
}

#[test]
fn a_window_longer_than_the_context_hides_nothing() {
    let wide = |metadata: &mut Vec<(String, Value)>| {
        let key = "gemma3.attention.sliding_window";
        metadata.iter_mut().find(|(name, _)| name == key).unwrap().1 = Value::U32(CONTEXT as u32);
    };
    let (narrow, wide) = (sample("gemma3", GgmlDType::F16, |_| {}), sample("gemma3", GgmlDType::F16, wide));
    assert_same_as_candle(&wide, Isa::detect(), 5e-3);
    let logits = |sample: &Sample, tokens: &[u32]| {
        let model = load(&sample.path, &LoadOptions::new(CONTEXT));
        model.engine.session().unwrap().forward(tokens, 1, &Cancel::default()).unwrap().to_vec()
    };
    // As many tokens as a local layer sees, and one more.
    let tokens = prompt(150);
    assert!(logits(&narrow, &tokens[..WINDOW]) == logits(&wide, &tokens[..WINDOW]));
    assert!(logits(&narrow, &tokens[..WINDOW + 1]) != logits(&wide, &tokens[..WINDOW + 1]));
}

#[test]
fn rounded_weights_give_about_the_logits_of_the_same_numbers_in_full_precision() {
    for family in OTHER_FAMILIES {
        for format in [GgmlDType::Q4_1, GgmlDType::Q8_0] {
            let sample = sample(family, format, |_| {});
            let model = load(&sample.path, &LoadOptions::new(CONTEXT));
            let mut reference = candle::in_full(&sample.path);
            let tokens = prompt(150);
            let theirs = candle::logits(&mut reference, &tokens, 0);
            let mut session = model.engine.session().unwrap();
            let ours = session.forward(&tokens, 1, &Cancel::default()).unwrap();
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
            let error = square(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / square(&mut theirs.iter().copied());
            // Activations are rounded to 8 bits, which a model as narrow as this one feels.
            assert!(error < 0.1, "{family} {format:?}: error {error}");
        }
    }
}

#[test]
fn batches_company_and_known_beginnings_change_nothing() {
    for family in OTHER_FAMILIES {
        let sample = sample(family, GgmlDType::Q8_0, |_| {});
        let options = LoadOptions { prefix_cache: 1 << 24, ..LoadOptions::new(CONTEXT) };
        let model = load(&sample.path, &options);
        let run = |number: usize| -> Vec<u32> {
            let mut session = model.engine.session().unwrap();
            let mut bits = Vec::new();
            // Prompts shorter and longer than window and batch, then single tokens and drafts of several.
            for (step, length) in [5 + number * 61 % 200, 1, 1, 3, 1, 20, 1].into_iter().enumerate() {
                let token = |at: usize| (3 + (number * 97 + (step * 31 + at) * 11) % 200) as u32;
                let tokens: Vec<u32> = (0..length).map(token).collect();
                let logits = session.forward(&tokens, 2, &Cancel::default()).unwrap();
                bits.extend(logits.iter().map(|logit| logit.to_bits()));
            }
            bits
        };
        let alone: Vec<_> = (0..6).map(run).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || run(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(alone == together, "{family}: sessions have other logits in company");

        let (tokens, cancel) = (prompt(150), Cancel::default());
        let mut first = model.engine.session().unwrap();
        let expected = first.forward(&tokens, 1, &cancel).unwrap().to_vec();
        // Another session knows the beginning; the first one goes back behind the window and on again.
        let mut other = model.engine.session().unwrap();
        assert_eq!(other.resume(&tokens[..149]), 144);
        assert!(other.forward(&tokens[144..], 1, &cancel).unwrap() == expected, "{family}: a known beginning");
        first.forward(&[7; 60], 1, &cancel).unwrap();
        first.truncate(70);
        assert!(first.forward(&tokens[70..], 1, &cancel).unwrap() == expected, "{family}: shortened");
        first.truncate(0);
        for token in &tokens[..149] {
            first.forward(std::slice::from_ref(token), 0, &cancel).unwrap();
        }
        assert!(first.forward(&tokens[149..], 1, &cancel).unwrap() == expected, "{family}: one at a time");
    }
}
