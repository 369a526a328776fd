//! Group commit: threads wait in line, and the first of them writes for all.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    entry::{Entry, Receipt},
    error::LedgerError,
};

/// Most entries that are written at once.
const BATCH_ENTRIES: usize = 1024;
/// Most bytes that are written at once, but for a single entry.
const BATCH_BYTES: usize = 4 << 20;

/// The threads that wait, and what is not signed.
pub(super) struct Queue {
    line: Mutex<Line>,
    /// A batch was written, or the queue was closed.
    written: Condvar,
    /// Entries were written, or the queue was closed; for the thread that signs.
    unsigned: Condvar,
}

struct Line {
    waiting: Vec<Arc<Ticket>>,
    /// A thread is writing.
    led: bool,
    closed: bool,
    /// Number of entries that were written, and of those that are signed.
    size: u64,
    signed: u64,
    /// When the first entry was written that is not signed.
    unsigned_since: Option<Instant>,
}

/// An entry in line.
pub(super) struct Ticket {
    pub entry: Entry,
    outcome: OnceLock<Result<Receipt, LedgerError>>,
}

/// What the thread that signs is woken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Checkpoint,
    End,
}

impl Queue {
    /// A queue of a ledger with `signed` entries that have a checkpoint, and `size` in all.
    pub fn new((signed, size): (u64, u64)) -> Queue {
        let line = Line {
            waiting: Vec::new(),
            led: false,
            closed: false,
            size,
            signed,
            unsigned_since: (size > signed).then(Instant::now),
        };
        Queue { line: Mutex::new(line), written: Condvar::new(), unsigned: Condvar::new() }
    }

