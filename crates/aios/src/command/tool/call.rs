//! `aios tool run`

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use aios_api::tools::v1::{
    ApprovalMode, ApproveRequest, ExecuteRequest, ExecuteResponse, GetToolRequest, ListApprovalsRequest,
    execute_response::Outcome,
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Client, approve, arguments, connect};
use crate::{cli::RunArgs, service::refused};

/// As sysexits.h has it: no permission.
const REFUSED: u8 = 77;

/// Time between two looks for whether somebody has to approve the call.
const LOOK: Duration = Duration::from_millis(200);

pub async fn run(args: RunArgs, json: bool) -> Result<ExitCode> {
    let socket = &args.tools.tools_socket;
    let mut client = connect(socket).await?;
    let shown = client.get_tool(GetToolRequest { name: args.tool.clone() }).await.map_err(refused)?;
    let tool = shown.into_inner().tool.unwrap_or_default();
    let schema: Value = serde_json::from_str(&tool.input_schema).context("the tool's schema")?;
    let token = args.token_file.as_deref().map(fs::read_to_string).transpose().context("the token's file")?;
    let mode = if args.no_wait { ApprovalMode::Refuse } else { ApprovalMode::Wait };
    let call_id = new_id()?;
    let request = ExecuteRequest {
        tool: args.tool,
        arguments: arguments::parse(&args.arguments, &schema)?,
        token: token.unwrap_or_default().trim().to_owned(),
        approval: mode.into(),
        call_id: call_id.clone(),
        ..ExecuteRequest::default()
    };
    let answer = client.execute(request);
    let answer = tokio::select! {
        answer = answer => answer,
        asked = see_to_approval(socket, &call_id, args.yes) => {
            // Only an error ends it: the answer to the call comes by itself.
            return Err(asked.expect_err("invariant: it looks on until it fails"));
        }
    };
    print(&answer.map_err(refused)?.into_inner(), json)
}

/// A new id: 128 random bits.
pub fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes).context("/dev/urandom")?;
    Ok(aios_keys::hex::encode(&bytes))
}

/// Waits until the call waits for approval, and then asks whoever sits at the terminal.
async fn see_to_approval(socket: &Path, call_id: &str, yes: bool) -> Result<std::convert::Infallible> {
    let mut client: Client = connect(socket).await?;
    let mut seen = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if seen {
            continue;
        }
        let listed = client.list_approvals(ListApprovalsRequest {}).await.map_err(refused)?.into_inner().approvals;
        let Some(waiting) = listed.into_iter().find(|approval| approval.call_id == call_id) else { continue };
        seen = true;
        if yes || io::stdin().is_terminal() {
            let approve = yes || approve::confirm(&waiting).await?;
            let request = ApproveRequest {
                call_id: call_id.to_owned(),
                digest: waiting.digest,
                approve,
                ..ApproveRequest::default()
            };
            client.approve(request).await.map_err(refused)?;
        } else {
            let seconds = waiting.remaining_ms / 1000;
            eprintln!("waits {seconds} s for approval ({}): aios tool approve {call_id}", waiting.reason);
        }
    }
}

fn print(answer: &ExecuteResponse, as_json: bool) -> Result<ExitCode> {
    let (body, text, code) = match &answer.outcome {
        Some(Outcome::Result(result)) => {
            let value: Value = serde_json::from_str(result).context("the tool's result")?;
            (json!({ "result": value }), None, ExitCode::SUCCESS)
        }
        Some(Outcome::Failure(failure)) => {
            let body = json!({ "failure": { "code": failure.code, "message": failure.message } });
            (body, Some(format!("{}: {}", failure.code, failure.message)), ExitCode::FAILURE)
        }
        Some(Outcome::Refusal(refusal)) => {
            let body =
                json!({ "refusal": { "stage": refusal.stage, "message": refusal.message, "hint": refusal.hint } });
            let hint = if refusal.hint.is_empty() { String::new() } else { format!("\n  {}", refusal.hint) };
            (body, Some(format!("refused at {}: {}{hint}", refusal.stage, refusal.message)), ExitCode::from(REFUSED))
        }
        None => anyhow::bail!("the service gave no answer to call {}", answer.call_id),
    };
    let mut out = io::stdout().lock();
    if as_json {
        let mut whole = json!({
            "call_id": answer.call_id,
            "ledger_seq": answer.ledger_seq,
            "reversible": answer.reversible,
            "origin": answer.origin,
            "duration_ms": answer.duration_ms,
        });
        let members = body.as_object().cloned().unwrap_or_default();
        whole.as_object_mut().expect("invariant: an object").extend(members);
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
    } else if let Some(text) = text {
        eprintln!("aios: {text}");
    } else {
        writeln!(out, "{}", serde_json::to_string_pretty(&body["result"])?)?;
        if answer.reversible {
            eprintln!("undo: aios rollback {}", answer.call_id);
        }
    }
    Ok(code)
}
