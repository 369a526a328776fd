//! The table of blocks: by term, and in it by the first text.

use redb::{ReadableTable, Table};

use super::{
    TextError,
    block::{self, MOST, Posting},
    tables::storage,
};

/// The table of an index's blocks.
type Blocks<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// Key of the block of `term` whose first text is `first`. No term has a byte of 0, so none is the beginning of another's
/// keys.
pub(super) fn key(term: &str, first: u64) -> Vec<u8> {
    [term.as_bytes(), &[0], &first.to_be_bytes()].concat()
}

/// Term and first text of a key.
pub(super) fn parse_key(key: &[u8]) -> Option<(&str, u64)> {
    let (rest, first) = key.split_last_chunk::<8>()?;
    let term = rest.strip_suffix(&[0])?;
    Some((str::from_utf8(term).ok()?, u64::from_be_bytes(*first)))
}

/// Adds a text that has `term`. It must not be there.
pub(super) fn insert_posting(
    index: &str,
    table: &mut Blocks<'_>,
    term: &str,
    posting: Posting,
) -> Result<(), TextError> {
    let mut postings = Vec::with_capacity(MOST + 1);
    let Some(first) = block_of(index, table, term, posting.id, &mut postings)? else {
        // Before all others: the block after it stays as it is, unless it has room.
        return match first_block(index, table, term, &mut postings)? {
            Some(first) if postings.len() < MOST => {
                remove_block(index, table, term, first)?;
                postings.insert(0, posting);
                write_block(index, table, term, &postings)
            }
            _ => write_block(index, table, term, &[posting]),
        };
    };
    let Err(place) = postings.binary_search_by_key(&posting.id, |other| other.id) else {
        let what = format!("text {} is among those with '{term}' without being there", posting.id);
        return Err(TextError::Damaged { index: index.to_owned(), what });
    };
    debug_assert_eq!(postings.first().map(|posting| posting.id), Some(first));
    postings.insert(place, posting);
    if postings.len() <= MOST {
        return write_block(index, table, term, &postings);
    }
    // Texts mostly come with rising numbers: a full last block stays full.
    let middle = if place == MOST { MOST } else { postings.len() / 2 };
    write_block(index, table, term, &postings[..middle])?;
    write_block(index, table, term, &postings[middle..])
}

/// Removes a text that has `term`; says whether it was there.
pub(super) fn remove_posting(index: &str, table: &mut Blocks<'_>, term: &str, id: u64) -> Result<bool, TextError> {
    let mut postings = Vec::new();
    let Some(first) = block_of(index, table, term, id, &mut postings)? else { return Ok(false) };
    let Ok(place) = postings.binary_search_by_key(&id, |posting| posting.id) else { return Ok(false) };
    postings.remove(place);
    if place == 0 {
        remove_block(index, table, term, first)?;
    }
    if !postings.is_empty() {
        write_block(index, table, term, &postings)?;
    }
    Ok(true)
}

/// Reads the block in which `id` is or would be, into `postings`; its first text. None where all are after `id`.
fn block_of(
    index: &str,
    table: &Blocks<'_>,
    term: &str,
    id: u64,
    postings: &mut Vec<Posting>,
) -> Result<Option<u64>, TextError> {
    let (from, to) = (key(term, 0), key(term, id));
    let mut range = table.range(from.as_slice()..=to.as_slice()).map_err(|error| storage(index, error))?;
    read_block(index, range.next_back(), postings)
}

/// Reads the first block of `term` into `postings`; its first text.
fn first_block(
    index: &str,
    table: &Blocks<'_>,
    term: &str,
    postings: &mut Vec<Posting>,
) -> Result<Option<u64>, TextError> {
    let (from, to) = (key(term, 0), key(term, u64::MAX));
    let mut range = table.range(from.as_slice()..=to.as_slice()).map_err(|error| storage(index, error))?;
    read_block(index, range.next(), postings)
}

/// A row of the table, as a range gives it.
type Row<'a> = Result<(redb::AccessGuard<'a, &'static [u8]>, redb::AccessGuard<'a, &'static [u8]>), redb::StorageError>;

fn read_block(index: &str, row: Option<Row<'_>>, postings: &mut Vec<Posting>) -> Result<Option<u64>, TextError> {
    let Some(row) = row else { return Ok(None) };
    let (key, value) = row.map_err(|error| storage(index, error))?;
    let first = parse_key(key.value()).map(|(_, first)| first);
    let first = first.filter(|first| block::decode(*first, value.value(), postings).is_some());
    let what = || format!("the block {:?} can't be read", String::from_utf8_lossy(key.value()));
    first.map(Some).ok_or_else(|| TextError::Damaged { index: index.to_owned(), what: what() })
}

fn write_block(index: &str, table: &mut Blocks<'_>, term: &str, postings: &[Posting]) -> Result<(), TextError> {
    let (key, value) = (key(term, postings[0].id), block::encode(postings));
    table.insert(key.as_slice(), value.as_slice()).map(drop).map_err(|error| storage(index, error))
}

fn remove_block(index: &str, table: &mut Blocks<'_>, term: &str, first: u64) -> Result<(), TextError> {
    table.remove(key(term, first).as_slice()).map(drop).map_err(|error| storage(index, error))
}
