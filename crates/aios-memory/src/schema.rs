//! What version of the tables a file has, and how it gets the newest.
//!
//! A new file goes through the same steps as an old one, from nothing on.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableError, WriteTransaction};

use crate::{
    error::StoreError,
    index::{Change, Index, SharedIndex},
    item::Metric,
    kind::{Indexing, Tier},
    row,
    tables::{self, ABOUT, SCHEMA, TOTALS, Tables, UNEMBEDDED, total_key},
};

/// Brings a file from one version to the next, in the transaction that says so.
type Step = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// By the version that they begin at.
const STEPS: [Step; 3] = [begin, count_and_queue, seal_metrics];

/// The version that this program writes.
pub(crate) const SCHEMA_NOW: u32 = STEPS.len() as u32;

/// Name of the mark in `ABOUT` that says which version of the index has all items.
const INDEXED: &str = "indexed";

/// Why a file can't be used, before it is known where it lies.
#[derive(Debug)]
pub(crate) enum SchemaError {
    Newer(u64),
    Foreign(String),
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for SchemaError {
    fn from(error: E) -> SchemaError {
        SchemaError::Redb(error.into())
    }
}

impl SchemaError {
    /// The error of the memory at `place`.
    pub(crate) fn at(self, place: &str) -> StoreError {
        let place = place.to_owned();
        match self {
            SchemaError::Newer(found) => {
                let found = u32::try_from(found).unwrap_or(u32::MAX);
                StoreError::Newer { place, found, known: SCHEMA_NOW }
            }
            SchemaError::Foreign(reason) => StoreError::Foreign { place, reason },
            SchemaError::Redb(error) => StoreError::storage(&place, error),
        }
    }
}

/// Version of the file that a transaction reads; 0 where it has no tables at all.
pub(crate) fn found(transaction: &redb::ReadTransaction) -> Result<u64, SchemaError> {
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => return Ok(0),
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(SchemaError::Foreign("its tables are another program's".into()));
        }
        Err(error) => return Err(error.into()),
    };
    let found = about.get(SCHEMA)?.map(|found| found.value());
    match found {
        None => Err(SchemaError::Foreign("it does not say its schema".into())),
        Some(found) if found > u64::from(SCHEMA_NOW) => Err(SchemaError::Newer(found)),
        Some(found) => Ok(found),
    }
}

/// Brings the database to the version of this program, and the index to all items. A power cut leaves what was before.
pub(crate) fn prepare(database: &Database, index: &SharedIndex) -> Result<(), SchemaError> {
    migrate(database, SCHEMA_NOW)?;
    let Some(index) = index else { return Ok(()) };
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    index.begin(&transaction)?;
    let version = index.version();
    let indexed = transaction.open_table(ABOUT)?.get(INDEXED)?.map(|indexed| indexed.value());
    if indexed != Some(version) {
        rebuild(&transaction, &**index)?;
        transaction.open_table(ABOUT)?.insert(INDEXED, version)?;
    }
    Ok(transaction.commit()?)
}