    /// Puts `entry` in line and returns when it was written, by this thread or another. `write` writes a batch.
    pub fn append(
        &self,
        entry: Entry,
        write: impl Fn(&[Arc<Ticket>]) -> Result<Vec<Receipt>, LedgerError>,
    ) -> Result<Receipt, LedgerError> {
        let ticket = Arc::new(Ticket { entry, outcome: OnceLock::new() });
        let mut line = self.line();
        if line.closed {
            return Err(LedgerError::Closed);
        }
        line.waiting.push(ticket.clone());
        loop {
            if let Some(outcome) = ticket.outcome.get() {
                return outcome.clone();
            }
            if line.led {
                line = self.written.wait(line).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            line.led = true;
            let turn = Turn { queue: self, batch: line.next_batch() };
            drop(line);
            turn.write(&write);
            line = self.line();
        }
    }

    /// Entries were written by another way than [`Queue::append`].
    pub fn add_unsigned(&self, entries: u64) {
        self.line().add_unsigned(entries);
        self.unsigned.notify_all();
    }

    /// The first `size` entries have a checkpoint.
    pub fn signed(&self, size: u64) {
        let mut line = self.line();
        line.signed = line.signed.max(size);
        // Entries whose writing was told as failed may be on the disk all the same.
        line.size = line.size.max(size);
        line.unsigned_since = (line.size > line.signed).then(Instant::now);
    }

    /// Waits until there are `entries` without a checkpoint, or one for `time`.
    pub fn wait_due(&self, entries: u64, time: Duration) -> Due {
        let mut line = self.line();
        loop {
            if line.closed {
                return Due::End;
            }
            let left = match line.unsigned_since {
                Some(_) if line.size - line.signed >= entries => return Due::Checkpoint,
                Some(since) => time.saturating_sub(since.elapsed()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return Due::Checkpoint;
            }
            line = self.unsigned.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `time`, or until the queue is closed.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut line = self.line();
        while !line.closed && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            line = self.unsigned.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes no more entries. Those in line are written.
    pub fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        while line.led || !line.waiting.is_empty() {
            line = self.written.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        self.unsigned.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.line().closed
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The first ones in line.
    fn next_batch(&mut self) -> Vec<Arc<Ticket>> {
        let mut bytes = 0;
        let fits = self.waiting.iter().take(BATCH_ENTRIES).take_while(|ticket| {
            bytes += ticket.entry.len();
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    fn add_unsigned(&mut self, entries: u64) {
        self.size += entries;
        self.unsigned_since.get_or_insert_with(Instant::now);
    }
}

/// The turn of the thread that writes for all. At its end, even by a panic, every ticket of the batch has an outcome and
/// the next thread may lead.
struct Turn<'q> {
    queue: &'q Queue,
    batch: Vec<Arc<Ticket>>,
}

impl Turn<'_> {
    fn write(self, write: &impl Fn(&[Arc<Ticket>]) -> Result<Vec<Receipt>, LedgerError>) {
        match write(&self.batch) {
            Ok(receipts) => {
                for (ticket, receipt) in self.batch.iter().zip(receipts) {
                    let _ = ticket.outcome.set(Ok(receipt));
                }
            }
            Err(error) => {
                for ticket in &self.batch {
                    let _ = ticket.outcome.set(Err(error.clone()));
                }
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let broken =
            || LedgerError::Storage { place: "ledger".into(), cause: "the thread that wrote it panicked".into() };
        let mut written = 0;
        for ticket in &self.batch {
            written += u64::from(ticket.outcome.get_or_init(|| Err(broken())).is_ok());
        }
        let mut line = self.queue.line();
        line.led = false;
        if written > 0 {
            line.add_unsigned(written);
            self.queue.unsigned.notify_all();
        }
        self.queue.written.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn entry(bytes: usize) -> Entry {
        Entry::new("decision", "agent", &json!({ "text": "x".repeat(bytes) })).unwrap()
    }

    fn written(batch: &[Arc<Ticket>]) -> Result<Vec<Receipt>, LedgerError> {
        Ok(batch.iter().map(|_| Receipt { seq: 0, hash: [0; 32], time: Timestamp::UNIX_EPOCH }).collect())
    }

    fn line(queue: &Queue, entries: impl IntoIterator<Item = Entry>) {
        let tickets = entries.into_iter().map(|entry| Arc::new(Ticket { entry, outcome: OnceLock::new() }));
        queue.line().waiting.extend(tickets);
    }

    #[test]
    fn a_batch_has_so_many_entries_and_bytes_and_at_least_one_entry() {
        let queue = Queue::new((0, 0));
        line(&queue, (0..BATCH_ENTRIES + 5).map(|_| entry(1)));
        assert_eq!(queue.line().next_batch().len(), BATCH_ENTRIES);
        assert_eq!(queue.line().next_batch().len(), 5);
        line(&queue, (0..5).map(|_| entry(1_000_000)));
        assert_eq!(queue.line().next_batch().len(), 4);
        assert_eq!(queue.line().next_batch().len(), 1);
        assert_eq!(queue.line().next_batch().len(), 0);
    }

    #[test]
    fn a_thread_that_panics_while_it_writes_for_others_leaves_nobody_waiting() {
        let queue = Queue::new((0, 0));
        line(&queue, [entry(1)]);
        let other = queue.line().waiting[0].clone();
        let panicked = catch_unwind(AssertUnwindSafe(|| queue.append(entry(1), |_| panic!("while writing"))));
        assert!(panicked.is_err());
        assert!(matches!(other.outcome.get(), Some(Err(LedgerError::Storage { .. }))));
        assert!(queue.append(entry(1), written).is_ok(), "the next one leads");
        assert_eq!(queue.line().size, 1, "what failed is not counted");
    }

    #[test]
    fn what_is_not_signed_is_due_after_some_entries_or_some_time_and_closing_ends_it() {
        let queue = Queue::new((3, 5));
        assert_eq!(queue.wait_due(2, Duration::from_secs(3600)), Due::Checkpoint);
        assert_eq!(queue.wait_due(100, Duration::ZERO), Due::Checkpoint);
        queue.signed(5);
        queue.append(entry(1), written).unwrap();
        assert_eq!(queue.wait_due(1, Duration::from_secs(3600)), Due::Checkpoint);
        queue.signed(9);
        assert_eq!(queue.line().size, 9, "entries that came another way");
        assert_eq!(queue.line().unsigned_since, None);
        queue.close();
        assert_eq!(queue.wait_due(1, Duration::ZERO), Due::End);
        assert!(matches!(queue.append(entry(1), written), Err(LedgerError::Closed)));
        queue.pause(Duration::from_secs(3600));
    }
}
