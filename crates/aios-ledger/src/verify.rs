//! Whether what is there is what was written.

use std::fmt;

use aios_keys::note::Verifier;
use redb::ReadableTable as _;

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    entry::{RETENTION, hashes, kind_of},
    error::ReadError,
    hash::{self, Hash},
    read::{Snapshot, guarded},
    tables::{parse_checkpoint, parse_entry},
    tree::Frontier,
};

/// What was found of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the ledger.
    pub origin: String,
    /// Number of the oldest entry that is kept.
    pub first: u64,
    /// Number of entries that were found in order, those that were dropped before `first` included.
    pub size: u64,
    /// How many of them a checkpoint that holds covers. Later ones are chained, but not signed yet.
    pub signed: u64,
    /// Number of checkpoints that hold.
    pub checkpoints: u64,
    /// Number of known checkpoints that the ledger continues, and so proves.
    pub known: usize,
    /// Number of known checkpoints that are older than what is kept, and so can't be compared.
    pub unknown: usize,
    /// Root of the tree of the records that were found in order; meaningful to the end if there is no fault.
    pub root: Hash,
    /// Hash of the chain of them.
    pub chain: Hash,
    /// The first thing that is wrong. Nothing after it was looked at.
    pub fault: Option<Fault>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the first entry that is not to be trusted.
    pub seq: u64,
    /// Why.
    pub reason: Reason,
}

/// Why an entry is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The entry is missing; the next one that is there has this number, if there is one.
    Missing(Option<u64>),
    /// It is no record in canonical form, or one of another number.
    Form,
    /// Its record, or its hash, is not the one that was written.
    Hash,
    /// The checkpoint of so many entries is no checkpoint of this ledger.
    Checkpoint(u64, CheckpointError),
    /// The checkpoint of so many entries stands for others than those that are there: one from here on was changed.
    Root(u64),
    /// Older entries are missing, and the ledger does not say that they were dropped.
    Start,
    /// A checkpoint that is known from elsewhere, of so many entries, stands for others: this is a fork, or was rewritten.
    Fork(u64),
    /// The ledger had so many entries, says a checkpoint, and has no more than are before this one.
    Truncated(u64),
    /// The ledger names another origin than the key.
    Origin(String),
    /// The export has an end that does not fit.
    End,
}

/// Goes through entries and checkpoints in order, wherever they come from.
pub(crate) struct Walk<'k> {
    keys: &'k Verifier,
    /// Known checkpoints, the largest first; those that were compared are taken away.
    known: Vec<&'k Checkpoint>,
    frontier: Frontier,
    report: Report,
    /// Oldest entry that the ledger says it kept.
    said_first: Option<u64>,
    /// Whether the ledger has to say that it dropped what is before the first entry.
    strict_start: bool,
}

/// Checks the ledger in `snapshot`, whose checkpoints `keys` check. `known` are checkpoints that were taken elsewhere
/// before, and are trusted: without one, nobody can tell a ledger that lost its end, or was begun again.
///
/// The error is about reading. What is wrong with the ledger is the report's [`fault`](Report::fault).
pub fn verify(snapshot: &Snapshot, keys: &Verifier, known: &[Checkpoint]) -> Result<Report, ReadError> {
    guarded(snapshot.place(), || walk(snapshot, keys, known))
}