/// Runs the steps up to version `to`.
fn migrate(database: &Database, to: u32) -> Result<(), SchemaError> {
    let from = found(&database.begin_read()?)?;
    if from >= u64::from(to) {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let (from, steps) = (usize::try_from(from).unwrap_or(usize::MAX), to as usize);
    for step in &STEPS[from..steps] {
        step(&transaction)?;
    }
    transaction.open_table(ABOUT)?.insert(SCHEMA, u64::from(to))?;
    transaction.commit()?;
    if from > 0 {
        tracing::info!(from, to, "schema migrated");
    }
    Ok(())
}

/// Version 1: the tables.
fn begin(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for tier in Tier::ALL {
        transaction.open_table(tables::of(tier))?;
    }
    transaction.open_table(tables::METRICS)?;
    transaction.open_table(tables::CHILDREN)?;
    transaction.open_table(tables::OPEN_GOALS)?;
    transaction.open_table(tables::STATES)?;
    transaction.open_table(tables::PATTERNS)?;
    transaction.open_table(tables::COUNTERS)?;
    Ok(())
}

/// Version 2: how much there is of each kind, and which items wait for a vector.
fn count_and_queue(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut totals = transaction.open_table(TOTALS)?;
    let mut unembedded = transaction.open_table(UNEMBEDDED)?;
    for tier in Tier::ALL {
        for stored in transaction.open_table(tables::of(tier))?.iter()? {
            let (id, stored) = stored?;
            let head = row::head(stored.value()).ok_or_else(|| damaged(id.value()))?;
            let key = total_key(tier, head.kind);
            let (items, bytes) = totals.get(key)?.map_or((0, 0), |total| total.value());
            totals.insert(key, (items + 1, bytes + stored.value().len() as u64))?;
            if head.kind.indexing() == Indexing::WordsAndMeaning {
                unembedded.insert(id.value(), ())?;
            }
        }
    }
    Ok(())
}

/// Version 3: metrics have checksums.
fn seal_metrics(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut metrics = transaction.open_table(tables::METRICS)?;
    let stored = metrics.iter()?.map(|stored| {
        let (name, json) = stored?;
        Ok((name.value().to_owned(), json.value().to_vec()))
    });
    let stored: Vec<(String, Vec<u8>)> = stored.collect::<Result<_, redb::StorageError>>()?;
    for (name, json) in stored {
        if serde_json::from_slice::<Metric>(&json).is_err() {
            return Err(redb::Error::Corrupted(format!("metric {name:?} is not what was written")));
        }
        metrics.insert(&*name, &row::seal_metric(&json)[..])?;
    }
    Ok(())
}

/// Gives all items to an index that has none of them, or those of another version.
pub(crate) fn rebuild(transaction: &WriteTransaction, index: &dyn Index) -> Result<(), redb::Error> {
    index.clear(transaction)?;
    let mut tables = Tables::open(transaction)?;
    let Tables { operational, working, long_term, unembedded, .. } = &mut tables;
    for table in [operational, working, long_term] {
        for stored in table.iter()? {
            let (id, stored) = stored?;
            let item = row::decode(stored.value()).ok_or_else(|| damaged(id.value()))?;
            if item.kind().indexing() != Indexing::None {
                let text = item.content.body.text();
                index.apply(transaction, &[Change::Words { id: item.id, text, before: None }])?;
            }
            if item.kind().indexing() == Indexing::WordsAndMeaning {
                unembedded.insert(item.id, ())?;
            }
        }
    }
    Ok(())
}

/// A row that is not what was written.
pub(crate) fn damaged(id: u64) -> redb::Error {
    redb::Error::Corrupted(format!("item {id} is not what was written"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use aios_fault_disk::{Disk, Plan, Survivors};
    use aios_policy::Origin;
    use redb::{ReadableTableMetadata as _, backends::InMemoryBackend};

    use super::*;
    use crate::{
        item::{Body, Content, Event, Goal, Item, Provenance},
        kind::Kind,
    };

    fn item(id: u64, tier: Tier, body: Body) -> Item {
        let provenance = Provenance { agent: "task".into(), source: String::new(), origins: [Origin::Model].into() };
        Item { id, tier, created: 1, updated: 2, content: Content { provenance, body } }
    }

    fn metric(name: &str) -> Metric {
        let provenance = Provenance { agent: "task".into(), source: String::new(), origins: [Origin::Log].into() };
        Metric { name: name.into(), value: 0.5, unit: String::new(), updated: 3, provenance }
    }

    fn put_metric(database: &Database, json: &[u8]) {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(tables::METRICS).unwrap().insert("load", json).unwrap();
        transaction.commit().unwrap();
    }

    fn version_1(items: &[Item]) -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        fill_version_1(&database, items);
        database
    }

    fn fill_version_1(database: &Database, items: &[Item]) {
        migrate(database, 1).unwrap();
        let transaction = database.begin_write().unwrap();
        for item in items {
            let row = row::encode(item).unwrap();
            transaction.open_table(tables::of(item.tier)).unwrap().insert(item.id, &row[..]).unwrap();
        }
        transaction.commit().unwrap();
    }

    #[test]
    fn a_file_of_version_1_is_brought_to_the_newest_with_all_it_holds() {
        let goal = |text: &str| Body::Goal(Goal { text: text.into(), ..Goal::default() });
        let event = Body::Event(Event { category: "disk".into(), message: "full".into(), ..Event::default() });
        let items = [
            item(1, Tier::Working, goal("keep the disk clean")),
            item(2, Tier::LongTerm, goal("an old one")),
            item(3, Tier::Operational, event),
        ];
        let database = version_1(&items);
        let metric = metric("load");
        put_metric(&database, &serde_json::to_vec(&metric).unwrap());
        assert_eq!(found(&database.begin_read().unwrap()).unwrap(), 1);
        prepare(&database, &None).unwrap();
        let read = database.begin_read().unwrap();
        assert_eq!(found(&read).unwrap(), u64::from(SCHEMA_NOW));
        let stored = read.open_table(tables::METRICS).unwrap().get("load").unwrap().unwrap();
        assert_eq!(row::decode_metric(stored.value()), Some(metric));
        drop(stored);
        for item in &items {
            let stored = read.open_table(tables::of(item.tier)).unwrap().get(item.id).unwrap().unwrap();
            assert_eq!(row::decode(stored.value()).as_ref(), Some(item));
            let total = read.open_table(TOTALS).unwrap().get(total_key(item.tier, item.kind())).unwrap().unwrap();
            assert_eq!(total.value(), (1, stored.value().len() as u64));
        }
        let unembedded = read.open_table(UNEMBEDDED).unwrap();
        assert_eq!(unembedded.len().unwrap(), 2, "events get no vector");
        assert!(unembedded.get(3).unwrap().is_none());
        drop((unembedded, read));
        prepare(&database, &None).unwrap();
        let totals = database.begin_read().unwrap().open_table(TOTALS).unwrap();
        assert_eq!(totals.get(total_key(Tier::Working, Kind::Goal)).unwrap().unwrap().value().0, 1, "once is enough");
    }

    #[test]
    fn wherever_the_power_goes_in_a_migration_the_file_is_of_one_version_or_the_other_and_whole() {
        let items: Vec<Item> = (1..=40)
            .map(|id| item(id, Tier::Working, Body::Goal(Goal { text: format!("goal {id}"), ..Goal::default() })))
            .collect();
        let begun = Disk::default();
        fill_version_1(&Database::builder().create_with_backend(begun.clone()).unwrap(), &items);
        let migrate = |plan| {
            let disk = begun.after_power_cut();
            disk.set_plan(plan);
            let database = Database::builder().create_with_backend(disk.clone());
            let done = database.map_err(|_| ()).and_then(|database| prepare(&database, &None).map_err(|_| ()));
            (disk, done.is_ok())
        };
        let (whole, done) = migrate(Plan::Nothing);
        assert!(done);
        for number in 1..=whole.operations() {
            for survivors in [Survivors::None, Survivors::All, Survivors::Some(number)] {
                let (disk, done) = migrate(Plan::Cut(number, survivors));
                let database = Database::builder().create_with_backend(disk.after_power_cut()).unwrap();
                let version = found(&database.begin_read().unwrap()).unwrap();
                assert!(
                    version == u64::from(SCHEMA_NOW) || (version == 1 && !done),
                    "operation {number}, {survivors:?}: {version}"
                );
                prepare(&database, &None).unwrap();
                let read = database.begin_read().unwrap();
                let (working, totals) = (read.open_table(tables::WORKING).unwrap(), read.open_table(TOTALS).unwrap());
                for item in &items {
                    assert_eq!(row::decode(working.get(item.id).unwrap().unwrap().value()).as_ref(), Some(item));
                }
                let total = totals.get(total_key(Tier::Working, Kind::Goal)).unwrap().unwrap();
                assert_eq!((total.value().0, working.len().unwrap()), (40, 40), "operation {number}, {survivors:?}");
            }
        }
    }

    #[test]
    fn a_newer_file_is_refused_and_left_as_it_is() {
        let database = version_1(&[]);
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ABOUT).unwrap().insert(SCHEMA, 7).unwrap();
        transaction.commit().unwrap();
        let error = prepare(&database, &None).unwrap_err().at("m.redb");
        assert_eq!(error, StoreError::Newer { place: "m.redb".into(), found: 7, known: SCHEMA_NOW });
        assert!(error.to_string().contains("has schema 7, and this version knows schemas up to 3: update aiOS"));
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
        transaction.commit().unwrap();
        let error = prepare(&database, &None).unwrap_err().at("m.redb");
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_damaged_row_stops_the_migration_and_nothing_is_changed() {
        let database = version_1(&[item(1, Tier::Working, Body::Goal(Goal::default()))]);
        let transaction = database.begin_write().unwrap();
        transaction.open_table(tables::WORKING).unwrap().insert(2, &b"no row"[..]).unwrap();
        transaction.commit().unwrap();
        let with_metric = version_1(&[]);
        put_metric(&with_metric, b"{");
        for database in [database, with_metric] {
            let error = prepare(&database, &None).unwrap_err().at("m.redb");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(found(&database.begin_read().unwrap()).unwrap(), 1);
        }
    }
}
