//! The ledger as a text that can be taken elsewhere and checked there, with the public keys and nothing else.

use std::io::{self, BufRead, Read as _, Write};

use aios_keys::{hex, note::Verifier};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    entry::RECORD_MAX,
    error::ReadError,
    hash::Hash,
    read::Snapshot,
    tables::{parse_checkpoint, parse_entry},
    tree::Frontier,
    verify::{Fault, Reason, Report, Walk},
};

/// What the first line says that this is.
const FORMAT: &str = "aios ledger export 1";
/// Longest line that is read, in bytes: a record and its hash, or a checkpoint.
const LINE_MAX: usize = RECORD_MAX + (1 << 18);

/// Why the ledger could not be exported, or an export could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The text can't be read or written.
    #[error("the export can't be read or written: {0}")]
    Io(io::Error),
    /// The text is something else.
    #[error("line {line} is not of an export of a ledger: {reason}")]
    Form {
        /// Number of the line; the first is 1.
        line: u64,
        /// What does not fit.
        reason: String,
    },
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Number of the first entry.
    pub first: u64,
    /// Number after the last entry.
    pub size: u64,
    /// The last signed checkpoint: with it the entries before it may be dropped
    /// ([`Ledger::prune`](crate::Ledger::prune)), and another copy of the ledger can be compared with this one.
    pub checkpoint: Option<String>,
}

/// A line. Which one it is shows in its first member.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'l> {
    Head(Head),
    Entry(EntryLine<'l>),
    Checkpoint(CheckpointLine),
    End(EndLine),
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    first: u64,
    format: String,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Signed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine<'l> {
    hash: String,
    #[serde(borrow)]
    record: &'l RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    checkpoint: Signed,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    end: u64,
}

impl<'l> Line<'l> {
    fn parse(line: &'l [u8]) -> serde_json::Result<Line<'l>> {
        if line.starts_with(br#"{"hash":"#) {
            serde_json::from_slice(line).map(Line::Entry)
        } else if line.starts_with(br#"{"checkpoint":"#) {
            serde_json::from_slice(line).map(Line::Checkpoint)
        } else if line.starts_with(br#"{"end":"#) {
            serde_json::from_slice(line).map(Line::End)
        } else {
            serde_json::from_slice(line).map(Line::Head)
        }
    }
}

/// A checkpoint, and the tree that goes on from it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    note: String,
    peaks: Vec<String>,
    size: u64,
}

impl Signed {
    fn of(frontier: &Frontier, note: &str) -> Signed {
        let peaks = frontier.peaks().iter().map(|peak| hex::encode(peak)).collect();
        Signed { note: note.to_owned(), peaks, size: frontier.size() }
    }

    fn frontier(&self) -> Option<Frontier> {
        let peaks = self.peaks.iter().map(|peak| hex::decode::<32>(peak)).collect::<Option<Vec<Hash>>>()?;
        Frontier::from_bytes(self.size, &peaks.concat())
    }
}

/// Writes the entries from number `from` on to `out`, a line for each, and the checkpoints between them. It begins at the
/// newest checkpoint that has no later entry before it, or at the oldest entry that is kept: a checker needs that.
pub fn export(snapshot: &Snapshot, from: u64, out: &mut impl Write) -> Result<Exported, ExportError> {
    let start = snapshot.last_checkpoint_to(from.max(snapshot.first()))?;
    if start.is_none() && snapshot.first() > 0 {
        let reason = format!("the checkpoint of its oldest entry, {}, is missing", snapshot.first());
        return Err(ReadError::Damaged { place: snapshot.place().to_owned(), reason }.into());
    }
    let first = start.as_ref().map_or(0, |(frontier, _)| frontier.size());
    let mut last = start.as_ref().map(|(_, note)| note.clone());
    let start = start.as_ref().map(|(frontier, note)| Signed::of(frontier, note));
    let head = Head { first, format: FORMAT.to_owned(), origin: snapshot.origin().to_owned(), start };
    put(out, &Line::Head(head))?;

    let storage = |error: redb::StorageError| ReadError::storage(snapshot.place(), error);
    let damaged = |what: &str, number: u64| {
        let reason = format!("{what} {number} can't be read; `aios ledger verify` says more");
        ReadError::Damaged { place: snapshot.place().to_owned(), reason }
    };
    let mut checkpoints = snapshot.checkpoint_table().range(first + 1..).map_err(storage)?;
    let mut next_checkpoint = || checkpoints.next().transpose().map_err(storage);
    let mut checkpoint = next_checkpoint()?;
    for item in snapshot.table().range(first..).map_err(storage)? {
        let (seq, value) = item.map_err(storage)?;
        let seq = seq.value();
        let (hash, record) = parse_entry(value.value()).ok_or_else(|| damaged("entry", seq))?;
        let record: &RawValue = serde_json::from_slice(record).map_err(|_| damaged("entry", seq))?;
        put(out, &Line::Entry(EntryLine { hash: hex::encode(hash), record }))?;
        while let Some((size, value)) = checkpoint.as_ref().filter(|(size, _)| size.value() <= seq + 1) {
            let parsed = parse_checkpoint(size.value(), value.value());
            let (frontier, note) = parsed.ok_or_else(|| damaged("checkpoint", size.value()))?;
            put(out, &Line::Checkpoint(CheckpointLine { checkpoint: Signed::of(&frontier, note) }))?;
            last = Some(note.to_owned());
            checkpoint = next_checkpoint()?;
        }
    }
    put(out, &Line::End(EndLine { end: snapshot.size() }))?;
    out.flush().map_err(ExportError::Io)?;
    Ok(Exported { first, size: snapshot.size(), checkpoint: last })
}

