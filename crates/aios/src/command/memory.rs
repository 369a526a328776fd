//! `aios memory`

mod show;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aios_api::memory::v1::{
    AddKnowledgeRequest, AssembleContextRequest, EraseRequest, Knowledge, Provenance, SemanticSearchRequest,
    StatsRequest, erase_request, memory_service_client::MemoryServiceClient,
};
use aios_core::paths;
use aios_memory::{Kind, limits::ITEM};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tonic::transport::Channel;

use super::tool::print;
use crate::{
    cli::{MemoryAddArgs, MemoryCommand, MemoryContextArgs, MemoryEraseArgs, MemoryServeArgs},
    service::{self, block_on, refused},
};

/// Most characters of a title that is the beginning of a text.
const TITLE: usize = 80;
/// Largest answer: a thousand items of the largest size.
const ANSWER_MAX: usize = 512 << 20;

/// Runs what was typed after `aios memory`.
pub fn run(command: MemoryCommand, json: bool) -> Result<ExitCode> {
    match command {
        MemoryCommand::Serve(MemoryServeArgs { config, policy, state }) => {
            return Ok(aios_memory::daemon::run(aios_memory::daemon::Files { config, policy, state }));
        }
        MemoryCommand::Search { text, kinds, limit, memory } => {
            block_on(search(&memory.memory_socket, text, &kinds, limit, json))?;
        }
        MemoryCommand::Context(args) => block_on(context(args, json))?,
        MemoryCommand::Add(args) => block_on(add(args, json))?,
        MemoryCommand::Stats { memory } => block_on(async {
            let stats = connect(&memory.memory_socket).await?.stats(StatsRequest {}).await.map_err(refused)?;
            show::stats(&stats.into_inner(), json)
        })?,
        MemoryCommand::Erase(args) => block_on(erase(args, json))?,
        MemoryCommand::Repair { path } => repair(path, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect(socket: &Path) -> Result<MemoryServiceClient<Channel>> {
    let channel = service::connect(socket, "the memory", "memory").await?;
    Ok(MemoryServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX))
}

async fn search(socket: &Path, query: String, kinds: &[Kind], limit: u32, json: bool) -> Result<()> {
    let kinds = kinds.iter().map(|kind| *kind as i32).collect();
    let request = SemanticSearchRequest { query, limit, kinds };
    let found = connect(socket).await?.semantic_search(request).await.map_err(refused)?;
    show::found(&found.into_inner(), json)
}

async fn context(args: MemoryContextArgs, json: bool) -> Result<()> {
    let MemoryContextArgs { text: query, budget: budget_tokens, model, goal, kinds, memory } = args;
    let kinds = kinds.into_iter().map(|kind| kind as i32).collect();
    let request = AssembleContextRequest { query, budget_tokens, model, goal, kinds };
    let assembled = connect(&memory.memory_socket).await?.assemble_context(request).await.map_err(refused)?;
    show::context(&assembled.into_inner(), budget_tokens, json)
}

async fn add(args: MemoryAddArgs, json: bool) -> Result<()> {
    let MemoryAddArgs { text, title, source, tags, origins, memory } = args;
    let text = match text {
        Some(text) if text != "-" => text,
        _ => text_of(io::stdin().lock()).context("standard input")?,
    };
    let title = title.unwrap_or_else(|| beginning(&text));
    let knowledge = Some(Knowledge { title, text, tags });
    let provenance = Some(Provenance { agent: String::new(), source, origins });
    let mut client = connect(&memory.memory_socket).await?;
    let added = client.add_knowledge(AddKnowledgeRequest { knowledge, provenance }).await.map_err(refused)?;
    let id = added.into_inner().id;
    print(json, &json!({ "id": id }), &format!("remembered as {id}"))
}

/// All of a text that is no longer than an item may be.
fn text_of(input: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    input.take(ITEM as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > ITEM {
        bail!("one item has at most {ITEM} bytes, and there are more: add the text in parts");
    }
    String::from_utf8(bytes).context("no UTF-8 text")
}

/// The first words of a text, on one line.
fn beginning(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(TITLE).collect()
}

async fn erase(args: MemoryEraseArgs, json: bool) -> Result<()> {
    let MemoryEraseArgs { agent, source, all: _, yes, memory } = args;
    let (what, text) = match (agent, source) {
        (Some(agent), _) => {
            let text = format!("all that {agent} wrote");
            (erase_request::What::Agent(agent), text)
        }
        (None, Some(source)) => {
            let text = format!("all that is from {source}");
            (erase_request::What::Source(source), text)
        }
        (None, None) => (erase_request::What::All(erase_request::All {}), "everything".to_owned()),
    };
    let mut client = connect(&memory.memory_socket).await?;
    if !yes && !confirm(&format!("Delete {text} from the memory for good? [y/N] "))? {
        bail!("nothing was deleted");
    }
    let erased = client.erase(EraseRequest { what: Some(what) }).await.map_err(refused)?.into_inner().items;
    let items = if erased == 1 { "item" } else { "items" };
    print(json, &json!({ "items": erased }), &format!("{erased} {items} deleted"))
}

/// Asks. Anything but a clear yes is a no.
fn confirm(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody is there to ask: say --yes");
    }
    eprint!("{question}");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn repair(path: Option<PathBuf>, json: bool) -> Result<()> {
    let path = path.unwrap_or_else(|| Path::new(paths::MEMORY_STATE).join(paths::MEMORY));
    let repaired = aios_memory::repair(&path)?;
    let aios_memory::Repaired { items, metrics, carved, lost, kept } = repaired;
    let text = format!(
        "{items} items and {metrics} metrics saved, {carved} of them from bytes outside of the tables; {lost} rows are \
         lost\nthe old file is {}; delete it when you miss nothing",
        kept.display()
    );
    let value = json!({ "items": items, "metrics": metrics, "carved": carved, "lost": lost, "kept": kept });
    print(json, &value, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_whole_or_not_at_all() {
        let said = |bytes: &[u8]| text_of(bytes).map_err(|error| format!("{error:#}"));
        assert_eq!(said("Prüfe das Sieb.".as_bytes()), Ok("Prüfe das Sieb.".to_owned()));
        assert_eq!(said(&vec![b'a'; ITEM]).map(|text| text.len()), Ok(ITEM));
        let error = said("ü".repeat(ITEM / 2 + 1).as_bytes()).unwrap_err();
        assert_eq!(error, "one item has at most 262144 bytes, and there are more: add the text in parts");
        assert!(said(b"bad \xff bytes").unwrap_err().starts_with("no UTF-8 text: "));
    }
}
