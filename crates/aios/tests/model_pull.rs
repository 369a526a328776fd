//! `aios model pull` against a hub of the test's own: what comes through, what is refused, and what is left behind.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/device.rs"]
mod device;
#[path = "support/hub.rs"]
mod hub;
#[path = "../../aios-runtime/tests/support/tiny_model.rs"]
mod tiny_model;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use device::{Device, failure, success};
use hub::{COMMIT, REPOSITORY, TOKEN, TestHub, sha256};

fn tiny() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    tiny_model::write(&path);
    fs::read(path).unwrap()
}

/// A hub with one file, and a device that knows it.
fn hub_and_device(content: &[u8]) -> (TestHub, Device) {
    let hub = TestHub::new(&[("tiny.gguf", content), ("README.md", b"# tiny")]);
    let device = Device::new(&hub.endpoint());
    (hub, device)
}

fn nothing_is_left(device: &Device) {
    assert_eq!(device.models(), Vec::<String>::new());
    assert_eq!(device.partial(), Vec::<String>::new());
}

#[test]
fn a_model_is_pulled_pinned_signed_and_then_already_there() {
    let (hub, device) = hub_and_device(&tiny());
    let output = success(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(output.contains(&sha256(&tiny())), "{output}");
    assert_eq!(device.models(), ["tiny"]);
    assert_eq!(device.partial(), Vec::<String>::new());
    let manifest = fs::read_to_string(device.directory().join("tiny/model.toml")).unwrap();
    for line in [
        format!("revision = \"{COMMIT}\""),
        format!("sha256 = \"{}\"", sha256(&tiny())),
        "licence = \"apache-2.0\"".to_owned(),
        format!("source = \"hub:{REPOSITORY}/tiny.gguf\""),
        "context = 512".to_owned(),
    ] {
        assert!(manifest.contains(&line), "{line} is not in {manifest}");
    }
    assert_eq!(success(&device.aios(&["model", "verify"])), "tiny: signed\n");
    assert_eq!(hub.state().served, tiny().len());

    let again = device.aios(&["model", "pull", REPOSITORY]);
    success(&again);
    assert!(String::from_utf8_lossy(&again.stderr).contains("tiny is there already"), "{again:?}");
    assert_eq!(hub.state().served, tiny().len());
    hub.state().files.insert("tiny.gguf".to_owned(), [tiny(), vec![0; 32]].concat());
    let taken = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(taken.contains("exists already") && taken.contains("--id"), "{taken}");
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_ended() {
    let content = [tiny(), vec![7; 3 << 20]].concat();
    let (hub, device) = hub_and_device(&content);
    hub.state().cuts = [1 << 20, 1 << 20, 500_000].into();
    success(&device.aios(&["model", "pull", REPOSITORY, "--retries", "1"]));
    assert_eq!(hub.state().served, content.len(), "no byte was asked for twice");
    let ranges: Vec<String> = hub.state().seen.iter().filter_map(|(_, _, range, _)| range.clone()).collect();
    assert!(ranges.contains(&format!("bytes={}-", 1 << 20)), "{ranges:?}");
    assert_eq!(fs::read(device.directory().join("tiny/model.gguf")).unwrap(), content);
}

#[test]
fn a_pull_that_is_killed_goes_on_at_the_next_one() {
    let content = [tiny(), vec![7; 2 << 20]].concat();
    let (hub, device) = hub_and_device(&content);
    hub.state().stall = Some(1 << 20);
    let mut child = device.command(&["model", "pull", REPOSITORY]).spawn().unwrap();
    let half = device.directory().join(".partial/tiny/model.gguf");
    let started = Instant::now();
    while fs::metadata(&half).map_or(0, |metadata| metadata.len()) < 1 << 20 {
        assert!(started.elapsed() < Duration::from_secs(60), "the first half arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(second.contains("another process is adding model 'tiny'"), "{second}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(device.models(), Vec::<String>::new(), "half a model is none");
    success(&device.aios(&["model", "pull", REPOSITORY]));
    assert_eq!(hub.state().served, content.len());
    assert_eq!(fs::read(device.directory().join("tiny/model.gguf")).unwrap(), content);
}

#[test]
fn what_an_earlier_attempt_left_of_another_file_is_not_gone_on_with() {
    let (hub, device) = hub_and_device(&[tiny(), vec![7; 1 << 20]].concat());
    hub.state().cuts = [700_000].into();
    failure(&device.aios(&["model", "pull", REPOSITORY, "--retries", "0"]));
    assert_eq!(device.partial(), ["tiny", "tiny.state"]);
    hub.state().files.insert("tiny.gguf".to_owned(), tiny());
    hub.state().served = 0;
    success(&device.aios(&["model", "pull", REPOSITORY]));
    assert_eq!(hub.state().served, tiny().len());
    assert_eq!(fs::read(device.directory().join("tiny/model.gguf")).unwrap(), tiny());
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let content = [tiny(), vec![7; 1 << 20]].concat();
    let (hub, device) = hub_and_device(&content);
    hub.state().cuts = [1 << 20].into();
    hub.state().no_ranges = true;
    success(&device.aios(&["model", "pull", REPOSITORY, "--retries", "1"]));
    assert_eq!(hub.state().served, content.len() + (1 << 20));
    assert_eq!(fs::read(device.directory().join("tiny/model.gguf")).unwrap(), content);
}

#[test]
fn bytes_that_are_not_the_promised_ones_are_refused_and_removed() {
    let (hub, device) = hub_and_device(&tiny());
    hub.state().told_hash = Some("ab".repeat(32));
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(error.contains(&"ab".repeat(32)) && error.contains(&sha256(&tiny())), "{error}");
    nothing_is_left(&device);

    // The hub and the file agree, and the person expects another one.
    hub.state().told_hash = None;
    hub.state().served = 0;
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--sha256", &"cd".repeat(32)]));
    assert!(error.contains("--sha256 expects") && error.contains("nothing was downloaded"), "{error}");
    assert_eq!(hub.state().served, 0);
    success(&device.aios(&["model", "pull", REPOSITORY, "--sha256", &sha256(&tiny())]));
}

#[test]
fn a_partial_file_that_was_changed_meanwhile_is_found_out() {
    let (hub, device) = hub_and_device(&[tiny(), vec![7; 1 << 20]].concat());
    hub.state().cuts = [700_000].into();
    failure(&device.aios(&["model", "pull", REPOSITORY, "--retries", "0"]));
    let half = device.directory().join(".partial/tiny/model.gguf");
    let mut bytes = fs::read(&half).unwrap();
    bytes[1000] ^= 1;
    fs::write(&half, bytes).unwrap();
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(error.contains("is not the one that was promised"), "{error}");
    nothing_is_left(&device);
    success(&device.aios(&["model", "pull", REPOSITORY]));
}

#[test]
fn a_file_that_is_no_model_is_refused_and_removed() {
    let hostile = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &u64::MAX.to_le_bytes(), &[0; 64]].concat();
    for (content, reason) in
        [(b"<html>".as_slice(), "is not a GGUF file"), (&hostile, "claims 18446744073709551615 tensors")]
    {
        let (_hub, device) = hub_and_device(content);
        let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
        assert!(error.contains(reason) && error.contains("nothing of it was kept"), "{error}");
        nothing_is_left(&device);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let (hub, device) = hub_and_device(&tiny());
    for (repository, reason) in [
        ("owner/absent", "has no repository owner/absent"),
        ("owner/tiny-GGUF@absent", "at revision absent"),
        ("not-a-repository", "use OWNER/NAME"),
    ] {
        let error = failure(&device.aios(&["model", "pull", repository]));
        assert!(error.contains(reason), "{error}");
    }
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--file", "absent.gguf"]));
    assert!(error.contains("has no file absent.gguf") && error.contains("tiny.gguf"), "{error}");
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--id", "../escape"]));
    assert!(error.contains("'../escape' is no model id"), "{error}");

    hub.state().gated = true;
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(
        error.contains("401") && error.contains("accept the model's licence") && error.contains("HF_TOKEN"),
        "{error}"
    );
    nothing_is_left(&device);
    success(&device.command(&["model", "pull", REPOSITORY]).env("HF_TOKEN", TOKEN).output().unwrap());
}

#[test]
fn a_token_comes_from_a_private_file_and_goes_to_the_hub_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = TestHub::new(&[("tiny.gguf", &tiny())]);
    hub.state().gated = true;
    let device = Device::new(&hub.endpoint());
    let token = device.root().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    device.configure(&format!("hub-token-file = \"{}\"", token.display()));
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(error.contains("models.hub-token-file") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    success(&device.aios(&["model", "pull", REPOSITORY]));
    let state = hub.state();
    let (stored, asked): (Vec<_>, Vec<_>) = state.seen.iter().partition(|(_, path, ..)| path.starts_with("/blob/"));
    assert!(!stored.is_empty() && stored.iter().all(|(.., token)| !token), "{stored:?}");
    assert!(asked.iter().all(|(.., token)| *token), "{asked:?}");
}

#[test]
fn trouble_that_passes_is_waited_for_and_other_trouble_is_not() {
    let (hub, device) = hub_and_device(&tiny());
    hub.state().answers = [(503, ""), (429, "Retry-After: 1\r\n"), (502, "")].into();
    let started = Instant::now();
    success(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(started.elapsed() >= Duration::from_secs(1), "the hub asked for a second");

    let (hub, device) = hub_and_device(&tiny());
    hub.state().answers = [(429, "Retry-After: 77\r\n")].into();
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--retries", "0"]));
    assert!(error.contains("429") && error.contains("wait 77 s"), "{error}");

    drop(hub);
    let device = Device::new("http://127.0.0.1:9");
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--retries", "0"]));
    assert!(error.contains("can't be reached") && error.contains("aios model import"), "{error}");
    // A server that speaks no TLS.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let device = Device::new(&format!("https://{}", plain.local_addr().unwrap()));
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--retries", "0"]));
    assert!(error.contains("no secure connection") && error.contains("clock"), "{error}");
}

#[test]
fn the_environment_names_another_hub() {
    let hub = TestHub::new(&[("tiny.gguf", &tiny())]);
    let device = Device::new("http://127.0.0.1:9");
    let output = device.command(&["model", "pull", "owner/tiny-GGUF@v1.0"]).env("HF_ENDPOINT", hub.endpoint()).output();
    success(&output.unwrap());
    assert_eq!(device.models(), ["tiny"]);
}

#[test]
fn of_several_files_one_is_to_be_chosen() {
    let content = tiny();
    let pieces = [("a-Q4_1.gguf", content.as_slice()), ("a-Q8_0.gguf", &content), ("b-00001-of-00002.gguf", &content)];
    let hub = TestHub::new(&pieces);
    let device = Device::new(&hub.endpoint());
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    for part in
        ["has 3 GGUF files", "--file", "a-Q4_1.gguf", "a-Q8_0.gguf", " kB  a-Q4_1.gguf", "Q4_K_M are small and fast"]
    {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let error = failure(&device.aios(&["model", "pull", REPOSITORY, "--file", "b-00001-of-00002.gguf"]));
    assert!(error.contains("one piece of a model"), "{error}");
    success(&device.aios(&["model", "pull", REPOSITORY, "--file", "a-Q8_0.gguf", "--id", "mine"]));
    assert_eq!(device.models(), ["mine"]);
    let hub = TestHub::new(&[("model.safetensors", b"x")]);
    let device = Device::new(&hub.endpoint());
    assert!(failure(&device.aios(&["model", "pull", REPOSITORY])).contains("only safetensors"));
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_downloaded() {
    let (hub, device) = hub_and_device(&tiny());
    device.configure("reserve = \"1000000GiB\"");
    let error = failure(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(error.contains("models.reserve") && error.contains("free"), "{error}");
    assert_eq!(hub.state().served, 0);
    nothing_is_left(&device);
}

/// Runs the command with a file system of so many KiB where the models go.
fn pull_on_a_small_disk(device: &Device, kilobytes: usize) -> (std::process::Output, String) {
    let directory = device.directory();
    let script = format!(
        "mount -t tmpfs -o size={kilobytes}k none {dir} && {{ \"$@\"; code=$?; find {dir} -mindepth 1 | sort >&2; exit $code; }}",
        dir = directory.display()
    );
    let pull = device.command(&["model", "pull", REPOSITORY]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(pull.get_program()).args(pull.get_args());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_disk_that_becomes_full_keeps_nothing_half_written() {
    let content = tiny();
    let pages = content.len().div_ceil(4096) * 4;
    let (hub, device) = hub_and_device(&content);
    fs::create_dir_all(device.directory()).unwrap();
    device.configure("reserve = \"0B\"");
    // The weights fit, and the page that says which they are, and nothing that comes after them.
    let (output, said) = pull_on_a_small_disk(&device, pages + 4);
    if said.contains("unshare") || said.contains("mount:") {
        eprintln!("not tried: this machine has no user namespaces");
        return;
    }
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("the disk is full; nothing of the model was kept"), "{said}");
    assert_eq!(hub.state().served, content.len());
    let left: Vec<&str> = said.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(left, [device.directory().join(".partial").to_str().unwrap()], "{said}");
    let (output, said) = pull_on_a_small_disk(&device, pages + 64);
    assert!(output.status.success(), "with room for all of it: {said}");
}

#[test]
fn a_model_of_an_unknown_architecture_comes_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    tiny_model::write_with(&path, |metadata, _| {
        let entry = metadata.iter_mut().find(|(key, _)| key == "general.architecture").unwrap();
        entry.1 = candle_core::quantized::gguf_file::Value::String("mamba".into());
        metadata.retain(|(key, _)| key != "tokenizer.chat_template");
    });
    let (_hub, device) = hub_and_device(&fs::read(Path::new(&path)).unwrap());
    let output = success(&device.aios(&["model", "pull", REPOSITORY]));
    assert!(
        output.contains("no engine for the architecture \"mamba\"") && output.contains("no chat template"),
        "{output}"
    );
}

/// Lays a file down as the hub's own tools do: a blob by its hash, a link to it, and what `main` stands for.
fn download_before(device: &Device, promised: &[u8], content: &[u8]) {
    let repository = device.hub_home().join("hub").join(format!("models--{}", REPOSITORY.replace('/', "--")));
    let snapshot = repository.join("snapshots").join(COMMIT);
    for folder in [&repository.join("blobs"), &repository.join("refs"), &snapshot] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    fs::write(repository.join("blobs").join(sha256(promised)), content).unwrap();
    let link = snapshot.join("tiny.gguf");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(Path::new("../../blobs").join(sha256(promised)), link).unwrap();
}

#[test]
fn a_file_that_the_hubs_own_tools_have_is_not_downloaded_again() {
    let (hub, device) = hub_and_device(&tiny());
    download_before(&device, &tiny(), &tiny());
    let output = device.aios(&["model", "pull", REPOSITORY]);
    success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("tiny.gguf is taken from"), "{output:?}");
    assert_eq!(hub.state().served, 0);
    assert_eq!(success(&device.aios(&["model", "verify"])), "tiny: signed\n");

    let (hub, device) = hub_and_device(&tiny());
    let mut damaged = tiny();
    *damaged.last_mut().unwrap() ^= 1;
    for copy in [&damaged[..], &damaged[..100]] {
        download_before(&device, &tiny(), copy);
        let output = device.aios(&["model", "pull", REPOSITORY, "--id", &format!("copy-{}", copy.len())]);
        success(&output);
        assert!(String::from_utf8_lossy(&output.stderr).contains("is not the file that was promised"), "{output:?}");
    }
    assert_eq!(hub.state().served, 2 * tiny().len());
}

#[test]
fn without_the_hub_what_its_own_tools_have_is_enough() {
    let device = Device::new("http://127.0.0.1:9");
    let pull = |arguments: &[&str]| {
        let arguments = [&["model", "pull"], arguments].concat();
        device.command(&arguments).env("HF_HUB_OFFLINE", "1").output().unwrap()
    };
    let error = failure(&pull(&[REPOSITORY]));
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("there is no copy of"), "{error}");
    let mut damaged = tiny();
    damaged[1000] ^= 1;
    download_before(&device, &tiny(), &damaged);
    let error = failure(&pull(&[REPOSITORY]));
    assert!(error.contains("HF_HUB_OFFLINE forbids to download tiny.gguf"), "{error}");
    nothing_is_left(&device);

    download_before(&device, &tiny(), &tiny());
    success(&pull(&[REPOSITORY]));
    let manifest = fs::read_to_string(device.directory().join("tiny/model.toml")).unwrap();
    assert!(manifest.contains(&format!("revision = \"{COMMIT}\"")), "{manifest}");
    success(&pull(&[&format!("{REPOSITORY}@{COMMIT}"), "--id", "by-commit"]));
    let error = failure(&pull(&[&format!("{REPOSITORY}@v2"), "--id", "other"]));
    assert!(error.contains("at revision v2"), "{error}");
    assert_eq!(device.models(), ["by-commit", "tiny"]);
}

#[test]
fn the_token_of_a_login_is_used() {
    let (hub, device) = hub_and_device(&tiny());
    hub.state().gated = true;
    fs::create_dir_all(device.hub_home()).unwrap();
    fs::write(device.hub_home().join("token"), TOKEN).unwrap();
    success(&device.aios(&["model", "pull", REPOSITORY]));
}
