//! A disk whose power goes at a planned moment, with all, none or some sectors of what was not synced on it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::{BackendError, StorageBackend};

use crate::support::fixture::Chance;

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
    /// The operation during which the power goes, and what of the unsynced changes is on the disk then.
    cut_at: Option<(u64, Survivors)>,
    cut: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    None,
    All,
    /// Each sector or not, by chance.
    Some(u64),
}

impl Disk {
    pub fn new(cut_at: Option<(u64, Survivors)>) -> Disk {
        let disk = Disk::default();
        disk.state().cut_at = cut_at;
        disk
    }

    /// The disk as it is now, while another one goes on, which fails as planned.
    pub fn copy(&self, cut_at: Option<(u64, Survivors)>) -> Disk {
        let durable = self.state().durable.clone();
        Disk(Arc::new(Mutex::new(State { cache: durable.clone(), durable, cut_at, ..State::default() })))
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
    fn apply(&self, bytes: &mut Vec<u8>, mut survives: impl FnMut() -> bool) {
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
    /// Counts an operation, and lets the power go where that is planned. `change` is what it does; a sync has none.
    fn operation(&mut self, change: Option<Change>) -> io::Result<()> {
        if self.cut {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        if let Some((number, survivors)) = self.cut_at
            && number == self.operations
        {
            self.pending.extend(change);
            self.cut = true;
            let mut chance = Chance(number);
            for change in std::mem::take(&mut self.pending) {
                change.apply(&mut self.durable, || match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Some(seed) => chance.next().wrapping_add(seed) & 1 == 0,
                });
            }
            return Err(io::Error::other("the power went"));
        }
        match change {
            Some(change) => {
                change.apply(&mut self.cache, || true);
                self.pending.push(change);
            }
            None => {
                std::mem::take(&mut self.pending).iter().for_each(|change| change.apply(&mut self.durable, || true))
            }
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let bytes = state.cache.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
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
