//! `aios ledger show`

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use aios_core::quantity::HumanDuration;
use aios_keys::hex;
use aios_ledger::{Filter, Order, Record, Snapshot, Stored, canonical};
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{plain, short};

/// Characters of an entry's body that a line of the table has room for.
const BODY_WIDTH: usize = 100;

/// The moment that `text` names: a time, or a duration before now.
pub fn since(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: HumanDuration = text.parse().ok().with_context(|| {
        format!("--since {text:?} is neither a duration like 90s, 15m, 2h or 7d nor a time like 2026-11-22T04:30:00Z")
    })?;
    Timestamp::now().checked_sub(ago.0).with_context(|| format!("--since {text:?} is before all time"))
}

/// Prints the newest `limit` entries that `filter` lets through, oldest first.
pub fn list(snapshot: &Snapshot, filter: Filter, limit: usize, json: bool) -> Result<()> {
    let newest = snapshot.select(0..u64::MAX, Order::NewestFirst, filter)?;
    let mut records = newest.take(limit).collect::<Result<Vec<Record>, _>>()?;
    records.reverse();
    let text = match json {
        true => records.iter().map(|record| format!("{}\n", object(record))).collect(),
        false if records.is_empty() => "no entries\n".to_owned(),
        false => table(&records),
    };
    print(&text)
}

/// Prints one entry in full.
pub fn one(snapshot: &Snapshot, seq: u64, json: bool) -> Result<()> {
    let Some(stored) = snapshot.get(seq)? else {
        bail!(
            "there is no entry {seq}: the ledger keeps {} to {}",
            snapshot.first(),
            snapshot.size().saturating_sub(1)
        );
    };
    let record = snapshot.parsed(&stored)?;
    if json {
        let mut object = object(&record);
        object["hash"] = hex::encode(&stored.hash).into();
        return print(&format!("{}\n", serde_json::to_string_pretty(&object)?));
    }
    print(&details(&stored, &record)?)
}

fn table(records: &[Record]) -> String {
    let rows: Vec<_> = records
        .iter()
        .map(|record| (record.seq.to_string(), time(record), plain(&record.kind), plain(&record.agent), tool(record)))
        .collect();
    let width = |longest: Option<usize>, least: usize| longest.unwrap_or(0).max(least);
    let seqs = width(rows.iter().map(|row| row.0.len()).max(), 3);
    let kinds = width(rows.iter().map(|row| row.2.chars().count()).max(), 4);
    let agents = width(rows.iter().map(|row| row.3.chars().count()).max(), 5);
    let tools = width(rows.iter().map(|row| row.4.chars().count()).max(), 4);
    let mut text = format!(
        "{:>seqs$}  {:19}  {:kinds$}  {:agents$}  {:tools$}  BODY\n",
        "SEQ", "TIME (UTC)", "KIND", "AGENT", "TOOL"
    );
    for (record, (seq, time, kind, agent, tool)) in records.iter().zip(&rows) {
        let body = short(&plain(&body(record)), BODY_WIDTH);
        let line = format!("{seq:>seqs$}  {time:19}  {kind:kinds$}  {agent:agents$}  {tool:tools$}  {body}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// One fact a line, and the body as it is.
fn details(stored: &Stored, record: &Record) -> Result<String> {
    let mut text = format!("entry {}\n", record.seq);
    for (name, value) in [
        ("time", record.time.to_string()),
        ("kind", plain(&record.kind)),
        ("agent", plain(&record.agent)),
        ("hash", hex::encode(&stored.hash)),
    ] {
        writeln!(text, "  {name:>5}: {value}")?;
    }
    for line in serde_json::to_string_pretty(&record.body)?.lines() {
        writeln!(text, "  {}", plain(line))?;
    }
    Ok(text)
}

fn object(record: &Record) -> Value {
    let Record { seq, time, kind, agent, body } = record;
    json!({"seq": seq, "time": time.to_string(), "kind": kind, "agent": agent, "body": body})
}

fn time(record: &Record) -> String {
    record.time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn tool(record: &Record) -> String {
    plain(record.body.get("tool").and_then(Value::as_str).unwrap_or("-"))
}

/// The body without what has a column of its own.
fn body(record: &Record) -> String {
    let mut body = record.body.clone();
    if let Value::Object(members) = &mut body {
        members.shift_remove("tool");
        if members.is_empty() {
            return String::new();
        }
    }
    canonical(&body)
}

fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Somebody piped us into `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, kind: &str, agent: &str, body: Value) -> Record {
        let time = "2026-11-22T04:31:04.123456Z".parse().unwrap();
        Record { seq, time, kind: kind.into(), agent: agent.into(), body }
    }

    #[test]
    fn the_table_has_a_line_for_each_entry_and_nothing_that_a_terminal_obeys() {
        let records = [
            record(
                9,
                "decision",
                "operator",
                json!({"tool": "fs.read", "decision": "allow", "arguments": {"path": "/etc/motd"}}),
            ),
            record(10, "result", "operator", json!({"tool": "fs.read"})),
            record(11, "ledger.retention", "ledger", json!({"first": 4, "root": "ab".repeat(80)})),
            record(12, "decision", "web\u{202e}tset", json!({"tool": "\u{1b}[2J", "text": "\u{9b}31m"})),
        ];
        insta::assert_snapshot!(table(&records), @r#"
        SEQ  TIME (UTC)           KIND              AGENT     TOOL     BODY
          9  2026-11-22 04:31:04  decision          operator  fs.read  {"arguments":{"path":"/etc/motd"},"decision":"allow"}
         10  2026-11-22 04:31:04  result            operator  fs.read
         11  2026-11-22 04:31:04  ledger.retention  ledger    -        {"first":4,"root":"abababababababababababababababababababababababababababababababababababababababab…
         12  2026-11-22 04:31:04  decision          web�tset  �[2J     {"text":"�31m"}
        "#);
    }

    #[test]
    fn one_entry_is_shown_with_all_of_its_body() {
        let stored = Stored { seq: 9, hash: [0xab; 32], record: String::new() };
        let record =
            record(9, "decision", "operator", json!({"tool": "fs.read", "arguments": {"path": "/etc/\u{7}motd"}}));
        insta::assert_snapshot!(details(&stored, &record).unwrap(), @r#"
        entry 9
           time: 2026-11-22T04:31:04.123456Z
           kind: decision
          agent: operator
           hash: abababababababababababababababababababababababababababababababab
          {
            "tool": "fs.read",
            "arguments": {
              "path": "/etc/\u0007motd"
            }
          }
        "#);
    }

    #[test]
    fn a_moment_is_a_time_or_a_duration_before_now() {
        assert_eq!(since("2026-11-22T04:30:00Z").unwrap(), "2026-11-22T04:30:00Z".parse().unwrap());
        assert_eq!(since("2026-11-22T05:30:00+01:00").unwrap(), "2026-11-22T04:30:00Z".parse().unwrap());
        let before = Timestamp::now();
        let hour = since("1h").unwrap();
        assert!(hour < before && (before - hour).total(jiff::Unit::Minute).unwrap() < 61.0);
        for wrong in ["", "yesterday", "1", "-1h", "2026-11-22", "99999999999d"] {
            let error = since(wrong).unwrap_err().to_string();
            assert!(error.contains("--since"), "{wrong}: {error}");
        }
    }
}
