//! A disk that fails as disks do: the power goes at any moment, what was not synced is there in part, a write or a sync
//! fails, there is no room.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use aios_memory::{Fill, Medium};
use redb::{BackendError, Builder, Database, ReadOnlyDatabase, StorageBackend};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    /// Which file has the memory's name.
    named: Option<usize>,
    /// Number of writes, changes of the length, syncs and renamings so far.
    operations: u64,
    plan: Plan,
    cut: bool,
    /// Bytes that all files together may have.
    room: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    /// What survives a power cut.
    durable: Vec<u8>,
    /// What programs see.
    cache: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
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
    None,
    All,
    /// Each sector or not, by chance.
    Some(u64),
}

/// A file of the disk, as the database sees it.
#[derive(Clone, Debug)]
struct Handle {
    disk: Disk,
    file: usize,
}

impl Disk {
    pub fn new(plan: Plan) -> Disk {
        let disk = Disk::default();
        disk.state().plan = plan;
        disk
    }

    /// A disk whose memory has these bytes.
    pub fn holding(bytes: Vec<u8>) -> Disk {
        let contents = Contents { durable: bytes.clone(), cache: bytes, pending: Vec::new() };
        let state = State { files: vec![contents], named: Some(0), ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// The disk after the power came back: what was cached is gone, and nothing goes wrong any more.
    pub fn after_power_cut(&self) -> Disk {
        let state = self.state();
        match state.named {
            Some(file) => Disk::holding(state.files[file].durable.clone()),
            None => Disk::new(Plan::Nothing),
        }
    }

    /// What is in the memory's file.
    pub fn bytes(&self) -> Vec<u8> {
        let state = self.state();
        state.named.map_or_else(Vec::new, |file| state.files[file].cache.clone())
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Leaves room for so many bytes more than there are, or for any number.
    pub fn set_room(&self, more: Option<u64>) {
        let mut state = self.state();
        state.room = more.map(|more| state.used() + more);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn named(&self) -> Option<Handle> {
        let file = self.state().named;
        file.map(|file| Handle { disk: self.clone(), file })
    }

    /// Makes a file, fills it, and gives it the memory's name.
    fn begin(&self, builder: &Builder, fill: Fill<'_>) -> Result<Handle, redb::Error> {
        let file = {
            let mut state = self.state();
            state.files.push(Contents::default());
            state.files.len() - 1
        };
        let handle = Handle { disk: self.clone(), file };
        let made = || -> Result<(), redb::Error> {
            let database = builder.create_with_backend(handle.clone())?;
            fill(&database)?;
            Ok(database.close()?)
        };
        if let Err(error) = made() {
            self.state().files[file] = Contents::default();
            return Err(error);
        }
        self.state().rename(file)?;
        Ok(handle)
    }
}

impl Medium for Disk {
    fn open(&self, builder: &Builder, fill: Fill<'_>) -> Result<Database, redb::Error> {
        let handle = match self.named() {
            Some(handle) => handle,
            None => self.begin(builder, fill)?,
        };
        Ok(builder.create_with_backend(handle)?)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, redb::Error> {
        let handle = self.named().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(builder.open_read_only_with_backend(handle)?)
    }

    fn replace(&self, builder: &Builder, fill: Fill<'_>) -> Result<(), redb::Error> {
        let old = self.named().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.begin(builder, fill)?;
        let length = old.len()?;
        Ok(old.write(0, &vec![0; length as usize])?)
    }

    fn forget(&self) {
        for file in &mut self.state().files {
            // Unsynced changes that no sync has failed on stay in the cache.
            let mut cache = file.durable.clone();
            file.pending.iter().for_each(|change| change.apply(&mut cache, &mut |_| true));
            file.cache = cache;
        }
    }

    fn length(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn name(&self) -> String {
        "disk".into()
    }
}

impl Change {
    /// Does it to `bytes`, sector by sector as `survives` says.
    fn apply(&self, bytes: &mut Vec<u8>, survives: &mut dyn FnMut(usize) -> bool) {
        match self {
            Change::Length(length) => {
                if survives(0) {
                    bytes.resize(*length, 0);
                }
            }
            Change::Write(offset, data) => {
                let mut at = 0;
                while at < data.len() {
                    let next = data.len().min(at + SECTOR - (offset + at) % SECTOR);
                    if survives((offset + at) / SECTOR) {
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
    fn used(&self) -> u64 {
        self.files.iter().map(|file| file.cache.len() as u64).sum()
    }

    /// Counts an operation, and makes it fail where that is planned. `change` is what it does; a sync has none.
    fn operation(&mut self, file: usize, change: Option<Change>) -> io::Result<()> {
        if self.cut {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        match self.plan {
            Plan::Cut(number, survivors) if number == self.operations => {
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
            Some(change) => {
                self.check_room(file, &change)?;
                let contents = &mut self.files[file];
                change.apply(&mut contents.cache, &mut |_| true);
                contents.pending.push(change);
            }
            None => {
                let contents = &mut self.files[file];
                let pending = std::mem::take(&mut contents.pending);
                pending.iter().for_each(|change| change.apply(&mut contents.durable, &mut |_| true));
            }
        }
        Ok(())
    }

    /// Gives a file the memory's name. File systems keep that in a journal: it is done or not.
    fn rename(&mut self, file: usize) -> io::Result<()> {
        if self.cut {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        match self.plan {
            Plan::Cut(number, survivors) if number == self.operations => {
                if survivors != Survivors::None {
                    self.named = Some(file);
                }
                self.cut_power(survivors);
                Err(io::Error::other("the power went"))
            }
            Plan::Fail(number) if number == self.operations => Err(io::Error::other("the disk failed")),
            _ => {
                self.named = Some(file);
                Ok(())
            }
        }
    }

    fn cut_power(&mut self, survivors: Survivors) {
        self.cut = true;
        let mut chance = if let Survivors::Some(seed) = survivors { seed } else { 0 };
        for file in &mut self.files {
            for change in std::mem::take(&mut file.pending) {
                change.apply(&mut file.durable, &mut |_| match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
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

    fn check_room(&self, file: usize, change: &Change) -> io::Result<()> {
        let Some(room) = self.room else { return Ok(()) };
        let length = self.files[file].cache.len();
        let grown = match change {
            Change::Length(length) => *length,
            Change::Write(offset, data) => length.max(offset + data.len()),
        };
        let more = grown.saturating_sub(length) as u64;
        if more > 0 && self.used() + more > room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let offset = offset as usize;
        let bytes = state.files[self.file].cache.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.state().operation(self.file, Some(Change::Length(len as usize)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().operation(self.file, None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.state().operation(self.file, Some(Change::Write(offset as usize, data.to_vec())))
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
