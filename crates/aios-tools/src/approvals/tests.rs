use std::{sync::Arc, thread};

use aios_keys::{note::Signer, seed::Seed};
use aios_policy::policy::Fingerprint;
use serde_json::json;

use super::*;

fn question(id: &str, arguments: &Value) -> Question {
    Question {
        call_id: id.into(),
        tool: "self.reboot".into(),
        version: 1,
        risk: Risk::Critical,
        agent: "maintenance".into(),
        arguments: arguments.clone(),
        reasons: vec![Reason::Risk(Risk::Critical)],
        digest: digest("self.reboot", 1, arguments),
    }
}

fn asked(approvals: &Arc<Approvals>, id: &'static str) -> thread::JoinHandle<Result<Verdict, ApprovalError>> {
    let (of_thread, before) = (approvals.clone(), approvals.list().len());
    let asking = thread::spawn(move || of_thread.ask(question(id, &json!({})), Duration::from_secs(60)));
    while approvals.list().len() == before {
        thread::yield_now();
    }
    asking
}

#[test]
fn an_answer_reaches_the_call_that_it_names_and_counts_once() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let (a, b) = (asked(&approvals, "a"), asked(&approvals, "b"));
    let digest = digest("self.reboot", 1, &json!({}));
    approvals.answer("b", &digest, false, "operator").expect("b waits");
    assert_eq!(b.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
    approvals.answer("a", &digest, true, "operator").expect("a waits");
    assert_eq!(a.join().expect("thread"), Ok(Verdict::Approved("operator".into())));
    assert_eq!(approvals.answer("a", &digest, true, "operator"), Err(ApprovalError::Unknown("a".into())));
    assert!(approvals.list().is_empty());
}

#[test]
fn an_answer_to_something_else_is_not_taken() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let asking = asked(&approvals, "a");
    let other = digest("self.reboot", 1, &json!({"delay_s": 1}));
    assert_eq!(approvals.answer("a", &other, true, "operator"), Err(ApprovalError::Digest("a".into())));
    approvals.answer("a", &digest("self.reboot", 1, &json!({})), false, "operator").expect("a still waits");
    assert_eq!(asking.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
}

#[test]
fn no_answer_is_a_no() {
    let approvals = Approvals::new("pump-2");
    let verdict = approvals.ask(question("a", &json!({})), Duration::from_millis(1));
    assert_eq!(verdict, Ok(Verdict::TimedOut));
    assert!(approvals.list().is_empty());
}

#[test]
fn a_flood_of_questions_is_refused() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let ids: Vec<String> = (0..WAITING_MAX).map(|n| format!("c{n}")).collect();
    let asking: Vec<_> = ids.into_iter().map(|id| asked(&approvals, id.leak())).collect();
    assert_eq!(approvals.ask(question("more", &json!({})), Duration::from_secs(1)), Err(ApprovalError::Full));
    for Open { question, .. } in approvals.list() {
        approvals.answer(&question.call_id, &question.digest, false, "operator").expect("waits");
    }
    asking.into_iter().for_each(|call| assert!(call.join().expect("thread").is_ok()));
}

