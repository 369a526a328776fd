//! `aios token`

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use aios_api::tools::v1::{IssueTokenRequest, RevokeTokenRequest};
use aios_policy::{
    Timestamp, Token,
    token::{Caveats, Content, Ending},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::tool::connect;
use crate::{
    cli::{Limits, Made, TokenCommand},
    service::{block_on, refused},
};

/// Longest text of a token, in bytes.
const TOKEN_MAX: u64 = 16 << 10;

/// Runs what was typed after `aios token`.
pub fn run(command: TokenCommand, json: bool) -> Result<ExitCode> {
    match command {
        TokenCommand::Mint { agent, limits, made, tools } => {
            let Limits { capabilities, tools: only, lifetime } = limits;
            let lifetime_s = lifetime.map_or(0, |time| u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX).max(1));
            let sealed = made.sealed;
            let request = IssueTokenRequest { agent, capabilities, tools: only, lifetime_s, sealed };
            let issued =
                block_on(async { connect(&tools.tools_socket).await?.issue_token(request).await.map_err(refused) })?;
            hand_out(&Token::from_text(&issued.into_inner().token)?, &made, json)?;
        }
        TokenCommand::Show { token } => show(&read(&token)?.content()?, json)?,
        TokenCommand::Narrow { token, limits, made } => {
            let narrowed = narrow(&read(&token)?, limits, made.sealed)?;
            hand_out(&narrowed, &made, json)?;
        }
        TokenCommand::Revoke { id, tools } => block_on(async {
            let request = RevokeTokenRequest { id };
            connect(&tools.tools_socket).await?.revoke_token(request).await.map_err(refused).map(drop)
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Token> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().lock().take(TOKEN_MAX).read_to_string(&mut text).context("standard input")?;
    } else {
        let file = fs::File::open(path).with_context(|| path.display().to_string())?;
        file.take(TOKEN_MAX).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    }
    Ok(Token::from_text(text.trim())?)
}

fn narrow(token: &Token, limits: Limits, sealed: bool) -> Result<Token> {
    let capabilities: Result<Vec<_>, _> = limits.capabilities.iter().map(|text| text.parse()).collect();
    let capabilities = capabilities?;
    let caveats = Caveats {
        capabilities: (!capabilities.is_empty()).then_some(capabilities),
        tools: (!limits.tools.is_empty()).then(|| limits.tools.into_iter().collect()),
        not_after: limits.lifetime.map(|time| now().after(time.0)),
    };
    let ending = if sealed { Ending::Sealed } else { Ending::Open(*aios_keys::seed::Seed::random()?.as_bytes()) };
    Ok(token.attenuate(&caveats, ending)?)
}

/// Prints a new token, or writes it to a file that others can't read.
fn hand_out(token: &Token, made: &Made, as_json: bool) -> Result<()> {
    let content = token.content()?;
    let (id, expires) = (last_id(&content), not_after(&content));
    if let Some(path) = &made.output {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| path.display().to_string())?;
        writeln!(file, "{}", token.as_str())?;
        file.sync_all()?;
    }
    let mut out = io::stdout().lock();
    if as_json {
        let shown = made.output.is_none().then(|| token.as_str());
        let value = json!({ "id": id, "expires": expires.to_string(), "token": shown });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
    } else {
        if made.output.is_none() {
            writeln!(out, "{}", token.as_str())?;
        }
        eprintln!("id {id}, good until {expires}");
    }
    Ok(())
}

fn show(content: &Content, as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&value(content))?)?;
    } else {
        write!(out, "{}", text(content))?;
    }
    Ok(())
}

fn value(content: &Content) -> Value {
    let strings = |list: &[aios_policy::Capability]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let authority = &content.authority;
    let first = json!({
        "id": content.ids[0].to_string(), "capabilities": strings(&authority.capabilities), "tools": authority.tools,
        "expires": authority.not_after.to_string(),
    });
    let further = content.caveats.iter().zip(&content.ids[1..]).map(|(caveats, id)| {
        json!({
            "id": id.to_string(), "capabilities": caveats.capabilities.as_deref().map(strings), "tools": caveats.tools,
            "expires": caveats.not_after.map(|time| time.to_string()),
        })
    });
    json!({
        "id": last_id(content), "issuer": authority.issuer, "subject": authority.subject,
        "expires": not_after(content).to_string(), "open": content.open,
        "blocks": std::iter::once(first).chain(further).collect::<Vec<_>>(),
    })
}

fn text(content: &Content) -> String {
    let authority = &content.authority;
    let narrowing = if content.open { "it can be narrowed" } else { "it is sealed" };
    let mut text = format!(
        "token {}\n  from {} to {}, good until {}; {narrowing}\n",
        last_id(content),
        authority.issuer,
        authority.subject,
        not_after(content)
    );
    let mut block = |id: String, capabilities: Option<&[aios_policy::Capability]>, tools, end: Option<Timestamp>| {
        text += &format!("  block {id}\n");
        for capability in capabilities.unwrap_or_default() {
            text += &format!("    may {capability}\n");
        }
        let tools: Option<&std::collections::BTreeSet<String>> = tools;
        if let Some(tools) = tools {
            let names: Vec<&str> = tools.iter().map(String::as_str).collect();
            text += &format!("    by {}\n", names.join(", "));
        }
        if let Some(end) = end {
            text += &format!("    until {end}\n");
        }
    };
    let first = Some(authority.capabilities.as_slice());
    block(content.ids[0].to_string(), first, authority.tools.as_ref(), Some(authority.not_after));
    for (caveats, id) in content.caveats.iter().zip(&content.ids[1..]) {
        block(id.to_string(), caveats.capabilities.as_deref(), caveats.tools.as_ref(), caveats.not_after);
    }
    text
}

fn last_id(content: &Content) -> String {
    content.ids.last().map(ToString::to_string).unwrap_or_default()
}

/// The earliest end counts.
fn not_after(content: &Content) -> Timestamp {
    let ends = content.caveats.iter().filter_map(|caveats| caveats.not_after);
    ends.chain([content.authority.not_after]).min().expect("invariant: the first block has an end")
}

/// The time of day.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(since.as_secs())
}
