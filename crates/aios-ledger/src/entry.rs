//! Entries: what is recorded, and how it looks as bytes.

use std::fmt::Write as _;

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    canonical,
    hash::{self, Hash},
};

/// Longest record, in bytes. What is larger belongs into a file, and its hash here.
pub const RECORD_MAX: usize = 1 << 20;
/// How deep arrays and objects may lie in each other in a body: readers of JSON stop at some depth.
pub const BODY_DEPTH_MAX: usize = 64;
/// Kind of the entry that says that older entries were dropped. Its body's member `first` is the oldest that was kept.
pub const RETENTION: &str = "ledger.retention";

/// Kinds that begin so are the ledger's own.
const OWN: &str = "ledger.";
const KIND_MAX: usize = 64;
const AGENT_MAX: usize = 128;
/// Years that are written with four digits, as RFC 3339 needs them.
const TIME_MIN: &str = "0000-01-01T00:00:00.000000Z";
const TIME_MAX: &str = "9999-12-30T22:00:00.000000Z";

/// Something to record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record up to the number of the entry; what comes after it is known when it is written.
    head: String,
}

/// Why something can't be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The kind is no name.
    #[error(
        "'{0}' is no kind of an entry: use 1 to 64 lower-case letters, digits, '.', '-' and '_', and no 'ledger.' in front"
    )]
    Kind(String),
    /// The agent is no name.
    #[error("{0:?} is no name of an agent: use 1 to 128 characters, and no control characters")]
    Agent(String),
    /// It is too long.
    #[error("an entry of {0} bytes is too large: at most {RECORD_MAX} are kept; record the hash of what is large")]
    Large(usize),
    /// Its body is nested too deeply.
    #[error("a body is nested deeper than {BODY_DEPTH_MAX}: readers of the ledger could not take it apart")]
    Deep,
}

/// What is known of an entry that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the entry; the first of a ledger is 0.
    pub seq: u64,
    /// Hash of the chain up to it.
    pub hash: Hash,
    /// When it was written.
    pub time: Timestamp,
}

/// An entry as it is in the ledger.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of the entry.
    pub seq: u64,
    /// When it was written, by this device's clock, which may have been wrong.
    pub time: Timestamp,
    /// What it is: `decision`, `result` and others.
    pub kind: String,
    /// Who asked for it.
    pub agent: String,
    /// The rest.
    pub body: Value,
}

impl Entry {
    /// An entry of the kind `kind`, of what `agent` asked for. Of bodies, the member `tool` names the tool, for readers
    /// that look for it. Secrets are taken out before (see [`Redactor`](crate::Redactor)).
    pub fn new(kind: &str, agent: &str, body: &Value) -> Result<Entry, EntryError> {
        if kind.starts_with(OWN) {
            return Err(EntryError::Kind(kind.to_owned()));
        }
        Entry::any(kind, agent, body)
    }

    /// The entry that says that entries before `first` were dropped.
    pub(crate) fn retention(first: u64, root: &Hash) -> Entry {
        let body = serde_json::json!({ "first": first, "root": aios_keys::hex::encode(root) });
        Entry::any(RETENTION, "ledger", &body).expect("invariant: the ledger's own entries can be recorded")
    }

    fn any(kind: &str, agent: &str, body: &Value) -> Result<Entry, EntryError> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !(1..=KIND_MAX).contains(&kind.len()) || !kind.bytes().all(plain) {
            return Err(EntryError::Kind(kind.to_owned()));
        }
        if !(1..=AGENT_MAX).contains(&agent.len()) || agent.chars().any(char::is_control) {
            return Err(EntryError::Agent(agent.to_owned()));
        }
        if depth_beyond(body, BODY_DEPTH_MAX) {
            return Err(EntryError::Deep);
        }
        let mut head = String::from(r#"{"agent":"#);
        canonical::write_string(agent, &mut head);
        head.push_str(r#","body":"#);
        canonical::write(body, &mut head);
        head.push_str(r#","kind":""#);
        head.push_str(kind);
        head.push('"');
        let largest = head.len() + tail(u64::MAX, TIME_MAX).len();
        if largest > RECORD_MAX { Err(EntryError::Large(largest)) } else { Ok(Entry { head }) }
    }

    /// Bytes that it takes, to some.
    pub(crate) fn len(&self) -> usize {
        self.head.len()
    }

    /// The whole record, as number `seq`, written at `time`.
    pub(crate) fn record(&self, seq: u64, time: &str) -> String {
        let mut record = String::with_capacity(self.head.len() + 80);
        record.push_str(&self.head);
        write!(record, "{}", tail(seq, time)).expect("invariant: a string takes what is written to it");
        record
    }
}

/// What a record of number `seq` and time `time` ends with.
fn tail(seq: u64, time: &str) -> String {
    format!(r#","seq":{seq},"time":"{time}"}}"#)
}

/// `time` in RFC 3339, in UTC, to the microsecond: always as many characters. A clock beyond the year 9999 shows its end.
pub(crate) fn time_text(time: Timestamp) -> String {
    if time < TIME_MIN.parse().expect("invariant: a valid time") {
        return TIME_MIN.to_owned();
    }
    DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&time)
}

/// What the end of `record` says of itself, for the entry number `seq`: its kind. `None` where it is not the record of
/// this entry in canonical form. Only the ends are looked at, so that this is fast; the hash says whether the rest is as
/// it was.
pub(crate) fn kind_of(record: &[u8], seq: u64) -> Option<&str> {
    const TIME: usize = TIME_MAX.len();
    let (rest, time) = record.split_at_checked(record.len().checked_sub(TIME + 2)?)?;
    let rest = rest.strip_suffix(br#","time":""#)?;
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, number) = rest.split_at(rest.len() - digits);
    let number: u64 = str::from_utf8(number).ok()?.parse().ok()?;
    let rest = rest.strip_suffix(br#"","seq":"#)?;
    let quote = rest.iter().rposition(|byte| *byte == b'"')?;
    let (rest, kind) = rest.split_at(quote + 1);
    let framed = rest.starts_with(br#"{"agent":""#) && rest.ends_with(br#","kind":""#);
    let fits = framed && number == seq && is_time(&time[..TIME]) && &time[TIME..] == br#""}"#;
    if fits { str::from_utf8(kind).ok() } else { None }
}

fn is_time(text: &[u8]) -> bool {
    text.iter().zip(TIME_MAX.bytes()).all(|(byte, like)| match like {
        b'0'..=b'9' => byte.is_ascii_digit(),
        other => *byte == other,
    })
}

/// The hash of the chain after `record`, and its leaf.
pub(crate) fn hashes(previous: &Hash, record: &[u8]) -> (Hash, Hash) {
    let leaf = hash::leaf(record);
    (hash::link(previous, &leaf), leaf)
}

/// Whether arrays and objects lie deeper in each other than `limit`.
fn depth_beyond(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|item| depth_beyond(item, limit - 1)),
        Value::Object(members) => limit == 0 || members.values().any(|item| depth_beyond(item, limit - 1)),
        _ => false,
    }
}
