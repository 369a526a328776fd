//! Beginnings of prompts on disk, with the real binary: what survives `kill -9`, and what damage, a full disk and many
//! requests at once do not break.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/http.rs"]
mod http;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use aios_api::runtime::v1::{
    InferRequest, PromptCacheRetention, Sampling, infer_request::Input, runtime_service_client::RuntimeServiceClient,
};
use binary::{Started, free_address, prepare, runtime};
use http::until;
use serde_json::json;

/// Instructions of a hundred tokens: the tiny model's are bytes.
const INSTRUCTIONS: &str =
    "You are the pump of building seven. You answer with the pressure in millibar, and with nothing else.";

struct Device {
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Device {
    fn new(extra: &str) -> Device {
        let address = free_address();
        let dir = prepare(&format!("slots = 4\n{extra}"), &format!("listen = \"{address}\""));
        Device { dir, address }
    }

    fn command(&self) -> Command {
        let mut command = runtime(self.dir.path());
        command.env("STATE_DIRECTORY", self.dir.path().join("state"));
        command
    }

    fn start(&self) -> Started {
        fs::create_dir_all(self.dir.path().join("state")).unwrap();
        Started::of(self.dir.path(), self.command())
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("state/prefixes/tiny");
        fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path()).collect()
    }

    /// Waits for so many complete files.
    fn wait_for_files(&self, count: usize) {
        let complete = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "prefix");
        until("the files are there", || self.files().iter().filter(|path| complete(path)).count() == count);
    }

    /// How many tokens of the prompt were known, and all that was said, with the probabilities behind it.
    fn ask(&self, instructions: &str, retention: &str) -> (u64, String) {
        let body = json!({
            "model": "default", "temperature": 0, "max_tokens": 12, "logprobs": true, "top_logprobs": 20,
            "prompt_cache_retention": retention,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": "And now?"}],
        });
        let answer = http::post(self.address, "/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let known = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (known, answer["choices"][0].to_string())
    }
}

/// Tokens of the whole blocks that chats with these instructions begin with: letters, `the` and `th` as one each, and those
/// around the message.
const SHARED: u64 = 96;

#[track_caller]
fn assert_same((known, said): (u64, String), (expected_known, expected): (u64, &str)) {
    assert_eq!(known, expected_known);
    assert!(said == expected, "{said}\n\nis not\n\n{expected}");
}

#[test]
fn a_kept_beginning_survives_a_kill_and_gives_the_same_bits() {
    let device = Device::new("");
    let started = device.start();
    let (known, expected) = device.ask(INSTRUCTIONS, "24h");
    assert_eq!(known, 0);
    device.wait_for_files(1);
    drop(started);

    let started = device.start();
    assert_same(device.ask(INSTRUCTIONS, "in_memory"), (SHARED, &expected));
    let other = device.ask(&INSTRUCTIONS.replace("nothing else", "a smile"), "in_memory").0;
    assert!(other > 0 && other < SHARED, "{other}");
    assert_eq!(device.files().len(), 1, "what nobody asks to keep is not kept");
    drop(started);

    let file = device.files().remove(0);
    assert!(!fs::read(&file).unwrap().windows(8).any(|bytes| bytes == b"And now?"), "messages of users are not in it");
    let spoil: [fn(&Path); 3] = [
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap(),
        |path| {
            fs::write(path.with_extension("draft"), "aiosKV1\n").unwrap();
            fs::remove_file(path).unwrap();
        },
    ];
    for spoil in spoil {
        spoil(&file);
        let started = device.start();
        assert_same(device.ask(INSTRUCTIONS, "24h"), (0, &expected));
        device.wait_for_files(1);
        assert_eq!(device.files().len(), 1);
        drop(started);
    }
    let started = device.start();
    assert_same(device.ask(INSTRUCTIONS, "24h"), (SHARED, &expected));
    assert_eq!(started.end().0.code(), Some(0));
}

