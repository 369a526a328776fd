//! For tests: a disk for redb that fails as disks do. The power goes at any moment, what was not synced is there in part,
//! a write or a sync fails, there is no room.
//!
//! A crash test lives a life on a disk without a fault, counts its operations, and lives it again with the power going at
//! each of them. A disk is a [`Medium`](aios_tables::Medium): it has at most one file with the database's name. A new one
//! is written beside it, [`Disk::draft`], which shares the disk's operations, power and room, and [`Disk::give_name`] puts
//! it in the old one's place.

#![forbid(unsafe_code)]

mod medium;

use std::{
    collections::BTreeSet,
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;
/// Unit in which room is given out, in bytes.
const BLOCK: u64 = 4096;

/// A file of a disk, the only one unless there are drafts beside it. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    disk: Arc<Mutex<State>>,
    /// Which of the disk's files it is.
    file: usize,
}

#[derive(Debug)]
struct State {
    /// At least one.
    files: Vec<File>,
    /// Which file has the name that is looked for: before there is one, what is in the files are drafts.
    named: Option<usize>,
    /// Number of writes, changes of the length, syncs and names so far.
    operations: u64,
    plan: Plan,
    cut: bool,
    /// By file and number.
    blocks: BTreeSet<(usize, u64)>,
    room: Room,
}

#[derive(Debug, Default)]
struct File {
    /// What survives a power cut.
    durable: Vec<u8>,
    /// What programs see.
    cache: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    /// The draft gets its name. File systems keep that in a journal: it is there or not, and later changes are after it.
    Name,
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// Nothing does.
    #[default]
    Nothing,
    /// The power goes while the operation of this number is done.
    Cut(u64, Survivors),
    /// The operation of this number fails. A sync that fails loses what it should have written, and the system takes it
    /// for written (as Linux does).
    Fail(u64),
}

/// What of the unsynced changes is on the disk after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Each sector or not, by chance, which begins with this.
    Some(u64),
    /// What was written last, and nothing before it.
    Last,
}

/// How much the disk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// All that comes.
    #[default]
    Endless,
    /// So many blocks that were ever written.
    Blocks(usize),
    /// Files up to this length.
    Length(u64),
}

