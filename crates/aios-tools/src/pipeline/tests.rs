use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{host::Host, job, tool::Inverse};

const POLICY: &str = r#"
[agents.operator]
uids = [0]
capabilities = ["*:*:**"]
vouches = ["operator", "user"]
max-risk-without-approval = "high"

[agents.reader]
uids = [10]
capabilities = ["fs:read:/data/**"]
vouches = ["user"]

[agents.writer]
uids = [11]
capabilities = ["fs:read:/data/**", "fs:write:/data/**", "web:*:**"]
vouches = ["user"]
rate = "10000/min"
tool-rates = { "fs.write" = "10000/min" }

[agents.hasty]
uids = [12]
capabilities = ["fs:read:/data/**"]
rate = "2/min"

[approvals]
timeout = "1s"
approvers = ["operator"]
"#;

/// A ledger in memory, which can be broken.
#[derive(Default)]
struct Ledger {
    entries: Mutex<Vec<(String, String, Value)>>,
    broken: AtomicBool,
}

impl Recorder for Ledger {
    fn record(&self, kind: &'static str, agent: &str, body: &Value) -> Result<u64, String> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("no space left on device".into());
        }
        let mut entries = self.entries.lock().expect("lock");
        entries.push((kind.to_owned(), agent.to_owned(), body.clone()));
        Ok(entries.len() as u64 - 1)
    }

    fn redact(&self, value: &mut Value, pointers: &[&str]) {
        for pointer in pointers {
            if let Some(secret) = value.pointer_mut(pointer) {
                *secret = Value::from("redacted");
            }
        }
    }
}

impl Ledger {
    fn kinds(&self) -> Vec<String> {
        self.entries.lock().expect("lock").iter().map(|(kind, ..)| kind.clone()).collect()
    }

    fn entry(&self, seq: u64) -> (String, String, Value) {
        self.entries.lock().expect("lock")[usize::try_from(seq).expect("seq")].clone()
    }
}

/// Does jobs on a folder, without confinement, and remembers them; or refuses.
struct Fake {
    host: Host,
    journal: std::path::PathBuf,
    done: Mutex<Vec<(u64, String)>>,
    refuse: AtomicBool,
    /// Dies in the middle of a run, as a power cut would have it.
    cut: AtomicBool,
    ran: AtomicU32,
}

impl Confinement for Fake {
    fn perform(&self, recorded: &Recorded, work: &Work<'_>) -> Result<Answer, ConfineError> {
        if self.refuse.load(Ordering::Relaxed) {
            return Err(ConfineError::Refused { message: "no Landlock".into(), hint: String::new() });
        }
        let text = serde_json::to_string(work.job).expect("JSON");
        self.done.lock().expect("lock").push((recorded.seq(), text.clone()));
        if matches!(work.job, Job::Run { .. }) {
            self.ran.fetch_add(1, Ordering::Relaxed);
        }
        let journal = work.journal.as_ref().map_or(self.journal.clone(), |view| view.folder.clone());
        let answer = job::perform(serde_json::from_str(&text).expect("JSON"), &self.host, &journal);
        if self.cut.load(Ordering::Relaxed) && matches!(work.job, Job::Run { .. }) {
            panic!("power cut");
        }
        Ok(answer)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    ledger: Arc<Ledger>,
    fake: Arc<Fake>,
    pipeline: Pipeline,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(folder.path().join("root/data")).expect("mkdir");
    let ledger = Arc::new(Ledger::default());
    let fake = Arc::new(Fake {
        host: Host::below(folder.path().join("root")),
        journal: folder.path().join("nowhere"),
        done: Mutex::default(),
        refuse: AtomicBool::new(false),
        cut: AtomicBool::new(false),
        ran: AtomicU32::new(0),
    });
    let pipeline = pipeline(folder.path(), &ledger, &fake);
    Bench { folder, ledger, fake, pipeline }
}

fn pipeline(folder: &Path, ledger: &Arc<Ledger>, fake: &Arc<Fake>) -> Pipeline {
    let layer = aios_policy::policy::Layer { path: "policy.toml".into(), text: POLICY.into() };
    Pipeline::new(Parts {
        policy: Policy::from_layers(&[layer]).expect("policy"),
        grants: Grants::default(),
        device: "pump-2".into(),
        verifier: Verifier::new(SigningKey::from_bytes(&[7; 32]).verifying_key()),
        recorder: ledger.clone(),
        confinement: fake.clone(),
        journal: Journal::open(folder.join("journal")).expect("journal"),
    })
}

fn user(uid: u32) -> Caller {
    Caller::User { uid, name: None }
}

fn call(tool: &str, arguments: Value) -> Call {
    Call { tool: tool.into(), arguments: arguments.to_string(), ..Call::default() }
}

impl Bench {
    fn stage(&self, uid: u32, call: &Call) -> Option<Stage> {
        match self.pipeline.execute(&user(uid), call).outcome {
            Outcome::Refused(refusal) => Some(refusal.stage),
            _ => None,
        }
    }

