//! Where the ledger in a database stands.

use aios_keys::note::Verifier;
use redb::Database;

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

/// Reads where the ledger stands. The last checkpoint is checked, and the entries
/// after it: what is signed next rests on them.
pub(super) fn load(database: &Database, place: &str, keys: &Verifier) -> Result<Loaded, LedgerError> {
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
            // Where the entries before it were dropped, the checkpoint alone knows the chain.
            let last = size.checked_sub(1).filter(|_| size > snapshot.first()).map(|seq| snapshot.hash(seq));
            let fits = last.is_none_or(|hash| hash == Some(checkpoint.chain));
            if (checkpoint.size, checkpoint.root) != (size, frontier.root()) || !fits {
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

/// Makes the tables of the ledger `origin` in an empty database.
pub(super) fn begin_tables(database: &Database, origin: &str) -> Result<(), redb::Error> {
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
