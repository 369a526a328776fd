//! Approval from afar, as processes: the tools, the fleet's service, a real broker and an operator's command line.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/broker.rs"]
mod broker;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use aios_fleet::{
    access::{Access, Files},
    operator::{Operator, OperatorError},
};
use aios_keys::{note::Signer, seed::Seed};
use aios_policy::Timestamp;
use aios_tools::approvals::answer::{Answer, Signed, question_hash};
use broker::Broker;
use serde_json::{Value, json};

const DEVICE: &str = "pump-2";
/// Longest time that anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The tools, the fleet's service, and a broker.
struct Site {
    folder: tempfile::TempDir,
    broker: Broker,
    daemons: Vec<Child>,
}

impl Site {
    /// A device whose `fs.write` always waits for alice, for `timeout`.
    fn start(timeout: &str) -> Site {
        let broker = Broker::start(DEVICE);
        let mut site = Site { folder: tempfile::tempdir().unwrap(), broker, daemons: Vec::new() };
        let made = answer(&site.aios(&["key", "new", site.path("alice").to_str().unwrap(), "--name", "alice"]), 0);
        let operator = rustix::process::geteuid().as_raw();
        let policy = format!(
            "[agents.operator]\nuids = [{operator}]\ncapabilities = [\"*:*:**\"]\nvouches = [\"operator\"]\n\
             [agents.alice]\nkeys = [{}]\n[tools.\"fs.write\"]\napproval = \"always\"\n\
             [approvals]\napprovers = [\"alice\"]\ntimeout = \"{timeout}\"\n",
            made["fingerprint"]
        );
        fs::write(site.path("policy.toml"), policy).unwrap();
        let config = format!(
            "[tools]\nsocket = {:?}\n[fleet]\nbroker = \"{}\"\ndevice-id = \"{DEVICE}\"\nca-file = {:?}\n\
             certificate-file = {:?}\nkey-file = {:?}\nkeep-alive = \"7s\"\n",
            site.path("tools.sock"),
            site.broker.url(),
            site.broker.path("ca.pem"),
            site.broker.path("pump-2.pem"),
            site.broker.path("pump-2.key")
        );
        fs::write(site.path("aios.toml"), config).unwrap();
        let text = |name: &str| site.path(name).display().to_string();
        let (config, policy, state, keys) = (text("aios.toml"), text("policy.toml"), text("state"), text("keys"));
        let tools = ["tools", "--without-groups", "--config", &config, "--policy", &policy, "--state", &state];
        site.daemon(&[&tools[..], &["--keys", &keys]].concat());
        site.daemon(&["fleet", "--config", &config]);
        site.until(|site| site.afar(&["tool", "approvals"]).status.success());
        site
    }

