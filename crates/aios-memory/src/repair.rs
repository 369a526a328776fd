//! Saving what can be read of a damaged memory into a new file.
//!
//! Rows carry their own length and checksum, so what is saved is what was written. First the tables are read, from both
//! ends as far as they go; what lies behind pages that make no sense is looked for in the bytes of the file, where older
//! versions of rows may be found, too: of each item the newest counts, and of events the newest that the ring holds. Items
//! that were erased are not in the bytes ([`erase`](crate::Store::erase) writes the file anew); those that retention
//! dropped since the last rewriting may come back, and leave again when they are looked at.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use aios_tables::{Medium as _, OnDisk, folder};
use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use crate::{
    error::StoreError,
    item::{Item, Metric},
    kind::Tier,
    limits::RING,
    row,
    store::{Restored, restore},
    tables::{self, METRICS},
};

/// What [`repair`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Items that are in the new file.
    pub items: u64,
    /// Metrics that are in the new file.
    pub metrics: u64,
    /// Items of these that were found only in the bytes, and not in the tables.
    pub carved: u64,
    /// Rows of the tables that are not what was written.
    pub lost: u64,
    /// Where the old file is now.
    pub kept: PathBuf,
}

/// What was found of a memory.
#[derive(Default)]
struct Salvage {
    items: BTreeMap<u64, Item>,
    metrics: Vec<Metric>,
    lost: u64,
    /// Whether a table could not be read to its end.
    is_partial: bool,
}

/// Puts a new file with all that can be read in the place of the memory at `path`, and keeps the old one beside it.
///
/// Nobody else may have the memory open: the service has to be stopped before. It needs as much room again as the file has.
/// The new file has no index yet; the service builds it when it opens the file.
pub fn repair(path: &Path) -> Result<Repaired, StoreError> {
    let place = path.display().to_string();
    let storage = |error: std::io::Error| StoreError::storage(&place, error);
    let bytes = fs::read(path).map_err(storage)?;
    let copy = beside(path, "reading");
    let salvage = read_copy(path, &copy, &place);
    let _ = fs::remove_file(&copy);
    let mut salvage = salvage?;
    let carved = if salvage.is_partial || salvage.lost > 0 { carve(&bytes, &mut salvage) } else { 0 };
    trim_ring(&mut salvage.items);
    let draft = beside(path, "repaired");
    let _ = fs::remove_file(&draft);
    write(&draft, &salvage)?;
    // Who repairs may be root, and who serves is another user.
    let owner = fs::metadata(path).map_err(storage)?;
    std::os::unix::fs::chown(&draft, Some(owner.uid()), Some(owner.gid())).map_err(storage)?;
    let kept = free_name(path);
    fs::rename(path, &kept).map_err(storage)?;
    fs::rename(&draft, path).map_err(storage)?;
    fs::File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(storage)?;
    let (items, metrics) = (salvage.items.len() as u64, salvage.metrics.len() as u64);
    Ok(Repaired { items, metrics, carved, lost: salvage.lost, kept })
}

/// Reads the tables of a copy, because opening a database may change it.
fn read_copy(path: &Path, copy: &Path, place: &str) -> Result<Salvage, StoreError> {
    // Whoever has the memory open holds a lock on the file. Opening it for reading alone changes nothing.
    let open = || Database::builder().open_read_only(path).err();
    if let Ok(Some(redb::DatabaseError::DatabaseAlreadyOpen)) = catch_unwind(open) {
        return Err(StoreError::storage(place, redb::Error::DatabaseAlreadyOpen));
    }
    fs::copy(path, copy).map_err(|error| StoreError::storage(place, error))?;
    let read = || -> Result<Salvage, redb::Error> {
        let database = Database::builder().open(copy)?;
        Ok(read_tables(&database.begin_read()?))
    };
    // Bytes that are no page of the database may make it panic.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(salvage)) => Ok(salvage),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the tables can't be read");
            Ok(Salvage { is_partial: true, ..Salvage::default() })
        }
        Err(_) => Ok(Salvage { is_partial: true, ..Salvage::default() }),
    }
}

fn read_tables(transaction: &ReadTransaction) -> Salvage {
    let mut salvage = Salvage::default();
    for tier in Tier::ALL {
        for backwards in [false, true] {
            let work = AssertUnwindSafe(|| read_tier(transaction, tier, backwards, &mut salvage));
            let is_whole = matches!(catch_unwind(work), Ok(Ok(())));
            if is_whole {
                break;
            }
            salvage.is_partial = true;
        }
    }
    let work = AssertUnwindSafe(|| read_metrics(transaction, &mut salvage));
    if !matches!(catch_unwind(work), Ok(Ok(()))) {
        salvage.is_partial = true;
    }
    salvage
}

