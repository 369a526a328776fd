//! Writing: one process, many threads.

mod queue;
mod signing;
mod writer;

use std::{
    fs,
    num::NonZeroU64,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aios_keys::{
    note::{Signer, Verifier},
    seed::{Seed, publish},
};
use aios_tables::{Medium, OnDisk};
use jiff::Timestamp;

use crate::{
    checkpoint::Checkpoint,
    entry::{Entry, Receipt},
    error::{LedgerError, ReadError},
    read::Snapshot,
    redact::Redactor,
};
use queue::Queue;
use signing::Signing;
use writer::Writer;

/// File of the secret key, in a folder of keys.
const SECRET_FILE: &str = "ledger.key";
/// File of the public keys, in a folder of keys.
const PUBLIC_FILE: &str = "ledger.pub";
/// What the names of ledgers begin with.
const ORIGIN_PREFIX: &str = "aios/ledger/";
/// Memory for pages of the database, in bytes: the newest ones, and those on the way to them.
const CACHE: usize = 4 << 20;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// When checkpoints are signed. One is signed at closing in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEvery {
    /// By a thread, after so many entries, or so long after the first entry that has none yet.
    Entries(NonZeroU64, Duration),
    /// Only when [`Ledger::checkpoint`] is called.
    Call,
}

/// How a ledger is written.
#[derive(Clone)]
pub struct Options {
    /// When checkpoints are signed.
    pub checkpoints: CheckpointEvery,
    /// How long after a failure the file is not touched again: until then the same error is told at once.
    pub retry_after: Duration,
    /// The clock.
    pub clock: Clock,
}

impl Default for Options {
    /// A checkpoint after 1024 entries or a minute, and another attempt a quarter of a second after a failure.
    fn default() -> Options {
        let entries = NonZeroU64::new(1024).expect("invariant: 1024 is not 0");
        Options {
            checkpoints: CheckpointEvery::Entries(entries, Duration::from_secs(60)),
            retry_after: Duration::from_millis(250),
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// What [`Ledger::prune`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Number of entries that were dropped.
    pub dropped: u64,
    /// The entry that says so; `None` where there was nothing to drop.
    pub receipt: Option<Receipt>,
}

/// The ledger, open for writing. It can be shared between threads.
pub struct Ledger {
    shared: Arc<Shared>,
    signing: Option<Signing>,
}

/// What the threads share.
struct Shared {
    queue: Queue,
    writer: Mutex<Writer>,
    /// Held while a checkpoint is signed, which takes milliseconds, so that entries are written meanwhile.
    signer: Mutex<Signer>,
    clock: Clock,
}

/// The key that signs the ledger of the device whose keys are in the folder `keys`. It is made where there is none, and
/// its public half is written beside it.
pub fn signer(keys: &Path) -> Result<Signer, LedgerError> {
    let seed = Seed::open_or_make(&keys.join(SECRET_FILE))?;
    let signer = Signer::with_own_name(ORIGIN_PREFIX, &seed)?;
    publish(&keys.join(PUBLIC_FILE), &signer.verifier().to_string())?;
    Ok(signer)
}

/// Takes secrets out of entries, by a salt of the device whose keys are in the folder `keys`. Its secret is made where there
/// is none.
pub fn redactor(keys: &Path) -> Result<Redactor, LedgerError> {
    Ok(Redactor::new(&Seed::open_or_make(&keys.join(SECRET_FILE))?))
}

/// The public keys in the folder `keys`, which check the ledger of the device that made them.
pub fn verifier(keys: &Path) -> Result<Verifier, LedgerError> {
    let path = keys.join(PUBLIC_FILE);
    let text = fs::read_to_string(&path).map_err(|error| LedgerError::Key(format!("{}: {error}", path.display())))?;
    text.parse().map_err(|error| LedgerError::Key(format!("{} {error}", path.display())))
}

impl Ledger {
    /// Opens the ledger in the file at `path`, or begins it. Only one process can.
    pub fn open(path: &Path, signer: Signer, options: Options) -> Result<Ledger, LedgerError> {
        Ledger::open_on(Box::new(OnDisk::new(path)), signer, options)
    }

    /// Like [`Ledger::open`], on another medium than a file.
    pub fn open_on(medium: Box<dyn Medium>, signer: Signer, options: Options) -> Result<Ledger, LedgerError> {
        let writer = Writer::open(medium, signer.verifier(), options.retry_after)?;
        let unsigned = writer.unsigned();
        let shared = Arc::new(Shared {
            queue: Queue::new(unsigned),
            writer: Mutex::new(writer),
            signer: Mutex::new(signer),
            clock: options.clock,
        });
        let signing = match options.checkpoints {
            CheckpointEvery::Entries(entries, time) => Some(Signing::start(shared.clone(), entries, time)?),
            CheckpointEvery::Call => None,
        };
        Ok(Ledger { shared, signing })
    }

    /// Records `entry`, and returns when it is on the disk. Threads that do so at the same time share one writing. It blocks
    /// for as long as the disk takes: asynchronous code calls it where it may block.
    ///
    /// After an error the entry may still turn up in the ledger, if the disk failed at the very end; what is on the disk
    /// when this returns a receipt stays there.
    pub fn append(&self, entry: Entry) -> Result<Receipt, LedgerError> {
        self.shared.queue.append(entry, |batch| self.shared.writer().append(batch, &self.shared.clock))
    }

    /// Signs what is recorded so far, and returns the note; `None` if nothing was recorded since the last one.
    pub fn checkpoint(&self) -> Result<Option<String>, LedgerError> {
        self.shared.checkpoint()
    }

    /// Drops the entries before those of `exported`, a signed checkpoint of this ledger that was taken elsewhere
    /// together with the entries before it, and records that.
    pub fn prune(&self, exported: &str) -> Result<Pruned, LedgerError> {
        let keys = self.shared.signer().verifier();
        let checkpoint = Checkpoint::open(exported, &keys)?;
        let pruned = self.shared.writer().prune(&checkpoint, &self.shared.clock)?;
        if pruned.receipt.is_some() {
            self.shared.queue.add_unsigned(1);
            // Until it is signed, nobody can tell this from entries that were taken away.
            self.shared.checkpoint()?;
        }
        Ok(pruned)
    }

    /// What is recorded now, to read from.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.shared.writer().snapshot()
    }

    /// Signs what is not signed yet, and closes the file. Dropping does the same, but says nothing of errors.
    pub fn close(mut self) -> Result<(), LedgerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LedgerError> {
        self.shared.queue.close();
        if let Some(signing) = self.signing.take() {
            signing.end();
        }
        let signed = self.shared.checkpoint().map(|_| ());
        let closed = self.shared.writer().close();
        signed.and(closed)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.shared.queue.is_closed()
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "the ledger could not be closed in order");
        }
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A thread that panicked while it wrote has closed the file: see `Writer::attempt`.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signer(&self) -> MutexGuard<'_, Signer> {
        self.signer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Ledger::checkpoint`].
    fn checkpoint(&self) -> Result<Option<String>, LedgerError> {
        let signer = self.signer();
        let Some(head) = self.writer().unsigned_head() else { return Ok(None) };
        let checkpoint = Checkpoint {
            origin: signer.name().to_owned(),
            size: head.frontier.size(),
            root: head.frontier.root(),
            chain: head.chain,
            time: (self.clock)(),
        };
        let note = checkpoint.sign(&signer)?;
        self.writer().put_checkpoint(&head, &note)?;
        self.queue.signed(head.frontier.size());
        Ok(Some(note))
    }
}