fn walk(snapshot: &Snapshot, keys: &Verifier, known: &[Checkpoint]) -> Result<Report, ReadError> {
    let storage = |error: redb::StorageError| ReadError::storage(snapshot.place(), error);
    let mut walk = Walk::new(snapshot.origin(), keys, known);
    let mut checkpoints = snapshot.checkpoint_table().iter().map_err(storage)?;
    let mut next_checkpoint = || checkpoints.next().transpose().map_err(storage);
    let mut checkpoint = next_checkpoint()?;
    let checked = 'faults: {
        if let Err(fault) = walk.check_origin() {
            break 'faults Err(fault);
        }
        if snapshot.first() > 0 {
            let start = checkpoint.as_ref().filter(|(size, _)| size.value() == snapshot.first());
            let start = start.and_then(|(size, value)| parse_checkpoint(size.value(), value.value()));
            let resumed = start.ok_or(Reason::Start).and_then(|(frontier, note)| walk.resume(frontier, note));
            if let Err(reason) = resumed {
                break 'faults Err(Fault { seq: snapshot.first(), reason });
            }
            checkpoint = next_checkpoint()?;
        }
        for item in snapshot.table().iter().map_err(storage)? {
            let (seq, value) = item.map_err(storage)?;
            let entry = parse_entry(value.value()).ok_or(Fault { seq: seq.value(), reason: Reason::Form });
            if let Err(fault) = entry.and_then(|(hash, record)| walk.entry(seq.value(), hash, record)) {
                break 'faults Err(fault);
            }
            // Most entries end here; a checkpoint of a smaller size is one that has no place, and `checkpoint` says so.
            while let Some((size, value)) = checkpoint.as_ref().filter(|(size, _)| size.value() <= walk.size()) {
                if let Err(fault) = walk.checkpoint(size.value(), value.value()) {
                    break 'faults Err(fault);
                }
                checkpoint = next_checkpoint()?;
            }
        }
        match checkpoint {
            Some((size, _)) => Err(Fault { seq: walk.size(), reason: Reason::Truncated(size.value()) }),
            None => Ok(()),
        }
    };
    Ok(walk.finish(checked))
}

impl<'k> Walk<'k> {
    pub fn new(origin: &str, keys: &'k Verifier, known: &'k [Checkpoint]) -> Walk<'k> {
        let mut known: Vec<_> = known.iter().collect();
        known.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
        let frontier = Frontier::new();
        let report = Report {
            origin: origin.to_owned(),
            first: 0,
            size: 0,
            signed: 0,
            checkpoints: 0,
            known: 0,
            unknown: 0,
            root: frontier.root(),
            chain: hash::start(origin),
            fault: None,
        };
        Walk { keys, known, frontier, report, said_first: None, strict_start: true }
    }

    /// An export may begin with any entry that has a checkpoint before it.
    pub fn may_start_anywhere(&mut self) {
        self.strict_start = false;
    }

    /// Number of entries so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Whether the ledger is that of the key, and the known checkpoints are of it.
    pub fn check_origin(&self) -> Result<(), Fault> {
        let origins =
            self.known.iter().map(|checkpoint| checkpoint.origin.as_str()).chain([self.report.origin.as_str()]);
        match origins.into_iter().find(|origin| *origin != self.keys.name()) {
            Some(origin) => Err(Fault { seq: 0, reason: Reason::Origin(origin.to_owned()) }),
            None => Ok(()),
        }
    }

    /// Begins at the checkpoint `note` instead of at the first entry.
    pub fn resume(&mut self, frontier: Frontier, note: &str) -> Result<(), Reason> {
        let size = frontier.size();
        let checkpoint = Checkpoint::open(note, self.keys).map_err(|error| Reason::Checkpoint(size, error))?;
        if (checkpoint.size, checkpoint.root) != (size, frontier.root()) {
            return Err(Reason::Root(size));
        }
        self.frontier = frontier;
        (self.report.first, self.report.signed, self.report.checkpoints) = (size, size, 1);
        self.report.chain = checkpoint.chain;
        let older = self.known.iter().filter(|known| known.size < size).count();
        self.known.truncate(self.known.len() - older);
        self.report.unknown = older;
        self.compare_known().map_err(|fault| fault.reason)
    }

    /// The next entry.
    pub fn entry(&mut self, seq: u64, stored: &Hash, record: &[u8]) -> Result<(), Fault> {
        let expected = self.size();
        if seq != expected {
            return Err(Fault { seq: expected, reason: Reason::Missing(Some(seq)) });
        }
        let kind = kind_of(record, seq).ok_or(Fault { seq, reason: Reason::Form })?;
        let (chain, leaf) = hashes(&self.report.chain, record);
        if chain != *stored {
            return Err(Fault { seq, reason: Reason::Hash });
        }
        if self.report.first > 0 && kind == RETENTION {
            self.said_first = first_said(record).or(self.said_first);
        }
        self.frontier.push(leaf);
        self.report.chain = chain;
        self.compare_known()
    }

    /// A checkpoint with its tree, as the database has it.
    pub fn checkpoint(&mut self, size: u64, value: &[u8]) -> Result<(), Fault> {
        let parsed = parse_checkpoint(size, value);
        let (frontier, note) = parsed.ok_or(self.unsigned_fault(Reason::Checkpoint(size, CheckpointError::Form)))?;
        self.signed_note(size, &frontier, note)
    }

    /// A checkpoint with its tree. The peaks are not signed, but have to be the ones of the entries.
    pub fn signed_note(&mut self, size: u64, frontier: &Frontier, note: &str) -> Result<(), Fault> {
        let checkpoint =
            Checkpoint::open(note, self.keys).map_err(|error| self.unsigned_fault(Reason::Checkpoint(size, error)))?;
        let found = (self.size(), self.frontier.root(), self.report.chain);
        if (checkpoint.size, checkpoint.root, checkpoint.chain) != found || *frontier != self.frontier {
            return Err(self.unsigned_fault(Reason::Root(size)));
        }
        self.report.signed = size;
        self.report.checkpoints += 1;
        Ok(())
    }

    /// The report, when everything was gone through or the first fault was met.
    pub fn finish(mut self, checked: Result<(), Fault>) -> Report {
        let checked = checked.and_then(|()| {
            if self.strict_start && self.report.first > 0 && self.said_first != Some(self.report.first) {
                return Err(Fault { seq: self.report.first, reason: Reason::Start });
            }
            match self.known.first() {
                Some(known) => Err(Fault { seq: self.size(), reason: Reason::Truncated(known.size) }),
                None => Ok(()),
            }
        });
        self.report.size = self.size();
        self.report.root = self.frontier.root();
        self.report.fault = checked.err();
        self.report
    }

    /// Compares the known checkpoints of the size that was reached.
    fn compare_known(&mut self) -> Result<(), Fault> {
        while let Some(known) = self.known.last().filter(|known| known.size <= self.size()) {
            let fits = known.size == 0 || (known.root, known.chain) == (self.frontier.root(), self.report.chain);
            if !fits {
                return Err(self.unsigned_fault(Reason::Fork(known.size)));
            }
            self.known.pop();
            self.report.known += 1;
        }
        Ok(())
    }

    /// A fault that is somewhere after the last checkpoint.
    fn unsigned_fault(&self, reason: Reason) -> Fault {
        Fault { seq: self.report.signed, reason }
    }
}

