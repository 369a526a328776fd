//! A disk whose power goes while it is written to: what was not synced is there in part.

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::{BackendError, StorageBackend};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What survives a power cut.
    durable: Vec<u8>,
    /// What programs see.
    cache: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Change>,
    /// Number of writes, changes of the length and syncs so far.
    operations: u64,
    /// Number of the operation while which the power goes, and what survives.
    cut: Option<(u64, Survivors)>,
    is_off: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What of the unsynced changes is on the disk after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    None,
    All,
    /// Each sector or not, by chance.
    Some(u64),
    /// What was written last, and nothing before it.
    Last,
}

impl Disk {
    /// A disk with an empty database on it, whose power goes at that operation from now on.
    pub fn new(cut: Option<(u64, Survivors)>) -> Disk {
        let disk = Disk::default();
        drop(redb::Database::builder().create_with_backend(disk.clone()).unwrap());
        disk.state().operations = 0;
        disk.state().cut = cut;
        disk
    }

    /// The disk after the power came back: what was cached is gone, and nothing goes wrong any more.
    pub fn after_power_cut(&self) -> Disk {
        let durable = self.state().durable.clone();
        Disk(Arc::new(Mutex::new(State { cache: durable.clone(), durable, ..State::default() })))
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Change {
    /// Does it to `bytes`, sector by sector as `survives` says.
    fn apply(&self, bytes: &mut Vec<u8>, survives: &mut dyn FnMut() -> bool) {
        match self {
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
                        bytes.resize(bytes.len().max(offset + next), 0);
                        bytes[offset + at..offset + next].copy_from_slice(&data[at..next]);
                    }
                    at = next;
                }
            }
        }
    }
}

impl State {
    /// Counts an operation. `change` is what it does; a sync has none.
    fn operation(&mut self, change: Option<Change>) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        if let Some((number, survivors)) = self.cut
            && number == self.operations
        {
            self.pending.extend(change);
            self.cut_power(survivors);
            return Err(io::Error::other("the power went"));
        }
        match change {
            Some(change) => {
                change.apply(&mut self.cache, &mut || true);
                self.pending.push(change);
            }
            None => {
                let pending = std::mem::take(&mut self.pending);
                pending.iter().for_each(|change| change.apply(&mut self.durable, &mut || true));
            }
        }
        Ok(())
    }

    fn cut_power(&mut self, survivors: Survivors) {
        self.is_off = true;
        let pending = std::mem::take(&mut self.pending);
        let last = pending.len().saturating_sub(1);
        let mut chance = if let Survivors::Some(seed) = survivors { seed } else { 0 };
        for (index, change) in pending.iter().enumerate() {
            change.apply(&mut self.durable, &mut || match survivors {
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

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = offset as usize;
        out.copy_from_slice(state.cache.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().operation(Some(Change::Length(len as usize)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().operation(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().operation(Some(Change::Write(offset as usize, data.to_vec())))
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