    fn data(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("root/data").join(name)
    }
}

#[test]
fn each_stage_refuses_what_is_its_to_refuse_and_the_ledger_knows() {
    let bench = bench();
    fs::write(bench.data("a"), "text").expect("write");
    let read = |path: &str| call("fs.read", json!({ "path": path }));
    assert_eq!(bench.stage(10, &read("/data/a")), None);
    assert_eq!(bench.stage(10, &call("fs.nothing", json!({}))), Some(Stage::Schema));
    assert_eq!(bench.stage(10, &read("data/a")), Some(Stage::Schema));
    // A star in a name is a star: it is read, if anything, as the file of this name.
    assert_eq!(bench.stage(10, &read("/*/a")), Some(Stage::Capability));
    assert_eq!(bench.stage(99, &read("/data/a")), Some(Stage::Identity));
    assert_eq!(bench.stage(10, &Call { token: "x".into(), ..read("/data/a") }), Some(Stage::Identity));
    assert_eq!(bench.stage(10, &read("/etc/a")), Some(Stage::Capability));
    let hasty: Vec<_> = (0..3).map(|_| bench.stage(12, &read("/data/a"))).collect();
    assert_eq!(hasty, [None, None, Some(Stage::Rate)]);
    bench.fake.refuse.store(true, Ordering::Relaxed);
    assert_eq!(bench.stage(10, &read("/data/a")), Some(Stage::Sandbox));
    bench.ledger.broken.store(true, Ordering::Relaxed);
    let ran = bench.fake.ran.load(Ordering::Relaxed);
    assert_eq!(bench.stage(10, &read("/data/a")), Some(Stage::Ledger));
    assert_eq!(bench.fake.ran.load(Ordering::Relaxed), ran);
    let kinds = bench.ledger.kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "refusal").count(), 8, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "result").count(), 3, "{kinds:?}");
}

#[test]
fn a_tool_that_fails_before_it_runs_fails_with_its_own_code() {
    let bench = bench();
    let write = |path: &str| call("fs.write", json!({ "path": path, "content": "new" }));
    // The folder is missing, so there is nothing that a copy could be taken of.
    let answered = bench.pipeline.execute(&user(0), &write("/data/missing/a"));
    let Outcome::Failure(error) = &answered.outcome else { panic!("{answered:?}") };
    assert_eq!(error.code, Code::NotFound);
    assert!(error.message.contains("/data/missing"), "{error}");
    assert_eq!((bench.fake.ran.load(Ordering::Relaxed), answered.reversible), (0, false));
    assert_eq!(bench.ledger.kinds(), ["decision", "result"]);
    let (.., body) = bench.ledger.entry(1);
    assert_eq!((&body["failure"]["code"], &body["decision"]), (&json!("not-found"), &json!(0)));
    assert!(bench.pipeline.journal().list(10).expect("journal").is_empty());
}

#[test]
fn a_call_that_no_copy_can_be_kept_of_is_refused() {
    let bench = bench();
    let socket = std::os::unix::net::UnixListener::bind(bench.data("socket")).expect("bind");
    let answered = bench.pipeline.execute(&user(0), &call("fs.delete", json!({ "path": "/data/socket" })));
    drop(socket);
    let Outcome::Refused(refusal) = answered.outcome else { panic!("{answered:?}") };
    assert_eq!(refusal.stage, Stage::Inverse);
    assert!(refusal.message.contains("can't be kept"), "{refusal:?}");
    assert_eq!(bench.fake.ran.load(Ordering::Relaxed), 0);
}

/// Notes for each step whether what the tool changes was its own meanwhile.
#[derive(Default)]
struct Watcher {
    pipeline: std::sync::OnceLock<std::sync::Weak<Pipeline>>,
    seen: Mutex<BTreeMap<String, Vec<bool>>>,
}