    fn daemon(&mut self, args: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(command.spawn().unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn aios(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_aios")).arg("--json").args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// A command of alice's, on her own machine.
    fn afar(&self, args: &[&str]) -> Output {
        let path = |name: &str| self.broker.path(name).display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.arg("--json").args(args).args(["--broker", &self.broker.url(), "--device", DEVICE]);
        command.args(["--ca", &path("ca.pem"), "--cert", &path("alice.pem"), "--cert-key", &path("alice.key")]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn approve(&self, call: &str, key: &str) -> Output {
        self.afar(&["tool", "approve", call, "--yes", "--key", self.path(key).to_str().unwrap()])
    }

    /// Begins a call that waits for somebody.
    fn call(&self) -> Child {
        let (file, socket) = (self.path("file").display().to_string(), self.path("tools.sock").display().to_string());
        let args = ["--json", "tool", "run", "fs.write", &format!("path={file}"), "content=exactly this"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.args(args).args(["--tools-socket", &socket]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The call that waits, as alice sees it.
    fn waiting(&self) -> Value {
        let mut found = Value::Null;
        self.until(|site| {
            let listed = site.afar(&["tool", "approvals"]);
            found = serde_json::from_slice::<Value>(&listed.stdout).unwrap_or_default()[0].clone();
            !found.is_null()
        });
        found
    }

    fn until(&self, mut done: impl FnMut(&Site) -> bool) {
        let started = Instant::now();
        while !done(self) {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{}{}", log(), self.broker.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What alice's signature stands under, for the question that waits; and the question's text.
    fn alices(&self, change: impl FnOnce(&mut Answer)) -> Signed {
        let text = self.talk(async |operator| {
            let alarm = operator.questions().await.unwrap().into_values().next().unwrap();
            alarm.question.unwrap()
        });
        let question: Value = serde_json::from_str(&text).unwrap();
        let field = |name: &str| question[name].as_str().unwrap().to_owned();
        let mut answer = Answer {
            device: field("device"),
            call_id: field("call"),
            digest: field("digest"),
            question: question_hash(&text),
            approve: true,
            approver: "alice".into(),
            time: Timestamp(0),
            until: Timestamp(question["until"].as_u64().unwrap()),
        };
        change(&mut answer);
        let seed = Seed::open(&self.path("alice")).unwrap().unwrap();
        answer.sign(&Signer::new("alice", &seed).unwrap()).unwrap()
    }

    /// Sends an answer; says why the device refused it.
    fn refusal(&self, command: &str, signed: &Signed) -> String {
        let Signed { note, key } = signed.clone();
        let sent = self.talk(async |operator| operator.answer(command, note, key, Duration::from_secs(60)).await);
        match sent {
            Err(OperatorError::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn talk<T>(&self, talk: impl AsyncFnOnce(&mut Operator) -> T) -> T {
        let path = |name: &str| Some(self.broker.path(name));
        let files = Files { ca: path("ca.pem"), certificate: path("alice.pem"), key: path("alice.key") };
        let access = Access::new(self.broker.url().parse().unwrap(), &files, Duration::from_secs(30)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut operator = Operator::connect(&access, DEVICE, "test").await.unwrap();
            talk(&mut operator).await
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// What a command printed, that ended with `code`.
fn answer(output: &Output, code: i32) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_yes_that_an_approver_signed_runs_the_call_and_no_other_does() {
    let site = Site::start("10m");
    let run = site.call();
    let waiting = site.waiting();
    assert_eq!(waiting["arguments"], json!({"path": site.path("file"), "content": "exactly this"}));
    assert_eq!((&waiting["tool"], &waiting["agent"]), (&json!("fs.write"), &json!("operator")));
    let call = waiting["call_id"].as_str().unwrap();

    let stranger = site.path("mallory");
    answer(&site.aios(&["key", "new", stranger.to_str().unwrap(), "--name", "alice"]), 0);
    let forged = site.approve(call, "mallory");
    assert!(!forged.status.success() && said(&forged).contains("is not one of an approver"), "{}", said(&forged));
    let digest = site.alices(|answer| answer.digest = "00".repeat(32));
    assert!(site.refusal("digest", &digest).contains("is not the one that was shown"));
    let shown = site.alices(|answer| answer.question = question_hash("{\"arguments\":{}}"));
    assert!(site.refusal("shown", &shown).contains("is not the one that was shown"));
    let device = site.alices(|answer| answer.device = "pump-3".into());
    assert!(site.refusal("device", &device).contains("for the device"));
    let late = site.alices(|answer| answer.until = Timestamp(1));
    assert!(site.refusal("late", &late).contains("counted until"));
    let good = site.alices(|_| {});
    let flipped = Signed { note: good.note.replace("verdict approve", "verdict deny"), ..good.clone() };
    assert!(site.refusal("flipped", &flipped).contains("changed after it was signed"));
    let huge = Signed { note: "x".repeat(40_000), ..good.clone() };
    assert!(site.refusal("huge", &huge).contains("more than"));
    assert!(!site.path("file").exists(), "a call ran that nobody approved");

    let approved = site.approve(call, "alice");
    assert!(approved.status.success(), "{}", said(&approved));
    answer(&run.wait_with_output().unwrap(), 0);
    assert_eq!(fs::read_to_string(site.path("file")).unwrap(), "exactly this");
    let again = site.call();
    site.waiting();
    assert!(site.refusal("replayed", &good).contains("no call"), "an answer counted twice");
    let denied = site.afar(&[
        "tool",
        "deny",
        site.waiting()["call_id"].as_str().unwrap(),
        "--key",
        site.path("alice").to_str().unwrap(),
    ]);
    assert!(denied.status.success(), "{}", said(&denied));
    assert_eq!(answer(&again.wait_with_output().unwrap(), 77)["refusal"]["message"], "alice said no");

    let ledger = site.path("state/ledger.redb");
    let recorded = |kind: &str| {
        let shown = site.aios(&["ledger", "show", "--kind", kind, "--ledger", ledger.to_str().unwrap()]);
        String::from_utf8(shown.stdout).unwrap()
    };
    assert!(recorded("answer").contains("aios approval 1"), "{}", recorded("answer"));
    assert!(recorded("answer-refused").contains("is not one of an approver"), "{}", recorded("answer-refused"));
}

#[test]
fn nobody_answering_is_a_no_and_the_question_goes() {
    let site = Site::start("5s");
    let run = site.call();
    site.waiting();
    let refused = answer(&run.wait_with_output().unwrap(), 77);
    assert_eq!(refused["refusal"]["stage"], "approval");
    site.until(|site| answer(&site.afar(&["tool", "approvals"]), 0) == json!([]));
    assert!(!site.path("file").exists());
}

#[test]
fn a_question_outlives_the_broker() {
    let mut site = Site::start("10m");
    let run = site.call();
    let before = site.waiting();
    site.broker.kill();
    // The tools work on without it.
    let socket = site.path("tools.sock");
    answer(&site.aios(&["tool", "run", "self.version", "--tools-socket", socket.to_str().unwrap()]), 0);
    site.broker.run();
    let after = site.waiting();
    assert_eq!(after["call_id"], before["call_id"]);
    let approved = site.approve(after["call_id"].as_str().unwrap(), "alice");
    assert!(approved.status.success(), "{}", said(&approved));
    answer(&run.wait_with_output().unwrap(), 0);
    assert!(Path::new(&site.path("file")).exists());
    assert!(site.broker.log().contains("as aios-pump-2 (p5, c1, k7"), "fleet.keep-alive: {}", site.broker.log());
}
