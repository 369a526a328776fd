//! `aios tool approvals`, `approve` and `deny` from afar: over an MQTT broker that nobody needs to trust.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use aios_api::tools::v1::{Approval, Risk};
use aios_fleet::{
    access::{Access, Files},
    operator::Operator,
};
use aios_policy::Timestamp;
use aios_tools::approvals::answer::{Answer, question_hash};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{approve, call::new_id};
use crate::{
    cli::Afar,
    command::{key, token::now},
};

/// Silence after which the connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A question as the device wrote it (docs/formats/approval.md).
#[derive(Debug, Deserialize)]
struct Question {
    format: u32,
    device: String,
    call: String,
    tool: String,
    risk: String,
    agent: String,
    arguments: Value,
    reasons: Vec<String>,
    tainted: Vec<Tainted>,
    digest: String,
    until: u64,
}

#[derive(Debug, Deserialize)]
struct Tainted {
    argument: String,
    origins: Vec<String>,
}

/// `aios tool approvals --broker`
pub async fn list(afar: &Afar, as_json: bool) -> Result<()> {
    let mut operator = connect(afar).await?;
    let alarms = operator.questions().await?;
    let mut out = io::stdout().lock();
    let mut all = Vec::new();
    for (call, alarm) in &alarms {
        let read = alarm.question.as_deref().map(|text| read(text, afar, call));
        match read {
            Some(Ok(approval)) if as_json => all.push(approve::value(&approval)),
            Some(Ok(approval)) => write!(out, "{}", approve::text(&approval))?,
            Some(Err(error)) => eprintln!("aios: call {call}: {error:#}"),
            None => eprintln!("aios: call {call} can only be answered on the device: it is too long to be sent"),
        }
    }
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else if alarms.is_empty() {
        writeln!(out, "no call waits for approval")?;
    }
    Ok(())
}

/// `aios tool approve --broker` and `aios tool deny --broker`. `verdict` is `None` where somebody is to be asked.
pub async fn answer(afar: &Afar, call: &str, verdict: Option<bool>) -> Result<()> {
    let Some(key) = &afar.key else { bail!("an answer from afar has to be signed: name your key with --key FILE") };
    let signer = key::open(key)?;
    let mut operator = connect(afar).await?;
    let mut alarms = operator.questions().await?;
    let Some(alarm) = alarms.remove(call) else { bail!("no call {call} waits for approval on {}", afar.device()) };
    let Some(text) = alarm.question else {
        bail!("call {call} can only be answered on the device: it is too long to be sent")
    };
    let approval = read(&text, afar, call)?;
    // Between question and answer somebody thinks: the broker may end a silent connection meanwhile.
    drop(operator);
    let approve = match verdict {
        Some(verdict) => verdict,
        None => approve::confirm(&approval).await?,
    };
    let until = serde_json::from_str::<Question>(&text)?.until;
    let answer = Answer {
        device: afar.device().to_owned(),
        call_id: call.to_owned(),
        digest: approval.digest,
        // What was shown is what is signed, to the byte: a broker that showed something else has no use of it.
        question: question_hash(&text),
        approve,
        approver: signer.name().to_owned(),
        time: now(),
        until: Timestamp(until),
    };
    let signed = answer.sign(&signer)?;
    let left = Duration::from_millis(u64::from(approval.remaining_ms)).max(Duration::from_secs(1));
    connect(afar).await?.answer(&new_id()?, signed.note, signed.key, left).await?;
    if !approve && verdict.is_none() {
        bail!("not approved");
    }
    Ok(())
}

async fn connect(afar: &Afar) -> Result<Operator> {
    let Some(broker) = afar.broker.clone() else { bail!("name the broker with --broker") };
    let files = Files { ca: afar.ca.clone(), certificate: afar.cert.clone(), key: afar.cert_key.clone() };
    let access = Access::new(broker, &files, KEEP_ALIVE)?;
    Ok(Operator::connect(&access, afar.device(), &new_id()?).await?)
}

/// Reads a question that some broker delivered as that of `call`.
fn read(text: &str, afar: &Afar, call: &str) -> Result<Approval> {
    let question: Question = serde_json::from_str(text).context("what the broker delivered is no question")?;
    if question.format != 1 {
        bail!("the device asks in a format ({}) that this program does not know", question.format);
    }
    if question.device != afar.device() || question.call != call {
        bail!("the broker delivered the question of call {} of {}", question.call, question.device);
    }
    let risk = match question.risk.as_str() {
        "low" => Risk::Low,
        "medium" => Risk::Medium,
        "high" => Risk::High,
        "critical" => Risk::Critical,
        _ => Risk::Unspecified,
    };
    let left = question.until.saturating_sub(now().0).saturating_mul(1000);
    let tainted = question.tainted.iter().map(|sink| format!("{}: {}", sink.argument, sink.origins.join(", ")));
    Ok(Approval {
        tainted: tainted.collect(),
        reason: question.reasons.join("; "),
        call_id: question.call,
        tool: question.tool,
        risk: risk.into(),
        agent: question.agent,
        arguments: json!(question.arguments).to_string(),
        digest: question.digest,
        remaining_ms: u32::try_from(left).unwrap_or(u32::MAX),
        question: text.to_owned(),
    })
}
