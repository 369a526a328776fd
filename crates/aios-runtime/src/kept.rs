//! The beginnings of prompts on disk: what a client asked to keep is there after a restart, and need not be computed again.
//!
//! Each model has a folder, and each beginning a file in it (docs/formats/prefix.md). A file counts only for the very
//! weights, program and instructions that it was made with: what is read is what would be computed, to the last bit. What
//! can't be read is deleted and computed again; no request fails for it.
//!
//! ```text
//!  a request that keeps ─▶ put ─▶ a thread: room, draft, fsync, rename
//!  a request that begins so ─▶ longest (tokens of all files, in memory) ─▶ read: whole file, by its hash
//! ```

mod file;
mod place;

use std::{
    fmt::{Debug, Formatter},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aios_kernels::LANES;
use aios_models::trust::hash;
use sha2::{Digest as _, Sha256};

use self::file::{Fault, Key};
pub use self::place::Place;

/// Beginnings that may wait to be written. Each holds on to its memory.
const WAITING: usize = 2;

/// How often a file's time of use is brought up to date at most.
const TOUCH: Duration = Duration::from_secs(600);

/// Grows with every change of the meaning of keys and values that a change of the program's file does not show.
const LAYOUT: u32 = 1;

/// Where a model's beginnings are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The place of all models.
    pub place: Place,
    /// Id of the model.
    pub model: String,
    /// What tells its file from every other.
    pub identity: String,
}

/// The beginnings of one loaded model. Dropping it waits until what was handed in is written.
pub struct Kept {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
}

struct Shared {
    place: Place,
    folder: PathBuf,
    identity: String,
    /// Instructions that keys and values are computed with.
    arithmetic: &'static str,
    key: OnceLock<Option<Key>>,
    /// What is there; `None` until somebody asks.
    index: Mutex<Option<Vec<Entry>>>,
}

/// A file.
struct Entry {
    path: PathBuf,
    tokens: Vec<u32>,
    /// When its time of use was brought up to date, by this process.
    touched: Option<Instant>,
}

struct Writer {
    jobs: SyncSender<Beginning>,
    thread: JoinHandle<()>,
}

/// What is to be written: whole blocks.
struct Beginning {
    tokens: Vec<u32>,
    blocks: Vec<Arc<[u16]>>,
}

impl Kept {
    /// What `shelf` holds for the instructions `arithmetic`. Reads nothing yet.
    pub fn new(shelf: &Shelf, arithmetic: &'static str) -> Self {
        let Shelf { place, model, identity } = shelf.clone();
        let (key, index) = Default::default();
        let folder = place.directory.join(model);
        Self { shared: Arc::new(Shared { place, folder, identity, arithmetic, key, index }), writer: Mutex::default() }
    }

    /// How many blocks `tokens` and what is on disk begin with alike, at most.
    pub fn longest(&self, tokens: &[u32]) -> usize {
        self.shared.best(tokens).map_or(0, |(blocks, _)| blocks)
    }

    /// These blocks, each of `length` numbers. `None` where none can be read.
    pub fn read(&self, tokens: &[u32], length: usize) -> Option<Vec<Arc<[u16]>>> {
        let key = self.shared.key()?;
        while let Some((blocks, path)) = self.shared.best(tokens) {
            match file::read(&path, key, &tokens[..blocks * LANES], length) {
                Ok(read) => return Some(read),
                Err(fault) => self.shared.give_up(&path, &fault),
            }
        }
        None
    }

    /// Writes a beginning of whole blocks, in the background.
    pub fn put(&self, tokens: &[u32], blocks: Vec<Arc<[u16]>>) {
        if blocks.is_empty() || self.shared.touch(tokens) {
            return;
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            *writer = Writer::start(self.shared.clone());
        }
        let Some(Writer { jobs, .. }) = &*writer else { return };
        if let Err(TrySendError::Full(_)) = jobs.try_send(Beginning { tokens: tokens.to_owned(), blocks }) {
            tracing::info!(tokens = tokens.len(), "beginning of a prompt not kept: others are still being written");
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { jobs, thread }) = writer {
            drop(jobs);
            let _ = thread.join();
        }
    }
}

impl Debug for Kept {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kept").field("folder", &self.shared.folder).finish()
    }
}

impl Writer {
    fn start(shared: Arc<Shared>) -> Option<Self> {
        let (jobs, waiting): (_, Receiver<Beginning>) = sync_channel(WAITING);
        let work = move || waiting.iter().for_each(|beginning| shared.write(&beginning));
        match std::thread::Builder::new().name("kept".into()).spawn(work) {
            Ok(thread) => Some(Writer { jobs, thread }),
            Err(error) => {
                tracing::warn!(%error, "no thread to write beginnings of prompts");
                None
            }
        }
    }
}

impl Shared {
    fn key(&self) -> Option<Key> {
        *self.key.get_or_init(|| {
            let program = program()?;
            let text = format!("{LAYOUT}\n{program}\n{}\n{}\n", self.arithmetic, self.identity);
            Some(Sha256::digest(text).into())
        })
    }