impl Confinement for Watcher {
    fn perform(&self, _: &Recorded, work: &Work<'_>) -> Result<Answer, ConfineError> {
        let (tool, answer) = match work.job {
            Job::Prepare { tool, arguments } => {
                let inverse = Inverse::Call { tool: tool.clone(), arguments: arguments.clone() };
                (tool, Answer::Prepared { inverse, saved: Vec::new() })
            }
            Job::Run { tool, .. } => (tool, Answer::Ran { result: Value::Null, after: Vec::new() }),
            Job::Restore { .. } => panic!("nothing is restored"),
        };
        let pipeline = self.pipeline.get().and_then(std::sync::Weak::upgrade).expect("a pipeline");
        let serial = catalogue::find(tool).expect("tool").spec.serial;
        let own = serial.is_some_and(|serial| pipeline.turns.of(serial).try_lock().is_err());
        self.seen.lock().expect("lock").entry(tool.clone()).or_default().push(own);
        Ok(answer)
    }
}

#[test]
fn what_several_tools_change_is_changed_by_one_call_at_a_time() {
    let folder = tempfile::tempdir().expect("tempdir");
    let layer = aios_policy::policy::Layer { path: "policy.toml".into(), text: POLICY.into() };
    let watcher = Arc::new(Watcher::default());
    let pipeline = Arc::new(Pipeline::new(Parts {
        policy: Policy::from_layers(&[layer]).expect("policy"),
        grants: Grants::default(),
        verifier: Verifier::new(SigningKey::from_bytes(&[7; 32]).verifying_key()),
        recorder: Arc::new(Ledger::default()),
        confinement: watcher.clone(),
        device: "pump-2".into(),
        journal: Journal::open(folder.path().join("journal")).expect("journal"),
    }));
    watcher.pipeline.set(Arc::downgrade(&pipeline)).expect("once");
    let shared = catalogue::all().filter(|tool| ["firewall", "net", "pkg", "self"].contains(&tool.spec.namespace()));
    for tool in shared.filter(|tool| tool.spec.reversible) {
        assert!(tool.spec.serial.is_some(), "{}", tool.spec.name);
        // What is critical would wait for somebody.
        if tool.spec.risk == aios_policy::Risk::Critical {
            continue;
        }
        let example = serde_json::from_str(tool.spec.examples[0].arguments).expect("JSON");
        let answered = pipeline.execute(&user(0), &call(tool.spec.name, example));
        assert!(matches!(answered.outcome, Outcome::Result(_)), "{}: {answered:?}", tool.spec.name);
        pipeline.rollback(&user(0), &answered.call_id, false).expect("rollback");
    }
    let seen = watcher.seen.lock().expect("lock");
    assert!(seen.len() >= 4, "{seen:?}");
    // What undoes it is found out, it runs, and both again for the rollback.
    assert!(seen.values().all(|own| own == &[true; 4]), "{seen:?}");
    drop(seen);
    for serial in [Serial::Firewall, Serial::Network, Serial::Slots, Serial::Configuration] {
        assert!(pipeline.turns.of(serial).try_lock().is_ok(), "{serial:?} was not given back");
    }
}

#[test]
fn an_id_is_the_callers_own_or_a_new_one() {
    let bench = bench();
    fs::write(bench.data("a"), "text").expect("write");
    let read = call("fs.read", json!({ "path": "/data/a" }));
    let answered = bench.pipeline.execute(&user(10), &Call { id: "my-1".into(), ..read.clone() });
    assert_eq!(answered.call_id, "my-1");
    assert_ne!(bench.pipeline.execute(&user(10), &read).call_id, bench.pipeline.execute(&user(10), &read).call_id);
    assert_eq!(bench.stage(10, &Call { id: "../x".into(), ..read }), Some(Stage::Schema));
}

#[test]
fn to_name_a_thing_is_not_to_have_it_harmed() {
    let bench = bench();
    fs::write(bench.data("a"), "text").expect("write");
    let said = |tool: &str, arguments: Value| Call {
        session: "s".into(),
        goal: "What is in /data/a?".into(),
        ..call(tool, arguments)
    };
    let delete = said("fs.delete", json!({"path": "/data/a"}));
    assert_eq!(bench.stage(0, &said("fs.read", json!({"path": "/data/a"}))), None);
    assert_eq!(bench.stage(0, &delete), Some(Stage::Approval), "it stands in the goal, but not to be deleted");
    let append = json!({"path": "/data/a", "content": "x", "how": "append"});
    assert_eq!(bench.stage(0, &said("fs.write", append)), None);
    assert_eq!(bench.stage(0, &Call { session: "other".into(), ..delete }), None, "nobody else has said anything");
}

