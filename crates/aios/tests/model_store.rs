//! `aios model import`, `verify`, `list`, `show` and `rm` on a device without a runtime.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/device.rs"]
mod device;
#[path = "../../aios-runtime/tests/support/tiny_model.rs"]
mod tiny_model;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use candle_core::{
    Device as Cpu,
    quantized::{GgmlDType, gguf_file},
};
use device::{Device, failure, success};

/// A device, and a model in a file that lies elsewhere.
fn device_and_file() -> (Device, PathBuf) {
    let device = Device::new("http://127.0.0.1:9");
    let file = device.root().join("Tiny Model.gguf");
    tiny_model::write(&file);
    (device, file)
}

fn import(device: &Device, file: &std::path::Path, id: &str) {
    success(&device.aios(&["model", "import", file.to_str().unwrap(), "--id", id, "--licence", "MIT"]));
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_imported_model_is_signed_listed_and_shown() {
    let (device, file) = device_and_file();
    success(&device.aios(&["model", "import", file.to_str().unwrap(), "--licence", "MIT"]));
    assert_eq!(device.models(), ["tiny-model"]);
    let folder = device.directory().join("tiny-model");
    let modes = [folder.clone(), folder.join("model.gguf"), folder.join("model.toml"), folder.join("model.toml.sig")];
    assert_eq!(modes.map(mode), [0o755, 0o644, 0o644, 0o644], "the runtime, another user, can read it");
    assert_eq!(
        [device.root().join("keys/models.key"), device.root().join("keys/models.pub")].map(mode),
        [0o600, 0o644]
    );

    let list = success(&device.aios(&["model", "list", "--runtime-socket", "/nowhere"]));
    for part in ["tiny-model", "Q4_1", "512", "MIT", "file:Tiny Model.gguf", "kB"] {
        assert!(list.contains(part), "{part:?} is not in {list}");
    }
    let list = success(&device.aios(&["model", "list", "--json", "--runtime-socket", "/nowhere"]));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["manifest"]["licence"]), (&"tiny-model".into(), &"MIT".into()));
    assert_eq!((&list[0]["state"], &list[0]["factory"]), (&serde_json::Value::Null, &false.into()));

    let shown = success(&device.aios(&["model", "show", "tiny-model"]));
    for part in [
        "llama",
        "512 tokens",
        "Q4_1",
        "14 matrices",
        "Q8_0",
        "1 matrices",
        "kernels",
        "chat template yes",
        "with 4 slots",
        "MIT",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(!shown.contains("note:"), "{shown}");
    let shown = success(&device.aios(&["model", "show", "tiny-model", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["formats"][0]["computed_by"], "kernels");
}

#[test]
fn showing_a_model_in_a_slow_format_says_so() {
    let (device, file) = device_and_file();
    tiny_model::write_with(&file, |_, tensors| {
        let tensor = tensors.iter_mut().find(|(name, _)| name == "blk.1.ffn_up.weight").unwrap();
        tensor.1 = tiny_model::quantized(vec![0.5; 64 * 128], &[128, 64], GgmlDType::F32);
    });
    import(&device, &file, "slow");
    let shown = success(&device.aios(&["model", "show", "slow"]));
    assert!(shown.contains("matrix blk.1.ffn_up.weight is in F32, which has no kernel"), "{shown}");
    assert!(shown.contains("candle computes this model") && shown.contains("aios model convert"), "{shown}");
}

#[test]
fn verification_reads_every_byte_and_names_what_differs() {
    let (device, file) = device_and_file();
    for id in ["one", "two"] {
        import(&device, &file, id);
    }
    assert_eq!(success(&device.aios(&["model", "verify"])), "one: signed\ntwo: signed\n");
    let weights = device.directory().join("two/model.gguf");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let output = device.aios(&["model", "verify"]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("one: signed\ntwo: refused: ") && said.contains("expected sha256"), "{said}");
    assert!(said.contains("two/model.gguf") && said.contains("found sha256"), "{said}");
    assert_eq!(success(&device.aios(&["model", "verify", "one"])), "one: signed\n");
    let json = String::from_utf8(device.aios(&["model", "verify", "two", "--json"]).stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["result"]), (&false.into(), &"refused".into()));

    // Somebody vouches for the new content.
    success(&device.aios(&["model", "verify", "two", "--sign"]));
    assert_eq!(success(&device.aios(&["model", "verify"])), "one: signed\ntwo: signed\n");
    let manifest = fs::read_to_string(device.directory().join("two/model.toml")).unwrap();
    assert!(
        manifest.contains("source = \"local\"") && !manifest.contains("MIT"),
        "nothing is claimed of it: {manifest}"
    );
}

#[test]
fn a_model_that_was_copied_by_hand_can_be_signed() {
    let (device, file) = device_and_file();
    let folder = device.directory().join("byhand");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&file, folder.join("model.gguf")).unwrap();
    let output = device.aios(&["model", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("byhand: unsigned: "), "{output:?}");
    success(&device.aios(&["model", "verify", "--sign", "byhand"]));
    assert_eq!(success(&device.aios(&["model", "verify"])), "byhand: signed\n");
    device.configure("require-signature = false");
    fs::remove_file(folder.join("model.toml.sig")).unwrap();
    assert_eq!(success(&device.aios(&["model", "verify"])), "byhand: unsigned\n");
}

#[test]
fn an_embedding_model_is_signed_with_all_of_its_files_and_verified_by_them() {
    let device = Device::new("http://127.0.0.1:9");
    let folder = device.directory().join("bert");
    fs::create_dir_all(&folder).unwrap();
    for (file, content) in [("model.safetensors", "weights"), ("config.json", "{}"), ("tokenizer.json", "[]")] {
        fs::write(folder.join(file), content).unwrap();
    }
    assert!(failure(&device.aios(&["model", "verify", "bert"])).is_empty());
    success(&device.aios(&["model", "verify", "bert", "--sign"]));
    assert!(success(&device.aios(&["model", "verify", "bert"])).contains("bert: signed"));
    let list = success(&device.aios(&["model", "list", "--runtime-socket", "/nowhere"]));
    assert!(list.contains("bert") && list.contains("embedding"), "{list}");
    let shown = success(&device.aios(&["model", "show", "bert"]));
    assert!(shown.contains("embedding") && shown.contains("model.safetensors"), "{shown}");
    let refused = failure(&device.aios(&["model", "convert", "bert", "--format", "q8_0", "--id", "new"]));
    assert!(refused.contains("embedding model"), "{refused}");

    let verdict = || String::from_utf8(device.aios(&["model", "verify", "bert"]).stdout).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    assert!(verdict().contains("tokenizer.json is not the file of its manifest"), "{}", verdict());
    fs::write(folder.join("tokenizer.json"), "[]").unwrap();
    fs::write(folder.join("sentence_bert_config.json"), "{}").unwrap();
    assert!(verdict().contains("sentence_bert_config.json is not the file"), "what was not signed is not read");
    success(&device.aios(&["model", "rm", "bert", "--runtime-socket", "/nowhere"]));
    assert!(device.models().is_empty());
}

#[test]
fn what_can_not_be_a_model_is_not_imported() {
    let (device, file) = device_and_file();
    let text = device.root().join("notes.gguf");
    fs::write(&text, "notes").unwrap();
    let path = file.to_str().unwrap();
    let is_refused = |args: &[&str], reason: &str| {
        let error = failure(&device.aios(&[&["model", "import"], args].concat()));
        assert!(error.contains(reason), "{error}");
        assert_eq!((device.models(), device.partial()), (Vec::new(), Vec::new()));
    };
    is_refused(&[text.to_str().unwrap()], "is not a GGUF file");
    is_refused(&["/nowhere.gguf"], "can't be opened");
    is_refused(&[path, "--id", "default"], "is no model id");
    is_refused(&[path, "--sha256", &"ab".repeat(32)], "nothing of it was kept");
    is_refused(&[path, "--sha256", "abc"], "64 hexadecimal digits");
    device.configure("reserve = \"1000000GiB\"");
    is_refused(&[path], "models.reserve");
}

#[test]
fn removing_refuses_what_is_not_there_and_removes_what_is() {
    let (device, file) = device_and_file();
    import(&device, &file, "one");
    for bad in ["absent", "../models/one", ""] {
        let error = failure(&device.aios(&["model", "rm", bad, "--runtime-socket", "/nowhere"]));
        assert!(error.contains("is in none of the directories"), "{error}");
    }
    success(&device.aios(&["model", "rm", "one", "--runtime-socket", "/nowhere"]));
    assert_eq!((device.models(), device.partial()), (Vec::new(), Vec::new()));
}

/// The model's embedding, and one matrix of a layer, as values.
fn values(path: &std::path::Path) -> Vec<(GgmlDType, Vec<f32>)> {
    let mut file = fs::File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let tensor = |name: &str| content.tensor(&mut fs::File::open(path).unwrap(), name, &Cpu::Cpu).unwrap();
    let names = ["token_embd.weight", "blk.1.ffn_down.weight", "output_norm.weight"];
    let value = |name: &str| {
        let tensor = tensor(name);
        (tensor.dtype(), tensor.dequantize(&Cpu::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap())
    };
    names.into_iter().map(value).collect()
}

#[test]
fn a_converted_model_has_the_same_values_in_another_format() {
    let (device, file) = device_and_file();
    import(&device, &file, "one");
    success(&device.aios(&["model", "convert", "one", "--format", "q8_0", "--id", "eight"]));
    assert_eq!(success(&device.aios(&["model", "verify", "eight"])), "eight: signed\n");
    let manifest = fs::read_to_string(device.directory().join("eight/model.toml")).unwrap();
    assert!(manifest.contains("source = \"convert:one\"") && manifest.contains("licence = \"MIT\""), "{manifest}");
    let [before, after] = ["one", "eight"].map(|id| values(&device.directory().join(id).join("model.gguf")));
    let formats = |values: &[(GgmlDType, Vec<f32>)]| values.iter().map(|(dtype, _)| *dtype).collect::<Vec<_>>();
    assert_eq!(formats(&before), [GgmlDType::Q8_0, GgmlDType::Q4_1, GgmlDType::F32]);
    assert_eq!(formats(&after), [GgmlDType::Q8_0, GgmlDType::Q8_0, GgmlDType::F32]);
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]), "what had the format already stays bit by bit");
    let largest = before[1].1.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    for (before, after) in before[1].1.iter().zip(&after[1].1) {
        assert!((before - after).abs() <= largest / 127.0, "{before} became {after}");
    }
    // Rows of 64 values hold no block of 256.
    let output = device.aios(&["model", "convert", file.to_str().unwrap(), "--format", "Q4_K", "--id", "k"]);
    success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("15 matrices have rows that are no multiple of 256"));
    let shown = success(&device.aios(&["model", "show", "k"]));
    assert!(shown.contains("Q8_0     15 matrices"), "{shown}");
}

#[test]
fn what_can_not_be_converted_leaves_nothing() {
    let (device, file) = device_and_file();
    let path = file.to_str().unwrap();
    for (args, reason) in [
        ([path, "--format", "f7", "--id", "x"], "converted to Q4_0, Q4_1"),
        (["a.safetensors", "--format", "q8_0", "--id", "x"], "only GGUF files"),
        (["absent", "--format", "q8_0", "--id", "x"], "in none of the directories"),
        ([path, "--format", "q8_0", "--id", "../x"], "is no model id"),
    ] {
        let error = failure(&device.aios(&[&["model", "convert"], &args[..]].concat()));
        assert!(error.contains(reason), "{error}");
    }
    device.configure("reserve = \"1000000GiB\"");
    let error = failure(&device.aios(&["model", "convert", path, "--format", "q8_0", "--id", "x"]));
    assert!(error.contains("models.reserve"), "{error}");
    assert_eq!((device.models(), device.partial()), (Vec::new(), Vec::new()));
}
