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
        schema: None,
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
    assert!(first.tokens == 100 && first.cold_ms > 0.0 && first.warm_ms > 0.0, "{first:?}");
    assert!(first.kept_ms.is_some_and(|kept| kept > 0.0) || report.arithmetic == "candle", "{first:?}");
    let memory = report.memory.unwrap();
    assert!(memory.bytes_per_second > 1e8 && memory.weights_per_second > 0.0, "{memory:?}");
    assert!((memory.token_bytes as u64) < report.size_bytes && memory.token_bytes > 0, "{memory:?}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["prefill"][1]["tokens"], 100);
}

#[test]
fn measurements_at_the_same_time_leave_each_other_alone() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(&folder, &[16]);
    std::thread::scope(|scope| {
        let measured: Vec<_> = (0..4).map(|_| scope.spawn(|| measure(&arguments).unwrap())).collect();
        for report in measured.into_iter().map(|thread| thread.join().unwrap()) {
            assert!(report.first_token.unwrap().kept_ms.is_some() || report.arithmetic == "candle", "{report:?}");
        }
    });
}

#[test]
fn answers_in_a_form_are_timed_beside_free_ones() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(
        &schema,
        r#"{"type": "object", "required": ["word"], "properties": {"word": {"enum": ["a", "b"]}}}"#,
    )
    .unwrap();
    let report = measure(&BenchArgs { schema: Some(schema.clone()), ..arguments(&folder, &[16]) }).unwrap();
    let form = report.form.unwrap();
    assert!(form.free.tokens_per_second > 0.0 && form.formed.tokens_per_second > 0.0);
    assert!(form.forced_share > 0.5, "{form:?}");
    std::fs::write(&schema, r#"{"type": "strange"}"#).unwrap();
    let error = measure(&BenchArgs { schema: Some(schema), ..arguments(&folder, &[16]) }).unwrap_err();
    assert!(format!("{error:#}").contains("strange"), "{error:#}");
}

/// With one thread of several CPUs, what a form allows is computed beside the model's work. Which tokens come is the same.
#[test]
fn a_form_is_followed_beside_the_models_work_where_a_cpu_is_idle() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    let text = r#"{"type": "array", "minItems": 40, "items": {"type": "string", "pattern": "^[a-f]{3,9}$"}}"#;
    std::fs::write(&schema, text).unwrap();
    let arguments = arguments(&folder, &[16]);
    let shares = ["0", "1"].map(|threads| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aios-runtime"));
        command.args(["bench", "--json", "--decode", "60", "--repeat", "1", "--prefill", "16", "--threads", threads]);
        let output = command.arg("--model").arg(&arguments.model).arg("--schema").arg(&schema).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["form"]["formed"]["tokens"], 60);
        report["form"]["forced_share"].as_f64().unwrap()
    });
    assert!(shares[0] > 0.0 && shares[0] == shares[1], "{shares:?}");
}

#[test]
fn prompts_longer_than_the_trained_context_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = measure(&arguments(&folder, &[513])).unwrap_err();
    assert_eq!(error.to_string(), "the model was trained for contexts of 512 tokens, this asks for 513");
    assert!(measure(&arguments(&folder, &[0])).is_err());
}

#[test]
fn a_file_that_is_no_model_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(&folder, &[16]);
    let named_once = |why: &str| {
        let error = format!("{:#}", measure(&arguments).unwrap_err());
        assert!(error.contains(why) && error.matches("tiny.gguf").count() == 1, "{error}");
    };
    let whole = std::fs::read(&arguments.model).unwrap();
    std::fs::write(&arguments.model, &whole[..100]).unwrap();
    named_once("model file");
    let name = whole.windows(13).position(|bytes| bytes == b"blk.0.attn_q.").unwrap();
    let renamed = [&whole[..name], b"blk.0.attn_x.", &whole[name + 13..]].concat();
    std::fs::write(&arguments.model, renamed).unwrap();
    named_once("attn_");
}