    /// The file that begins as `tokens` does for most blocks, and for how many.
    fn best(&self, tokens: &[u32]) -> Option<(usize, PathBuf)> {
        let mut index = self.index();
        let entries = index.iter_mut().map(|entry| (common_blocks(&entry.tokens, tokens), entry));
        let (blocks, entry) = entries.max_by_key(|(blocks, _)| *blocks).filter(|(blocks, _)| *blocks > 0)?;
        entry.touch();
        Some((blocks, entry.path.clone()))
    }

    /// Whether a file begins with `tokens`, which counts as a use of it.
    fn touch(&self, tokens: &[u32]) -> bool {
        let mut index = self.index();
        let entry = index.iter_mut().find(|entry| entry.tokens.starts_with(tokens) && entry.path.exists());
        entry.map(Entry::touch).is_some()
    }

    fn write(&self, Beginning { tokens, blocks }: &Beginning) {
        let Some(key) = self.key().filter(|_| !self.touch(tokens)) else { return };
        let path = self.folder.join(file::name(key, tokens));
        let started = Instant::now();
        let written = self.place.make(&self.folder, file::size(tokens, blocks)).and_then(|room| match room {
            true => file::write(&path, key, tokens, blocks).map(|()| true),
            false => Ok(false),
        });
        match written {
            Ok(true) => tracing::info!(tokens = tokens.len(), ms = started.elapsed().as_millis(), "beginning kept"),
            Ok(false) => {
                tracing::warn!(
                    tokens = tokens.len(),
                    "beginning not kept: runtime.prefix-cache-disk has no room for it"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "beginning not kept");
                return;
            }
        }
        let mut index = self.index();
        // The longer one serves whoever wants the shorter.
        for entry in index.extract_if(.., |entry| tokens.starts_with(&entry.tokens)) {
            if entry.path != path {
                let _ = fs::remove_file(entry.path);
            }
        }
        index.push(Entry { path, tokens: tokens.clone(), touched: Some(Instant::now()) });
    }

    /// Forgets a file, and deletes it where it is there and of no use.
    fn give_up(&self, path: &PathBuf, fault: &Fault) {
        self.index().retain(|entry| entry.path != *path);
        discard(path, fault);
    }

    /// What is there. The first call looks, which takes as long as reading the heads of a few files.
    fn index(&self) -> Index<'_> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.is_none() {
            *index = Some(self.scan());
        }
        Index(index)
    }

    fn scan(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let files: Vec<PathBuf> = files.filter(|path| file::is_ours(path)).collect();
        let mut entries = Vec::new();
        if files.is_empty() {
            return entries;
        }
        let Some(key) = self.key() else { return entries };
        for path in files {
            match file::tokens(&path, key) {
                Ok(tokens) => entries.push(Entry { path, tokens, touched: None }),
                Err(fault) => discard(&path, &fault),
            }
        }
        entries
    }
}

/// The index, which was looked up.
struct Index<'a>(MutexGuard<'a, Option<Vec<Entry>>>);

impl std::ops::Deref for Index<'_> {
    type Target = Vec<Entry>;

    fn deref(&self) -> &Vec<Entry> {
        self.0.as_ref().expect("invariant: the index was looked up")
    }
}

impl std::ops::DerefMut for Index<'_> {
    fn deref_mut(&mut self) -> &mut Vec<Entry> {
        self.0.as_mut().expect("invariant: the index was looked up")
    }
}

impl Entry {
    fn touch(&mut self) {
        if self.touched.is_none_or(|touched| touched.elapsed() > TOUCH) {
            self.touched = Some(Instant::now());
            file::touch(&self.path);
        }
    }
}

fn discard(path: &PathBuf, fault: &Fault) {
    match fault {
        Fault::Gone => return,
        // That may pass.
        Fault::Unreadable(error) => return tracing::warn!(path = %path.display(), %error, "beginning can't be read"),
        Fault::Stale => tracing::info!(path = %path.display(), "beginning of another model or program deleted"),
        Fault::Damaged(reason) => tracing::warn!(path = %path.display(), reason, "damaged beginning deleted"),
    }
    let _ = fs::remove_file(path);
}

/// How many whole blocks both begin with.
fn common_blocks(a: &[u32], b: &[u32]) -> usize {
    a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).take_while(|(a, b)| a == b).count()
}

/// The hash of this program's file: another version may compute other bits.
fn program() -> Option<&'static str> {
    static PROGRAM: OnceLock<Option<String>> = OnceLock::new();
    let read = || fs::File::open("/proc/self/exe").and_then(|mut file| hash(&mut file));
    let program = PROGRAM.get_or_init(|| {
        read().inspect_err(|error| tracing::warn!(%error, "/proc/self/exe: beginnings of prompts are not kept")).ok()
    });
    program.as_deref()
}

#[cfg(test)]
mod tests;
