//! What `aios memory` prints.

use std::io::{self, Write as _};

use aios_api::memory::v1::{
    AssembleContextResponse, Item, SearchBy, SemanticSearchResponse, StatsResponse, StoreState,
    assemble_context_response::Reason,
};
use aios_memory::{kind_name, tier_name, told};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Most characters of an item's words that a list shows.
const SHOWN: usize = 300;

/// What a search found.
pub fn found(found: &SemanticSearchResponse, as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let hits: Vec<Value> =
            found.hits.iter().map(|hit| json!({ "score": hit.score, "item": hit.item.as_ref().map(value) })).collect();
        let value = json!({ "by": search_name(found.by()), "without_vector": found.without_vector, "hits": hits });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    for (hit, item) in found.hits.iter().filter_map(|hit| Some((hit, hit.item.as_ref()?))) {
        let provenance = item.provenance.clone().unwrap_or_default();
        let source = if provenance.source.is_empty() { String::new() } else { format!(", {}", provenance.source) };
        let (kind, time) = (kind_name(item.kind), time(item.updated_ms));
        writeln!(out, "{:.2}  {kind} {}  {time}  {}{source}", hit.score, item.id, provenance.agent)?;
        for line in words(item).lines().filter(|line| !line.trim().is_empty()) {
            writeln!(out, "      {}", clean(line))?;
        }
    }
    if found.hits.is_empty() {
        writeln!(out, "nothing was found")?;
    }
    if found.by() == SearchBy::Words {
        eprintln!("searched by words alone: the runtime makes no vectors (see `aios status runtime`)");
    } else if found.without_vector > 0 {
        eprintln!("{} items wait for their vector and are found by words alone", found.without_vector);
    }
    Ok(())
}

/// A context: its text, and beside it what is not in it.
pub fn context(context: &AssembleContextResponse, budget: u32, as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let reasons = [(Reason::Budget, "budget"), (Reason::Duplicate, "duplicate"), (Reason::Irrelevant, "irrelevant")];
    if as_json {
        let included = context.included.iter().map(
            |piece| json!({ "id": piece.id, "tier": tier_name(piece.tier), "tokens": piece.tokens, "cut": piece.cut }),
        );
        let left_out = context.left_out.iter().map(|left| {
            let reason = reasons.iter().find(|(reason, _)| *reason == left.reason()).map(|(_, name)| name);
            json!({ "id": left.id, "tier": tier_name(left.tier), "reason": reason, "same_as": left.same_as })
        });
        let value = json!({
            "text": context.text, "tokens": context.tokens, "budget": budget, "model": context.model,
            "by": search_name(context.by()), "origins": context.origins,
            "included": included.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    for line in context.text.lines() {
        writeln!(out, "{}", clean(line))?;
    }
    let counts = reasons.map(|(reason, name)| {
        let count = context.left_out.iter().filter(|left| left.reason() == reason).count();
        if count == 0 { String::new() } else { format!(", {count} left out ({name})") }
    });
    let AssembleContextResponse { tokens, model, included, .. } = context;
    eprintln!("{tokens} of {budget} tokens of {model}: {} items{}", included.len(), counts.concat());
    Ok(())
}

/// How something was searched for.
fn search_name(by: SearchBy) -> &'static str {
    if by == SearchBy::Words { "words" } else { "meaning-and-words" }
}

/// How much there is of what.
pub fn stats(stats: &StatsResponse, as_json: bool) -> Result<()> {
    let state = match stats.state() {
        StoreState::Writable => "writable",
        StoreState::Full => "full",
        StoreState::ReadOnly => "read-only",
        StoreState::Unreadable => "unreadable",
        StoreState::Unspecified => "unknown",
    };
    let mut out = io::stdout().lock();
    if as_json {
        let kinds: Vec<Value> = stats
            .kinds
            .iter()
            .map(|of| json!({ "kind": kind_name(of.kind), "tier": tier_name(of.tier), "items": of.items, "bytes": of.bytes }))
            .collect();
        let value = json!({
            "state": state, "reason": stats.reason, "kinds": kinds, "metrics": stats.metrics, "file_bytes": stats.file_bytes,
            "schema": stats.schema, "without_vector": stats.without_vector, "searchable": stats.searchable,
            "embeds": stats.embeds,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    for of in &stats.kinds {
        writeln!(
            out,
            "{:<12} {:<14} {:>8} items {:>12} bytes",
            tier_name(of.tier),
            kind_name(of.kind),
            of.items,
            of.bytes
        )?;
    }
    writeln!(out, "metrics      {:>23}", stats.metrics)?;
    writeln!(out, "file         {:>23} bytes, schema {}, {state}", stats.file_bytes, stats.schema)?;
    if !stats.reason.is_empty() {
        writeln!(out, "             {}", clean(&stats.reason))?;
    }
    let vectors =
        if stats.embeds { "made" } else { "not made now: the runtime does not answer, or has no model for them" };
    writeln!(out, "vectors      {vectors}; {} items wait for theirs", stats.without_vector)?;
    Ok(())
}

/// An item, for scripts.
fn value(item: &Item) -> Value {
    let provenance = item.provenance.clone().unwrap_or_default();
    json!({
        "id": item.id, "kind": kind_name(item.kind), "tier": tier_name(item.tier),
        "created": time(item.created_ms), "updated": time(item.updated_ms), "agent": provenance.agent,
        "source": provenance.source, "origins": provenance.origins, "text": told(item),
    })
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// The beginning of an item's words.
fn words(item: &Item) -> String {
    let all = told(item);
    let shown: String = all.chars().take(SHOWN).collect();
    if shown.len() < all.len() { format!("{shown} ...") } else { shown }
}

/// A line of somebody's text without what a terminal would obey.
fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