impl Default for State {
    fn default() -> State {
        State {
            files: vec![File::default()],
            named: None,
            operations: 0,
            plan: Plan::Nothing,
            cut: false,
            blocks: BTreeSet::new(),
            room: Room::Endless,
        }
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(plan: Plan) -> Disk {
        let disk = Disk::default();
        disk.state().plan = plan;
        disk
    }

    /// A disk with an empty database on it. Operations count from here.
    pub fn with_database(plan: Plan) -> Result<Disk, DatabaseError> {
        let disk = Disk::default();
        drop(Database::builder().create_with_backend(disk.clone())?);
        disk.set_plan(plan);
        Ok(disk)
    }

    /// The disk after the power came back: what was cached is gone, as are drafts beside the file that has the name, and
    /// nothing goes wrong any more.
    pub fn after_power_cut(&self) -> Disk {
        let state = self.state();
        let durable = state.files[state.named.unwrap_or(self.file)].durable.clone();
        let file = File { cache: durable.clone(), durable, pending: Vec::new() };
        let after = State { files: vec![file], named: state.named.map(|_| 0), ..State::default() };
        Disk { disk: Arc::new(Mutex::new(after)), file: 0 }
    }

    /// Number of writes, changes of the length, syncs and names so far, of all files of the disk.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on this goes wrong. Operations count from here.
    pub fn set_plan(&self, plan: Plan) {
        let mut state = self.state();
        state.operations = 0;
        state.plan = plan;
    }

    /// From now on the disk takes so much.
    pub fn set_room(&self, room: Room) {
        self.state().room = room;
    }

    /// Number of blocks that were ever written.
    pub fn blocks(&self) -> usize {
        self.state().blocks.len()
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.state().files[self.file].cache.len() as u64
    }

    /// The file that has the name.
    pub fn named(&self) -> Option<Disk> {
        let file = self.state().named;
        file.map(|file| Disk { disk: self.disk.clone(), file })
    }

    /// A new, empty file beside this one, without a name.
    pub fn draft(&self) -> Disk {
        let mut state = self.state();
        state.files.push(File::default());
        Disk { disk: self.disk.clone(), file: state.files.len() - 1 }
    }

    /// Gives the draft its name, which is one operation. A file that had the name has none any more.
    pub fn give_name(&self) -> io::Result<()> {
        self.state().operation(self.file, Some(Change::Name))
    }

    /// Removes the draft, to begin another.
    pub fn remove_draft(&self) {
        self.state().files[self.file] = File::default();
    }

    /// Drops from the cache what a failed sync did not write, as a system does under pressure. Unsynced changes that no
    /// sync has failed on stay.
    pub fn forget(&self) {
        for file in &mut self.state().files {
            let mut cache = file.durable.clone();
            file.pending.iter().for_each(|change| change.apply(&mut cache, &mut || true));
            file.cache = cache;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    /// Does it to `bytes`, sector by sector as `survives` says.
    fn apply(&self, bytes: &mut Vec<u8>, survives: &mut dyn FnMut() -> bool) {
        match self {
            Change::Name => {}
            Change::Length(length) => {
                if survives() {
                    bytes.resize(*length, 0);
                }
            }
            Change::Write(offset, data) => {
                let mut at = 0;
                while at < data.len() {
                    let next = data.len().min(at + SECTOR - (offset + at) % SECTOR);
                    if survives() {
                        let end = offset + next;
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[offset + at..end].copy_from_slice(&data[at..next]);
                    }
                    at = next;
                }
            }
        }
    }
}

impl State {
    /// Counts an operation on a file, and makes it fail where that is planned. `change` is what it does; a sync has none.
    fn operation(&mut self, file: usize, change: Option<Change>) -> io::Result<()> {
        if self.cut {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        match self.plan {
            Plan::Cut(number, survivors) if number == self.operations => {
                if matches!(change, Some(Change::Name)) && survivors != Survivors::None {
                    self.named = Some(file);
                }
                self.files[file].pending.extend(change);
                self.cut_power(survivors);
                return Err(io::Error::other("the power went"));
            }
            Plan::Fail(number) if number == self.operations => {
                if change.is_none() {
                    self.files[file].pending.clear();
                }
                return Err(io::Error::other("the disk failed"));
            }
            _ => {}
        }
        match change {
            Some(Change::Name) => self.named = Some(file),
            Some(change) => {
                self.check_room(file, &change)?;
                let file = &mut self.files[file];
                change.apply(&mut file.cache, &mut || true);
                file.pending.push(change);
            }
            None => {
                let file = &mut self.files[file];
                let pending = std::mem::take(&mut file.pending);
                pending.iter().for_each(|change| change.apply(&mut file.durable, &mut || true));
            }
        }
        Ok(())
    }

    fn cut_power(&mut self, survivors: Survivors) {
        self.cut = true;
        let mut chance = if let Survivors::Some(seed) = survivors { seed } else { 0 };
        for file in &mut self.files {
            let pending = std::mem::take(&mut file.pending);
            let last = pending.len().saturating_sub(1);
            for (index, change) in pending.iter().enumerate() {
                change.apply(&mut file.durable, &mut || match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Last => index == last,
                    Survivors::Some(_) => {
                        // SplitMix64.
                        chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let mut mixed = chance;
                        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                        (mixed ^ (mixed >> 31)) & 1 == 0
                    }
                });
            }
        }
    }

    fn check_room(&mut self, file: usize, change: &Change) -> io::Result<()> {
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        match (self.room, change) {
            (Room::Length(most), Change::Length(length)) if *length as u64 > most => return full(),
            (room, Change::Write(offset, data)) => {
                let first = *offset as u64 / BLOCK;
                let last = (*offset + data.len()).saturating_sub(1) as u64 / BLOCK;
                let new = (first..=last).filter(|block| !self.blocks.contains(&(file, *block))).count();
                if matches!(room, Room::Blocks(most) if self.blocks.len() + new > most) {
                    return full();
                }
                self.blocks.extend((first..=last).map(|block| (file, block)));
            }
            _ => {}
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = offset as usize;
        let bytes = state.files[self.file].cache.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().operation(self.file, Some(Change::Length(len as usize)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().operation(self.file, None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().operation(self.file, Some(Change::Write(offset as usize, data.to_vec())))
    }

    // One process has this disk: no lock is ever held elsewhere.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