/// The oldest entry that was kept, as a record of the kind [`RETENTION`] says.
fn first_said(record: &[u8]) -> Option<u64> {
    let record: crate::entry::Record = serde_json::from_slice(record).ok()?;
    record.body.get("first")?.as_u64()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq;
        match &self.reason {
            Reason::Missing(Some(next)) => write!(f, "entry {seq} is missing: the next one is {next}"),
            Reason::Missing(None) => write!(f, "entry {seq} is missing"),
            Reason::Form => write!(f, "entry {seq} is no record of that number"),
            Reason::Hash => write!(f, "entry {seq} is not the one that was recorded: its hash differs"),
            Reason::Checkpoint(size, error) => {
                write!(f, "from entry {seq} on nothing is proven: of {size} entries {error}")
            }
            Reason::Root(size) => {
                write!(
                    f,
                    "an entry from {seq} on is not the one that was recorded: the checkpoint of {size} entries has others"
                )
            }
            Reason::Start => {
                write!(f, "entries before {seq} are missing, and the ledger does not say that they were dropped")
            }
            Reason::Fork(size) => {
                write!(
                    f,
                    "an entry from {seq} on is another than the known checkpoint of {size} entries stands for: a fork"
                )
            }
            Reason::Truncated(size) => {
                write!(f, "entry {seq} is missing, the end was cut off: there were {size} entries")
            }
            Reason::Origin(origin) => write!(f, "this is the ledger '{origin}', and the key is another one's"),
            Reason::End => write!(f, "the export has no end after entry {seq}: it was cut off"),
        }
    }
}
