//! Where the ledger in a database stands.

use aios_keys::note::Verifier;
use redb::{Database, ReadableDatabase as _};

use super::{Head, begin};
use crate::{
    checkpoint::Checkpoint,
    entry::{hashes, kind_of},
    error::LedgerError,
    hash,
    read::Snapshot,
    tables::{ABOUT, CHECKPOINTS, ENTRIES, FORMAT, FORMAT_NOW, ORIGIN, parse_entry},
    tree::Frontier,
};

/// What a database holds.
pub(super) struct Loaded {
    pub head: Head,
    /// Number of entries that have a checkpoint.
    pub signed: u64,
}

/// Reads where the ledger stands, or begins it in an empty database. The last checkpoint is checked, and the entries
/// after it: what is signed next rests on them.
pub(super) fn load(database: &Database, place: &str, keys: &Verifier) -> Result<Loaded, LedgerError> {
    begin_if_empty(database, keys.name()).map_err(|error| LedgerError::storage(place, error))?;
    let damaged = |reason: String| LedgerError::Damaged { place: place.to_owned(), reason };
    let snapshot = Snapshot::of(database, place.to_owned()).map_err(|error| damaged(error.to_string()))?;
    if snapshot.origin() != keys.name() {
        let (found, expected) = (snapshot.origin().to_owned(), keys.name().to_owned());
        return Err(LedgerError::Origin { place: place.to_owned(), found, expected });
    }
    let (mut head, signed) = match snapshot.last_checkpoint().map_err(|error| damaged(error.to_string()))? {
        None => (Head { frontier: Frontier::new(), chain: hash::start(keys.name()) }, 0),
        Some((frontier, note)) => {
            let checkpoint = Checkpoint::open(&note, keys).map_err(|error| damaged(error.to_string()))?;
            let size = frontier.size();
            let last = size.checked_sub(1).and_then(|seq| snapshot.hash(seq));
            if (checkpoint.size, checkpoint.root, Some(checkpoint.chain)) != (size, frontier.root(), last) {
                return Err(damaged(format!("its last checkpoint, of {size} entries, does not fit them")));
            }
            (Head { frontier, chain: checkpoint.chain }, size)
        }
    };
    let storage = |error: redb::StorageError| LedgerError::storage(place, error);
    for item in snapshot.table().range(signed..).map_err(storage)? {
        let (seq, value) = item.map_err(storage)?;
        let fits = (|| {
            let (hash, record) = parse_entry(value.value())?;
            kind_of(record, seq.value())?;
            let (chain, leaf) = hashes(&head.chain, record);
            (seq.value() == head.frontier.size() && chain == *hash).then_some((chain, leaf))
        })();
        let Some((chain, leaf)) = fits else { return Err(damaged(format!("entry {} was changed", seq.value()))) };
        head.chain = chain;
        head.frontier.push(leaf);
    }
    Ok(Loaded { head, signed })
}

/// Makes the tables in a database that has none.
fn begin_if_empty(database: &Database, origin: &str) -> Result<(), redb::Error> {
    if database.begin_read()?.list_tables()?.next().is_some() {
        return Ok(());
    }
    let transaction = begin(database)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(CHECKPOINTS)?;
    let mut about = transaction.open_table(ABOUT)?;
    about.insert(FORMAT, FORMAT_NOW)?;
    about.insert(ORIGIN, origin)?;
    drop(about);
    transaction.commit()?;
    Ok(())
}