#[test]
fn another_file_of_the_model_does_not_get_the_old_ones_keys_and_values() {
    let device = Device::new("");
    let started = device.start();
    device.ask(INSTRUCTIONS, "24h");
    device.wait_for_files(1);
    drop(started);
    // The same sizes and header, other weights.
    let path = device.dir.path().join("models/tiny/model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 2000;
    bytes[end] ^= 0x3;
    fs::write(&path, bytes).unwrap();
    let _started = device.start();
    assert_eq!(device.ask(INSTRUCTIONS, "in_memory").0, 0);
    assert!(device.files().is_empty());
}

#[test]
fn where_keeping_is_turned_off_nothing_is_kept_and_what_was_goes() {
    let device = Device::new("");
    let started = device.start();
    device.ask(INSTRUCTIONS, "24h");
    device.wait_for_files(1);
    drop(started);
    let config = device.dir.path().join("aios.toml");
    let text = fs::read_to_string(&config).unwrap().replace("slots = 4", "slots = 4\nprefix-cache-disk = \"0B\"");
    fs::write(&config, text).unwrap();
    let _started = device.start();
    until("the files are deleted", || device.files().is_empty());
    assert_eq!(device.ask(INSTRUCTIONS, "24h").0, 0);
    assert!(device.ask(INSTRUCTIONS, "24h").0 > 0, "memory is another matter");
    assert!(device.files().is_empty());
}

#[test]
fn a_full_disk_leaves_nothing_half_written_and_requests_succeed() {
    let device = Device::new("");
    fs::create_dir_all(device.dir.path().join("state")).unwrap();
    let inner = device.command();
    // Writing beyond 4 KiB of a file fails, as on a disk without room.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let started = Started::of(device.dir.path(), command);
    let (known, first) = device.ask(INSTRUCTIONS, "24h");
    let (again, second) = device.ask(INSTRUCTIONS, "24h");
    assert!(known == 0 && again > 0 && first == second);
    let (_, log) = started.end();
    assert!(log.contains("beginning not kept") && log.contains("WARN"), "{log}");
    assert!(device.files().is_empty());
}

#[test]
fn many_at_once_are_kept_and_read() {
    let device = Device::new("");
    let instructions: Vec<String> = (0..4).map(|index| format!("Number {index}. {INSTRUCTIONS}")).collect();
    let ask_all = |retention: &str| -> Vec<(u64, String)> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8)
                .map(|index| {
                    let (device, instructions) = (&device, &instructions[index % 4]);
                    scope.spawn(move || device.ask(instructions, retention))
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        })
    };
    let started = device.start();
    let mut expected = Vec::new();
    // Few wait to be written at once; the next request for the same hands it in again.
    until("all are kept", || {
        expected = ask_all("24h");
        device.files().iter().filter(|path| path.extension().is_some_and(|kind| kind == "prefix")).count() == 4
    });
    drop(started);
    let _started = device.start();
    for ((known, said), (_, expected)) in ask_all("in_memory").into_iter().zip(expected) {
        // More, where the other one with the same instructions came first.
        assert!(known >= SHARED, "{known}");
        assert!(said == expected);
    }
}

#[test]
fn a_prompt_of_the_grpc_api_is_kept_as_a_whole() {
    let device = Device::new("");
    let ask = || {
        let socket = device.dir.path().join("grpc.sock");
        let request = InferRequest {
            input: Some(Input::Prompt(INSTRUCTIONS.to_owned())),
            sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
            max_tokens: Some(8),
            prompt_cache_retention: PromptCacheRetention::OnDisk.into(),
            ..InferRequest::default()
        };
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = tokio.block_on(async {
            let channel = aios_service::dial(&socket).await.unwrap();
            RuntimeServiceClient::new(channel).infer(request).await.unwrap().into_inner()
        });
        (answer.usage.unwrap(), answer.text)
    };
    let started = device.start();
    let (usage, expected) = ask();
    assert_eq!(usage.cached_tokens, 0);
    device.wait_for_files(1);
    drop(started);
    let _started = device.start();
    let (usage, text) = ask();
    // The last token goes through the layers in any case.
    assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / 16 * 16);
    assert_eq!(text, expected);
}
