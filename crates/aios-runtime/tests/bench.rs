//! The benchmark on a tiny model: its figures are there and its refusals are understandable.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/tiny_model.rs"]
mod tiny_model;

use aios_runtime::bench::{BenchArgs, measure};

fn arguments(folder: &tempfile::TempDir, prefill: &[usize]) -> BenchArgs {
    let model = folder.path().join("tiny.gguf");
    tiny_model::write(&model);
    BenchArgs {
        model,
        prefill: prefill.to_vec(),
        decode: 4,
        depth: 3,
        streams: 2,
        first_token: Some(100),
        memory: true,
        repeat: 2,
        threads: 0,
        isa: None,
        json: true,
    }
}

#[test]
fn every_asked_case_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let report = measure(&arguments(&folder, &[16, 100])).unwrap();
    let lengths: Vec<usize> = report.prefill.iter().map(|rate| rate.tokens).collect();
    assert_eq!((lengths, report.decode.tokens), (vec![16, 100], 8));
    assert!(report.prefill.iter().chain([&report.decode]).all(|rate| rate.tokens_per_second > 0.0));
    assert!(report.peak_rss_bytes > report.size_bytes && report.load_ms > 0.0);
    let first = report.first_token.unwrap();
    assert!(first.tokens == 100 && first.cold_ms > first.warm_ms && first.warm_ms > 0.0, "{first:?}");
    assert!(report.memory_bytes_per_second.unwrap() > 1e8);
    assert!((report.token_bytes as u64) < report.size_bytes && report.token_bytes > 0);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["prefill"][1]["tokens"], 100);
}

#[test]
fn prompts_longer_than_the_trained_context_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = measure(&arguments(&folder, &[513])).unwrap_err();
    assert_eq!(error.to_string(), "the model was trained for contexts of 512 tokens, this asks for 513");
    assert!(measure(&arguments(&folder, &[0])).is_err());
}
