//! What crates that keep a redb database, or tables in one of another crate, do alike.

#![forbid(unsafe_code)]

mod medium;

pub use medium::{Fill, Medium, OnDisk, folder};
use redb::{Key, ReadTransaction, ReadableTable as _, TableDefinition, TableError, Value, WriteTransaction};

/// Copies one table into a database that has none of this name, row by row: what was removed from it stays behind, with the
/// pages that it lay in. A table that is not there is copied as none.
pub fn copy_table<K: Key + 'static, V: Value + 'static>(
    table: TableDefinition<'_, K, V>,
    from: &ReadTransaction,
    to: &WriteTransaction,
) -> Result<(), redb::Error> {
    let from = match from.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        opened => opened?,
    };
    let mut to = to.open_table(table)?;
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, backends::InMemoryBackend};

    use super::*;

    const NAMES: TableDefinition<u64, &str> = TableDefinition::new("names");
    const NONE: TableDefinition<u64, u64> = TableDefinition::new("none");

    #[test]
    fn a_table_is_copied_as_it_is_and_one_that_is_not_there_is_not_made() {
        let database = || Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let (old, new) = (database(), database());
        let write = old.begin_write().unwrap();
        {
            let mut names = write.open_table(NAMES).unwrap();
            for id in 0..1000 {
                names.insert(id, format!("name {id}").as_str()).unwrap();
            }
            names.remove(7).unwrap();
        }
        write.commit().unwrap();
        let (from, to) = (old.begin_read().unwrap(), new.begin_write().unwrap());
        copy_table(NAMES, &from, &to).unwrap();
        copy_table(NONE, &from, &to).unwrap();
        to.commit().unwrap();
        let read = new.begin_read().unwrap();
        let names = read.open_table(NAMES).unwrap();
        assert_eq!((names.len().unwrap(), names.get(7).unwrap().is_none()), (999, true));
        assert!(
            names.iter().unwrap().map(Result::unwrap).all(|(id, name)| name.value() == format!("name {}", id.value()))
        );
        assert!(matches!(read.open_table(NONE), Err(TableError::TableDoesNotExist(_))));
    }
}