fn read_tier(
    transaction: &ReadTransaction,
    tier: Tier,
    backwards: bool,
    salvage: &mut Salvage,
) -> Result<(), redb::Error> {
    let table = transaction.open_table(tables::of(tier))?;
    let mut rows = table.iter()?;
    while let Some(stored) = if backwards { rows.next_back() } else { rows.next() } {
        match row::decode(stored?.1.value()) {
            Some(item) => {
                salvage.keep(item);
            }
            None => salvage.lost += 1,
        }
    }
    Ok(())
}

fn read_metrics(transaction: &ReadTransaction, salvage: &mut Salvage) -> Result<(), redb::Error> {
    for stored in transaction.open_table(METRICS)?.iter()? {
        let stored = stored?.1;
        // Before schema 3 they were JSON alone.
        let metric = row::decode_metric(stored.value()).or_else(|| serde_json::from_slice(stored.value()).ok());
        match metric {
            Some(metric) => salvage.metrics.push(metric),
            None => salvage.lost += 1,
        }
    }
    Ok(())
}

impl Salvage {
    /// Keeps an item, or what is newer of it.
    fn keep(&mut self, item: Item) -> bool {
        let known = self.items.get(&item.id).map(|known| (known.updated, known.tier));
        let is_newer = known.is_none_or(|known| known < (item.updated, item.tier));
        if is_newer {
            self.items.insert(item.id, item);
        }
        known.is_none()
    }
}

/// Looks for rows in the bytes of the file. Returns how many items were known from nowhere else.
fn carve(bytes: &[u8], salvage: &mut Salvage) -> u64 {
    let (mut at, mut found) = (0, 0);
    while let Some(next) = bytes[at..].windows(row::MAGIC.len()).position(|window| window == row::MAGIC) {
        at += next;
        match row::carve(&bytes[at..]) {
            Some((item, length)) => {
                found += u64::from(salvage.keep(item));
                at += length;
            }
            None => at += 1,
        }
    }
    found
}

/// Leaves the newest events, as many as the ring holds.
fn trim_ring(items: &mut BTreeMap<u64, Item>) {
    let events: Vec<u64> = items.values().filter(|item| item.tier == Tier::Operational).map(|item| item.id).collect();
    let surplus = events.len().saturating_sub(RING as usize);
    for id in &events[..surplus] {
        items.remove(id);
    }
}

/// Writes a new memory with what was saved.
fn write(draft: &Path, salvage: &Salvage) -> Result<(), StoreError> {
    let restored = Restored { items: salvage.items.values().collect(), metrics: &salvage.metrics };
    let place = draft.display().to_string();
    let medium = Arc::new(OnDisk::new(draft));
    let fill = |database: &Database| restore(database, &restored, &place);
    let builder = redb::Builder::new();
    let database = medium.open(&builder, &fill).map_err(|error| StoreError::storage(&place, error))?;
    database.close().map_err(|error| StoreError::storage(&place, error))
}

/// A name of this program beside the file.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    folder(path).join(name)
}