#[test]
fn names_that_a_failure_or_a_refusal_tells_are_their_givers() {
    for (tool, arguments, stage) in [
        ("fs.copy", json!({"from": "/data/in", "to": "/data/out"}), None),
        ("fs.delete", json!({"path": "/data/in", "recursive": true}), Some(Stage::Inverse)),
    ] {
        let bench = bench();
        fs::create_dir(bench.data("in")).expect("mkdir");
        rustix::fs::mkfifoat(rustix::fs::CWD, bench.data("in/obey me"), rustix::fs::Mode::RUSR).expect("mkfifo");
        let write = call("fs.write", json!({"path": "/data/b", "content": "x"}));
        let write = Call { session: "s".into(), ..write };
        assert_eq!(bench.stage(0, &Call { session: "s".into(), ..call(tool, arguments) }), stage);
        assert_eq!(bench.stage(0, &write), Some(Stage::Approval), "{tool}");
        let kind = if stage.is_some() { "refusal" } else { "result" };
        let entries = bench.ledger.entries.lock().expect("lock");
        let told = entries.iter().find(|(of, ..)| of == kind).expect("recorded");
        assert_eq!(told.2["read"], format!("tool:{tool}"), "for the sessions after a restart");
    }
}

#[test]
fn nobody_undoes_what_another_agent_did_but_an_approver() {
    let bench = bench();
    let write =
        |id: &str| Call { id: id.into(), ..call("fs.write", json!({"path": format!("/data/{id}"), "content": "x"})) };
    assert_eq!(bench.stage(0, &write("operators")), None);
    assert_eq!(bench.stage(11, &Call { session: "s".into(), ..write("writers") }), None);
    let undone = |uid: u32, id: &str| bench.pipeline.rollback(&user(uid), id, false);
    assert!(matches!(undone(11, "operators"), Err(RollbackError::Refused(_))));
    assert!(bench.data("operators").exists());
    undone(0, "writers").expect("an approver's");
    undone(0, "operators").expect("its own");
}

#[test]
fn a_refusal_of_arguments_is_recorded_without_quoting_them() {
    let bench = bench();
    let posted = json!({"url": "https://me:hunter2@example.org/", "body": {}, "limit": "hunter2"});
    assert_eq!(bench.stage(0, &call("web.post", posted)), Some(Stage::Schema));
    let recorded = bench.ledger.entry(0).2;
    assert!(!recorded.to_string().contains("hunter2"), "{recorded}");
    assert_eq!(recorded["refusal"]["stage"], "schema");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, in whatever state the ledger and the sandbox are: what ran had a decision in the ledger before,
    /// for this tool and this agent, whose capabilities cover its needs; and what is said to be refused did not run.
    #[test]
    fn nothing_runs_without_a_decision_in_the_ledger(calls in prop::collection::vec(any_call(), 1..12)) {
        let bench = bench();
        fs::write(bench.data("a"), "text").expect("write");
        for (uid, call, ledger_broken, sandbox_broken) in calls {
            bench.ledger.broken.store(ledger_broken, Ordering::Relaxed);
            bench.fake.refuse.store(sandbox_broken, Ordering::Relaxed);
            let (ran, done) = (bench.fake.ran.load(Ordering::Relaxed), bench.fake.done.lock().expect("lock").len());
            let answered = bench.pipeline.execute(&user(uid), &call);
            let runs = bench.fake.ran.load(Ordering::Relaxed) - ran;
            match answered.outcome {
                Outcome::Refused(_) => prop_assert_eq!(runs, 0),
                // It may have failed as it looked for what undoes it.
                Outcome::Failure(_) => prop_assert!(runs <= 1),
                Outcome::Result(_) => prop_assert_eq!(runs, 1),
            }
            prop_assert!(!ledger_broken || runs == 0);
            for (seq, job) in &bench.fake.done.lock().expect("lock")[done..] {
                let (kind, agent, body) = bench.ledger.entry(*seq);
                prop_assert_eq!(&kind, "decision");
                prop_assert_eq!(body["call"].as_str(), Some(answered.call_id.as_str()));
                let job: Value = serde_json::from_str(job).expect("JSON");
                prop_assert_eq!(&body["tool"], &job["tool"]);
                let agent_of = BTreeMap::from([(0, "operator"), (10, "reader"), (11, "writer"), (12, "hasty")]);
                prop_assert_eq!(Some(agent.as_str()), agent_of.get(&uid).copied());
                let policy = bench.pipeline.policy();
                for need in body["needs"].as_array().expect("needs") {
                    let need = need.as_str().expect("text").parse().expect("capability");
                    prop_assert!(policy.holds(&agent, &need), "{agent} {need}");
                }
            }
            if !ledger_broken {
                let seq = answered.seq.expect("recorded");
                prop_assert!(bench.ledger.entry(seq).2["call"] == answered.call_id.as_str());
            }
        }
    }
}