#[test]
fn the_digest_is_of_the_meaning_and_not_of_the_spelling() {
    let text = r#"{"b": [1, {"y": "\u00e4", "x": null}], "a": "x"}"#;
    let same = r#"{"a":"x","b":[1,{"x":null,"y":"ä"}]}"#;
    let of = |text: &str| digest("t.t", 1, &serde_json::from_str(text).expect("JSON"));
    assert_eq!(of(text), of(same));
    let others = [r#"{"a":"x","b":[1,{"x":null,"y":"a"}]}"#, r#"{"a":"x","b":[{"x":null,"y":"ä"},1]}"#, r#"{"a":"x"}"#];
    others.iter().for_each(|other| assert_ne!(of(text), of(other)));
    assert_ne!(digest("t.t", 1, &json!({})), digest("t.t", 2, &json!({})));
}

/// A policy where alice may answer, and mallory has a key as well.
fn policy() -> Policy {
    let print = |name| Fingerprint(signer(name).verifier().fingerprint());
    let text = format!(
        "[agents.alice]\nkeys = [\"{}\"]\n[agents.mallory]\nkeys = [\"{}\"]\n[agents.maintenance]\nkeys = [\"{}\"]\n\
         [approvals]\napprovers = [\"alice\", \"maintenance\"]\n",
        print("alice"),
        print("mallory"),
        print("itself")
    );
    Policy::from_layers(&[aios_core::config::Layer { path: "p".into(), text }]).expect("a policy")
}

fn signer(name: &str) -> Signer {
    let seed = name.bytes().fold(0, u8::wrapping_add);
    Signer::new(name, &Seed::from_bytes([seed; 32])).expect("a name")
}

/// The answer to an open question, as whoever sees its text gives it.
fn answer_to(open: &Open, approver: &str) -> Answer {
    let text: Value = serde_json::from_str(&open.text).expect("JSON");
    let field = |name: &str| text[name].as_str().expect(name).to_owned();
    Answer {
        device: field("device"),
        call_id: field("call"),
        digest: field("digest"),
        question: question_hash(&open.text),
        approve: true,
        approver: approver.into(),
        time: crate::pipeline::now(),
        until: Timestamp(text["until"].as_u64().expect("until")),
    }
}

#[test]
fn a_signed_answer_of_an_approver_counts_once() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let (policy, now) = (policy(), crate::pipeline::now());
    let asking = asked(&approvals, "a");
    let open = approvals.list().remove(0);
    let signed = answer_to(&open, "alice").sign(&signer("alice")).expect("signed");
    let checked = approvals.check(&policy, &signed, now).expect("an approver's");
    assert_eq!(checked.by(), "alice");
    approvals.answer_checked(&checked).expect("open");
    assert_eq!(approvals.answer_checked(&checked), Err(ApprovalError::Unknown("a".into())));
    assert_eq!(asking.join().expect("thread"), Ok(Verdict::Approved("alice".into())));

    // The same call under the same id again: the question is another one.
    let again = asked(&approvals, "a");
    assert_eq!(approvals.check(&policy, &signed, now), Err(ApprovalError::Digest("a".into())));
    assert_eq!(approvals.answer_checked(&checked), Err(ApprovalError::Digest("a".into())));
    approvals.answer("a", &open.question.digest, false, "operator").expect("open");
    assert_eq!(again.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
}

#[test]
fn a_signed_answer_that_is_not_quite_right_is_refused() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let (policy, now) = (policy(), crate::pipeline::now());
    let asking = asked(&approvals, "a");
    let open = approvals.list().remove(0);
    let good = answer_to(&open, "alice");
    let refused = |answer: &Answer, key: &str| {
        let signed = answer.sign(&signer(key)).expect("signed");
        approvals.check(&policy, &signed, now).expect_err("refused")
    };
    let by = |name: &str| Answer { approver: name.into(), ..good.clone() };
    assert!(matches!(refused(&by("mallory"), "mallory"), ApprovalError::Key { .. }), "no approver");
    assert!(matches!(refused(&by("stranger"), "stranger"), ApprovalError::Key { .. }), "no agent");
    assert_eq!(refused(&by("itself"), "itself"), ApprovalError::Own("maintenance".into()));
    let other = Answer { device: "pump-3".into(), ..good.clone() };
    assert_eq!(refused(&other, "alice"), ApprovalError::Device("pump-3".into()));
    let late = Answer { until: Timestamp(now.0 - 1), ..good.clone() };
    assert_eq!(refused(&late, "alice"), ApprovalError::Expired(late.until));
    let digest = Answer { digest: "00".repeat(32), ..good.clone() };
    assert_eq!(refused(&digest, "alice"), ApprovalError::Digest("a".into()));
    let shown = Answer { question: question_hash("{\"arguments\":{}}"), ..good.clone() };
    assert_eq!(refused(&shown, "alice"), ApprovalError::Digest("a".into()), "somebody was shown something else");
    let call = Answer { call_id: "b".into(), ..good.clone() };
    assert_eq!(refused(&call, "alice"), ApprovalError::Unknown("b".into()));

    let signed = good.sign(&signer("alice")).expect("signed");
    let swapped = Signed { key: signer("mallory").verifier().to_string(), ..signed.clone() };
    assert!(matches!(approvals.check(&policy, &swapped, now), Err(ApprovalError::Key { .. })));
    let flipped = Signed { note: signed.note.replace("verdict approve", "verdict deny"), ..signed };
    assert!(matches!(approvals.check(&policy, &flipped, now), Err(ApprovalError::Signed(_))));

    assert_eq!(approvals.list().len(), 1, "no refused answer closes a question");
    approvals.answer("a", &open.question.digest, false, "operator").expect("open");
    assert_eq!(asking.join().expect("thread"), Ok(Verdict::Denied("operator".into())));
}

#[test]
fn each_question_and_each_end_of_one_is_told() {
    let approvals = Arc::new(Approvals::new("pump-2"));
    let mut changes = approvals.changes();
    let asking = asked(&approvals, "a");
    assert!(changes.has_changed().expect("there") && !approvals.list().is_empty());
    changes.mark_unchanged();
    let open = approvals.list().remove(0);
    approvals.answer("a", &open.question.digest, true, "operator").expect("open");
    assert!(asking.join().expect("thread").is_ok());
    assert!(changes.has_changed().expect("there") && approvals.list().is_empty());
}