fn put(out: &mut impl Write, line: &Line<'_>) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| ExportError::Io(error.into()))?;
    out.write_all(b"\n").map_err(ExportError::Io)
}

/// Checks an export as [`verify`](crate::verify()) checks the ledger itself. An export that begins with a later entry than
/// the first is sound if what it has is: a checker who wants more holds a known checkpoint against it.
pub fn verify_export(input: &mut impl BufRead, keys: &Verifier, known: &[Checkpoint]) -> Result<Report, ExportError> {
    let mut lines = Lines { input, number: 0, text: Vec::new() };
    let Some(Line::Head(Head { first, format, origin, start })) = lines.next()? else {
        return Err(lines.wrong("it has no first line that says what it is"));
    };
    if format != FORMAT {
        return Err(lines.wrong(&format!("its format is '{format}', and this program reads '{FORMAT}'")));
    }
    let mut walk = Walk::new(&origin, keys, known);
    walk.may_start_anywhere();
    if let Err(fault) = walk.check_origin() {
        return Ok(walk.finish(Err(fault)));
    }
    let resumed = match (&start, first) {
        (None, 0) => Ok(()),
        (Some(start), _) if start.size == first => match start.frontier() {
            Some(frontier) => walk.resume(frontier, &start.note),
            None => Err(Reason::Checkpoint(first, CheckpointError::Form)),
        },
        _ => Err(Reason::Start),
    };
    if let Err(reason) = resumed {
        return Ok(walk.finish(Err(Fault { seq: first, reason })));
    }
    loop {
        let size = walk.size();
        let checked = match lines.next()? {
            Some(Line::Entry(EntryLine { hash, record })) => match hex::decode(&hash) {
                Some(hash) => walk.entry(size, &hash, record.get().as_bytes()),
                None => Err(Fault { seq: size, reason: Reason::Form }),
            },
            Some(Line::Checkpoint(CheckpointLine { checkpoint })) => match checkpoint.frontier() {
                Some(frontier) => walk.signed_note(checkpoint.size, &frontier, &checkpoint.note),
                None => Err(Fault { seq: size, reason: Reason::Checkpoint(checkpoint.size, CheckpointError::Form) }),
            },
            Some(Line::End(EndLine { end })) => {
                let fits = end == size && lines.next()?.is_none();
                let checked = if fits { Ok(()) } else { Err(Fault { seq: size, reason: Reason::End }) };
                return Ok(walk.finish(checked));
            }
            Some(Line::Head(_)) => return Err(lines.wrong("it is a first line once more")),
            None => Err(Fault { seq: size, reason: Reason::End }),
        };
        if let Err(fault) = checked {
            return Ok(walk.finish(Err(fault)));
        }
    }
}

/// Lines of an export.
struct Lines<'i, R> {
    input: &'i mut R,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<Line<'_>>, ExportError> {
        self.text.clear();
        self.number += 1;
        let limited = self.input.take(LINE_MAX as u64 + 1).read_until(b'\n', &mut self.text);
        if limited.map_err(ExportError::Io)? == 0 {
            return Ok(None);
        }
        let number = self.number;
        let wrong = |reason: String| ExportError::Form { line: number, reason };
        let Some(line) = self.text.strip_suffix(b"\n") else {
            let reason = if self.text.len() > LINE_MAX { "it is too long" } else { "it has no end" };
            return Err(wrong(reason.into()));
        };
        Line::parse(line).map(Some).map_err(|error| wrong(error.to_string()))
    }

    fn wrong(&self, reason: &str) -> ExportError {
        ExportError::Form { line: self.number, reason: reason.to_owned() }
    }
}