fn any_call() -> impl Strategy<Value = (u32, Call, bool, bool)> {
    let examples: Vec<(String, String)> = catalogue::all()
        .filter(|tool| tool.spec.namespace() == "fs")
        .flat_map(|tool| tool.spec.examples.iter().map(|e| (tool.spec.name.to_owned(), e.arguments.to_owned())))
        .chain([("no.tool".to_owned(), "{}".to_owned())])
        .collect();
    let data = prop::sample::select(vec![
        r#"{"path": "/data/a"}"#,
        r#"{"path": "/data/a", "offset": 2}"#,
        r#"{"path": "/etc/passwd"}"#,
        r#"{"path": "/data/../etc/passwd"}"#,
        r#"{"path": "/data/**"}"#,
        "{",
        "",
    ]);
    let reading = data.prop_map(|arguments| ("fs.read".to_owned(), arguments.to_owned()));
    let session = prop::sample::select(vec!["", "s", "t"]);
    (
        prop::sample::select(vec![0_u32, 10, 11, 12, 99]),
        prop_oneof![reading, prop::sample::select(examples)],
        session,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(uid, (tool, arguments), session, ledger, sandbox)| {
            (uid, Call { tool, arguments, session: session.into(), ..Call::default() }, ledger, sandbox)
        })
}

/// A token of this device, or of the one with another key, by which the operator hands on reading below `/data`.
fn token(device: u8, subject: &str, not_after: Timestamp) -> Caller {
    let authority = aios_policy::token::Authority {
        id: aios_policy::token::TokenId([1; 16]),
        issuer: "operator".into(),
        subject: subject.into(),
        capabilities: vec!["fs:read:/data/**".parse().expect("a capability")],
        tools: None,
        not_after,
    };
    let device = SigningKey::from_bytes(&[device; 32]);
    let minted = aios_policy::Token::mint(&device, &authority, aios_policy::token::Ending::Sealed);
    Caller::Bearer(minted.expect("a token"))
}

#[test]
fn the_bearer_of_a_token_has_the_rights_of_the_token_alone() {
    let bench = bench();
    fs::write(bench.data("a"), "text").expect("write");
    let read = call("fs.read", json!({ "path": "/data/a" }));
    let write = Call { session: "s".into(), ..call("fs.write", json!({ "path": "/data/b", "content": "x" })) };
    let stage = |caller: &Caller, call: &Call| match bench.pipeline.execute(caller, call).outcome {
        Outcome::Refused(refusal) => Some(refusal.stage),
        _ => None,
    };
    let later = Timestamp(now().0 + 60);
    let writer = token(7, "writer", later);
    assert_eq!(stage(&writer, &read), None);
    assert_eq!(stage(&writer, &write), Some(Stage::Capability), "the writer's own rights don't count");
    assert_eq!(stage(&user(11), &write), None, "they do where the kernel says that it is the writer");
    assert_eq!(stage(&writer, &Call { token: "x".into(), ..read.clone() }), Some(Stage::Identity));
    for bad in [token(8, "writer", later), token(7, "nobody", later), token(7, "writer", Timestamp(1))] {
        assert_eq!(stage(&bad, &read), Some(Stage::Identity));
        assert!(bench.pipeline.could_call(&bad, "", crate::catalogue::find("fs.read").expect("a tool").spec).is_err());
    }
    let (kind, agent, _) = bench.ledger.entry(bench.ledger.kinds().len() as u64 - 1);
    assert_eq!((kind.as_str(), agent.as_str()), ("refusal", "bearer"), "nobody's name is taken on trust");
    let could = |tool: &str| {
        let spec = crate::catalogue::find(tool).expect("a tool").spec;
        bench.pipeline.could_call(&writer, "", spec).expect("an agent")
    };
    assert!(could("fs.read") && !could("fs.write") && !could("self.poweroff"));
}

#[test]
fn what_the_bearer_of_a_token_may_not_do_it_may_not_undo() {
    let bench = bench();
    let write = Call { session: "s".into(), ..call("fs.write", json!({ "path": "/data/b", "content": "x" })) };
    let written = bench.pipeline.execute(&user(11), &write);
    assert!(matches!(written.outcome, Outcome::Result(_)), "{written:?}");
    let bearer = token(7, "writer", Timestamp(now().0 + 60));
    let refused = bench.pipeline.rollback(&bearer, &written.call_id, false);
    assert!(matches!(refused, Err(RollbackError::Refused(Refusal { stage: Stage::Capability, .. }))), "{refused:?}");
    bench.pipeline.rollback(&user(11), &written.call_id, false).expect("its own call");
}
