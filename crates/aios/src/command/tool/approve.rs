//! `aios tool approvals`, `approve`, `deny`

use std::{
    io::{self, BufRead as _, Write as _},
    path::Path,
};

use aios_api::tools::v1::{Approval, ApproveRequest, ListApprovalsRequest, Risk};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::connect;
use crate::service::refused;

pub async fn list(socket: &Path, as_json: bool) -> Result<()> {
    let waiting = waiting(socket).await?;
    let mut out = io::stdout().lock();
    if as_json {
        let all: Vec<_> = waiting.iter().map(value).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        for call in &waiting {
            write!(out, "{}", text(call))?;
        }
        if waiting.is_empty() {
            writeln!(out, "no call waits for approval")?;
        }
    }
    Ok(())
}

pub async fn approve(socket: &Path, call: &str, yes: bool) -> Result<()> {
    let Some(found) = waiting(socket).await?.into_iter().find(|waiting| waiting.call_id == call) else {
        bail!("no call {call} waits for approval");
    };
    let approve = yes || confirm(&found).await?;
    answer(socket, found, approve).await?;
    if !approve {
        bail!("not approved");
    }
    Ok(())
}

pub async fn deny(socket: &Path, call: &str) -> Result<()> {
    let Some(found) = waiting(socket).await?.into_iter().find(|waiting| waiting.call_id == call) else {
        bail!("no call {call} waits for approval");
    };
    answer(socket, found, false).await
}

/// Shows exactly what will run, and asks. Anything but a clear yes is a no.
pub async fn confirm(call: &Approval) -> Result<bool> {
    let shown = text(call);
    let asked = tokio::task::spawn_blocking(move || -> Result<bool> {
        eprint!("{shown}Run it? [y/N] ");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("the answer")?;
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    });
    asked.await.context("the question")?
}

async fn waiting(socket: &Path) -> Result<Vec<Approval>> {
    let listed = connect(socket).await?.list_approvals(ListApprovalsRequest {}).await.map_err(refused)?;
    Ok(listed.into_inner().approvals)
}

async fn answer(socket: &Path, call: Approval, approve: bool) -> Result<()> {
    let request = ApproveRequest { call_id: call.call_id, digest: call.digest, approve, ..ApproveRequest::default() };
    connect(socket).await?.approve(request).await.map_err(refused).map(drop)
}

/// A call, for scripts.
pub fn value(call: &Approval) -> serde_json::Value {
    json!({
        "call_id": call.call_id, "tool": call.tool, "risk": risk(call), "agent": call.agent,
        "arguments": serde_json::from_str::<serde_json::Value>(&call.arguments).unwrap_or_default(),
        "reason": call.reason, "tainted": call.tainted, "digest": call.digest, "remaining_ms": call.remaining_ms,
    })
}

fn risk(call: &Approval) -> &'static str {
    super::show::risk(Risk::try_from(call.risk).unwrap_or_default())
}

/// A call, fact by fact. Arguments are JSON, whose escapes keep them from looking like anything else on a terminal.
pub fn text(call: &Approval) -> String {
    let mut text = format!("{} by {} (risk {})\n", call.tool, call.agent, risk(call));
    let mut fact = |name: &str, value: &str| text += &format!("  {name:>9}: {value}\n");
    fact("id", &call.call_id);
    fact("arguments", &printable(&call.arguments));
    fact("because", &call.reason);
    for tainted in &call.tainted {
        fact("tainted", tainted);
    }
    fact("time left", &format!("{} s", call.remaining_ms / 1000));
    text
}

/// JSON in ASCII: letters that turn the direction of writing, or look like others, are shown by their numbers.
fn printable(json: &str) -> String {
    let escaped = |c: char| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
    };
    json.chars().map(|c| if (' '..='~').contains(&c) { c.to_string() } else { escaped(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shown_as_it_will_run() {
        let call = Approval {
            call_id: "c1".into(),
            tool: "fs.delete".into(),
            risk: Risk::High.into(),
            agent: "task".into(),
            arguments: "{\"path\":\"/data/\u{202e}txt\u{1b}[2K\"}".into(),
            reason: "its risk is high".into(),
            tainted: vec!["/path: web".into()],
            digest: "00".into(),
            remaining_ms: 119_500,
            question: String::new(),
        };
        insta::assert_snapshot!(text(&call), @r#"
        fs.delete by task (risk high)
                 id: c1
          arguments: {"path":"/data/\u202etxt\u001b[2K"}
            because: its risk is high
            tainted: /path: web
          time left: 119 s
        "#);
    }
}