/// A name for the damaged file that no other has.
fn free_name(path: &Path) -> PathBuf {
    let names = (1..).map(|number| beside(path, &format!("damaged-{number}")));
    names.into_iter().find(|name| !name.exists()).expect("invariant: some number is free")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::OnceLock;

    use aios_policy::Origin;
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        hybrid::HybridIndex,
        index::Query,
        item::{Body, Content, Event, Goal, Knowledge, Pattern, Provenance, Step},
        store::{Embedded, GoalUpdate, Options, State, Store, Write},
    };

    fn options() -> Options {
        let index = Arc::new(HybridIndex::with_graph_from("test", 12));
        Options { index: Some(index), clock: Arc::new(|| 1_795_300_000_000), ..Options::default() }
    }

    fn body(n: u64) -> Body {
        match n % 4 {
            0 => Body::Event(Event { category: "c".into(), message: format!("event {n}"), ..Event::default() }),
            1 => Body::Goal(Goal { text: format!("goal {n}"), ..Goal::default() }),
            2 => {
                let steps = vec![Step { tool: "fs.read".into(), arguments: "{}".into() }];
                Body::Pattern(Pattern { goal: format!("pattern {n}"), steps, ..Pattern::default() })
            }
            _ => {
                let text = format!("text {n} {}", "words of it ".repeat(n as usize * 3));
                Body::Knowledge(Knowledge { title: "k".into(), text, tags: Vec::new() })
            }
        }
    }

    /// A memory with rows in every tier, vectors and a graph.
    struct Whole {
        bytes: Vec<u8>,
        /// All versions of the items; the newest of each is what the memory holds.
        versions: BTreeMap<u64, Vec<Item>>,
        /// Where in the bytes a row of the newest version is, and its length.
        rows: Vec<(u64, usize, usize)>,
    }

    fn whole() -> &'static Whole {
        static WHOLE: OnceLock<Whole> = OnceLock::new();
        WHOLE.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("memory.redb");
            let store = Store::open(&path, options()).unwrap();
            let origins = [Origin::Web, Origin::Model].into();
            let provenance = Provenance { agent: "task".into(), source: "https://example.com".into(), origins };
            let put = |n| store.put(Content { provenance: provenance.clone(), body: body(n) }).unwrap();
            let ids: Vec<u64> = (0..120).map(put).collect();
            let read = |id: u64| store.read(|view| view.item(id)).unwrap().unwrap();
            let mut versions: BTreeMap<u64, Vec<Item>> = ids.iter().map(|id| (*id, vec![read(*id)])).collect();
            for (id, items) in versions.iter_mut().filter(|(_, items)| matches!(items[0].content.body, Body::Goal(_))) {
                let result = Some(format!("result {id}"));
                store.write(Write::UpdateGoal(GoalUpdate { id: *id, result, ..GoalUpdate::default() })).unwrap();
                items.push(read(*id));
            }
            let waiting = store.read(|view| view.unembedded(1000)).unwrap();
            let vector = |item: &Item| {
                let vector = (0..32).map(|place| ((item.id * 31 + place * 17) % 97) as f32 - 48.0).collect();
                Embedded { id: item.id, updated: item.updated, vector }
            };
            store.write(Write::Vectors(waiting.iter().map(vector).collect())).unwrap();
            while store.work_on_index().unwrap() {}
            store.close().unwrap();
            let bytes = fs::read(&path).unwrap();
            let rows = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&row::MAGIC));
            let rows = rows.filter_map(|at| {
                let (item, length) = row::carve(&bytes[at..])?;
                (versions[&item.id].last() == Some(&item)).then_some((item.id, at, length))
            });
            let rows = rows.collect();
            Whole { bytes, versions, rows }
        })
    }

    /// Nothing is there that was never written.
    fn check_items(store: &Store, versions: &BTreeMap<u64, Vec<Item>>) -> Result<(), TestCaseError> {
        for tier in Tier::ALL {
            for item in store.read(|view| view.items(tier)).unwrap_or_default() {
                prop_assert!(versions[&item.id].contains(&item), "{item:?} was never written");
            }
        }
        Ok(())
    }

    /// Opens a damaged file: it is whole as far as anybody sees, or it says what to do and takes nothing.
    fn check_open(path: &Path, versions: &BTreeMap<u64, Vec<Item>>) -> Result<(), TestCaseError> {
        let store = Store::open(path, options());
        prop_assert!(store.is_ok(), "{:?}", store.err());
        let store = store.unwrap();
        let unreadable = store.read(|view| view.verify());
        check_items(&store, versions)?;
        let query = Query { text: "words of text 7", vector: Some(&[1.0; 32]), limit: 50 };
        let found = store.read(|view| view.search(&query, &|_| true));
        for (item, _) in found.unwrap_or_default() {
            prop_assert!(versions[&item.id].contains(&item), "{item:?} was never written");
        }
        let added = store.write(Write::UpdateGoal(GoalUpdate { id: 2, progress: Some(0.5), ..GoalUpdate::default() }));
        match store.state() {
            State::Writable => {
                prop_assert_eq!(unreadable, Ok(0));
                let newest = versions.values().all(|items| {
                    let item = store.read(|view| view.item(items[0].id)).unwrap();
                    items[0].id == 2 || item.as_ref() == items.last()
                });
                prop_assert!(newest && added.is_ok(), "{added:?}");
            }
            State::ReadOnly(error) | State::Unreadable(error) => {
                prop_assert!(error.to_string().contains("run `aios memory repair`"), "{error}");
                let refused = store.put(versions[&1][0].content.clone()).unwrap_err();
                prop_assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn wherever_a_file_is_damaged_nothing_is_read_wrongly_and_repair_keeps_every_row_that_is_whole(
            places in vec((any::<Index>(), 1..6000_usize, any::<u8>()), 1..12),
            cut in proptest::option::weighted(0.2, any::<Index>()),
        ) {
            let Whole { bytes, versions, rows } = whole();
            let mut damaged = bytes.clone();
            for (place, length, mask) in places {
                let at = place.index(damaged.len());
                let end = damaged.len().min(at + length);
                damaged[at..end].iter_mut().for_each(|byte| *byte = if mask < 128 { mask } else { *byte ^ mask });
            }
            if let Some(cut) = cut {
                damaged.truncate(cut.index(damaged.len()));
            }
            let folder = tempfile::tempdir().unwrap();
            let (path, copy) = (folder.path().join("memory.redb"), folder.path().join("copy.redb"));
            fs::write(&path, &damaged).unwrap();
            fs::write(&copy, &damaged).unwrap();
            check_open(&copy, versions)?;
            repair(&path).unwrap();
            let store = Store::open(&path, options()).unwrap();
            prop_assert_eq!((store.state(), store.read(|view| view.verify())), (State::Writable, Ok(0)));
            check_items(&store, versions)?;
            for (id, at, length) in rows {
                if damaged.get(*at..at + length) == Some(&bytes[*at..at + length]) {
                    let kept = store.read(|view| view.item(*id)).unwrap();
                    prop_assert_eq!(kept.as_ref(), versions[id].last(), "its row is whole");
                }
            }
            prop_assert!(store.put(versions[&1][0].content.clone()).unwrap() > 0);
        }
    }

    #[test]
    fn an_empty_file_is_no_new_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.redb");
        fs::write(&path, b"").unwrap();
        let store = Store::open(&path, options()).unwrap();
        assert!(matches!(store.state(), State::Unreadable(StoreError::Damaged { .. })), "{:?}", store.state());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        store.close().unwrap();
        assert_eq!(repair(&path).unwrap().items, 0);
        assert_eq!(Store::open(&path, options()).unwrap().state(), State::Writable);
    }

    #[test]
    fn one_wrong_byte_in_a_row_stops_writing_and_repair_loses_that_row_alone() {
        let Whole { bytes, versions, rows } = whole();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.redb");
        let hurt = 4;
        let mut damaged = bytes.clone();
        rows.iter().filter(|(id, ..)| *id == hurt).for_each(|(_, at, length)| damaged[at + length / 2] ^= 1);
        fs::write(&path, &damaged).unwrap();
        let store = Store::open(&path, options()).unwrap();
        assert_eq!(store.state(), State::Writable, "nobody has looked yet");
        let error = store.read(|view| view.item(hurt)).unwrap_err().to_string();
        assert!(error.contains("nothing more is written there; stop the unit `memory` and run `aios memory repair`"));
        assert!(matches!(store.state(), State::ReadOnly(StoreError::Damaged { .. })));
        let others = || versions.iter().filter(|(id, _)| **id != hurt);
        for (id, items) in others() {
            assert_eq!(store.read(|view| view.item(*id)).unwrap().as_ref(), items.last(), "reads go on");
        }
        store.close().unwrap();
        let repaired = repair(&path).unwrap();
        assert_eq!((repaired.items, repaired.lost), (versions.len() as u64 - 1, 1));
        let store = Store::open(&path, options()).unwrap();
        assert_eq!((store.state(), store.read(|view| view.item(hurt)).unwrap()), (State::Writable, None));
        for (id, items) in others() {
            assert_eq!(store.read(|view| view.item(*id)).unwrap().as_ref(), items.last());
        }
    }

    #[test]
    fn one_wrong_digit_of_a_metric_is_damage_and_no_other_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.redb");
        let store = Store::open(&path, options()).unwrap();
        let provenance = Provenance { agent: "task".into(), source: String::new(), origins: [Origin::Log].into() };
        for (name, value) in [("load", 40.25), ("temperature", 61.5)] {
            let metric =
                Metric { name: name.into(), value, unit: String::new(), updated: 0, provenance: provenance.clone() };
            store.write(Write::Metric(metric)).unwrap();
        }
        store.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"40.25")).collect();
        places.iter().for_each(|at| bytes[*at] = b'9');
        fs::write(&path, &bytes).unwrap();
        let store = Store::open(&path, options()).unwrap();
        let error = store.read(|view| view.metric("load")).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(store.read(|view| view.metric("temperature")).unwrap().value, 61.5);
        store.close().unwrap();
        let repaired = repair(&path).unwrap();
        assert_eq!((repaired.metrics, repaired.lost), (1, 1));
        let store = Store::open(&path, options()).unwrap();
        assert_eq!(store.read(|view| view.metric("temperature")).unwrap().value, 61.5);
    }
}
