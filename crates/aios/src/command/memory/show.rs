//! What `aios memory` prints.

use std::io::{self, Write as _};

use aios_api::memory::v1::{Item, SearchBy, SemanticSearchResponse, StatsResponse, StoreState, item::Body};
use aios_memory::{kind_name, tier_name};
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
        let by = if found.by() == SearchBy::Words { "words" } else { "meaning-and-words" };
        let value = json!({ "by": by, "without_vector": found.without_vector, "hits": hits });
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
        "source": provenance.source, "origins": provenance.origins, "text": all_words(item),
    })
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// The beginning of an item's words.
fn words(item: &Item) -> String {
    let all = all_words(item);
    let shown: String = all.chars().take(SHOWN).collect();
    if shown.len() < all.len() { format!("{shown} ...") } else { shown }
}

/// An item's words, for people.
fn all_words(item: &Item) -> String {
    let join = |parts: &[&str]| parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    match &item.body {
        Some(Body::Event(event)) => join(&[&event.category, &event.message]),
        Some(Body::Goal(goal)) => join(&[&goal.text, &goal.result]),
        Some(Body::Task(task)) => join(&[&task.description, &task.result]),
        Some(Body::ToolCall(call)) => join(&[&call.tool, &call.arguments, &call.result]),
        Some(Body::Decision(decision)) => join(&[&decision.question, &decision.chosen, &decision.reason]),
        Some(Body::Pattern(pattern)) => pattern.goal.clone(),
        Some(Body::AgentState(state)) => join(&[&state.key, &state.value]),
        Some(Body::Procedure(procedure)) => {
            join(&[&procedure.name, &procedure.description, &procedure.steps.join("\n")])
        }
        Some(Body::Incident(incident)) => {
            join(&[&incident.title, &incident.description, &incident.cause, &incident.resolution])
        }
        Some(Body::ConfigChange(change)) => join(&[&change.subject, &change.before, &change.after, &change.reason]),
        Some(Body::Knowledge(knowledge)) => join(&[&knowledge.title, &knowledge.text]),
        None => String::new(),
    }
}

/// A line of somebody's text without what a terminal would obey.
fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
