//! Threads that compute one thing together.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::pace::Pace;

/// How long an idle worker looks for work before it sleeps: longer than what lies between two products, or two tokens;
/// shorter than what anyone notices on the electricity bill.
const AWAKE: Duration = Duration::from_micros(200);
/// Turns between two looks at the clock, or between two chances for other processes while the caller waits.
const TURNS: u32 = 64;
/// Rounds in which what is divided is taken, each thread a piece in each: half of what is left, in the last one all. So
/// most of it is read in long runs, and one that a busy machine holds up leaves the rest to the others.
const ROUNDS: usize = 4;

/// A caller and `threads - 1` workers that share out pieces of work.
///
/// Nobody waits for a worker that has no piece: one that the system does not run for a while, as other processes want the
/// CPU, takes no part, and the others do its share. Where workers are held up in their pieces, fewer are asked.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a run: callers take turns.
    turn: Mutex<Pace>,
}

struct Shared {
    /// The number of the run in the high half, its pieces that nobody has taken yet in the low one.
    ticket: AtomicU64,
    /// The work of that run: written while all its pieces are done, read by who holds a piece.
    work: UnsafeCell<Work>,
    /// Workers that may take pieces: the first ones.
    helpers: AtomicUsize,
    /// Pieces of it that are not done.
    pending: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    workers: Vec<Worker>,
}

/// The closure of a run, without its type and lifetime.
#[derive(Clone, Copy)]
struct Work {
    pieces: usize,
    data: *const (),
    call: unsafe fn(*const (), usize, usize),
}

#[derive(Default)]
struct Worker {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

// SAFETY: `work` is written only by the caller whose turn it is while no piece is pending, and read only by holders of a
// pending piece, who took it from a ticket that was stored after it.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in it is used only during a run, while its closure lives.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads` threads, the caller included; at least one.
    ///
    /// # Panics
    /// Where the system gives no more threads.
    pub fn new(threads: usize) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            work: UnsafeCell::new(Work { pieces: 0, data: std::ptr::null(), call: |_, _, _| {} }),
            helpers: AtomicUsize::new(count),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            workers: (0..count).map(|_| Worker::default()).collect(),
        });
        let workers = (0..count)
            .map(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("kernels-{}", index + 1))
                    .spawn(move || shared.serve(index))
                    .expect("the system starts a thread")
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(Pace::new(count + 1)) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(piece, thread)` once for each number below `pieces`, the first ones first, and returns when all are
    /// done. No two calls with
    /// the same number of a thread, which is below [`threads`](Team::threads), run at the same time.
    ///
    /// # Panics
    /// Where `work` does, on whichever thread; or where there are 2^32 pieces.
    pub fn run<F: Fn(usize, usize) + Sync>(&self, pieces: usize, work: F) {
        if self.workers.is_empty() || pieces < 2 {
            return (0..pieces).for_each(|piece| work(piece, 0));
        }
        let mut pace = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let helpers = pace.threads(started) - 1;
        if helpers == 0 {
            return (0..pieces).for_each(|piece| work(piece, 0));
        }
        let run = self.shared.start(pieces, helpers, &work);
        self.shared.take_part(run, 0);
        let finished = Instant::now();
        self.shared.wait();
        let ended = Instant::now();
        pace.note(ended, ended - started, ended - finished);
        drop(pace);
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a piece of the team's work panicked");
    }

    /// Calls `work(range, thread)` for ranges that make up `0..total`, as [`run`](Team::run) does: the first ones first, and
    /// longer than the last.
    ///
    /// # Panics
    /// As [`run`](Team::run) does.
    pub fn divide<F: Fn(Range<usize>, usize) + Sync>(&self, total: usize, work: F) {
        let threads = self.threads();
        if threads == 1 || total < 2 {
            return self.run(total.min(1), |_, thread| work(0..total, thread));
        }
        // Where a piece begins, in parts of a whole that each thread's last pieces divide.
        let whole = threads << (ROUNDS - 1);
        let start = |piece: usize| {
            let (round, index) = (piece / threads, piece % threads);
            match ROUNDS - 1 - round {
                0 => whole - threads + index,
                left => whole - (threads << left) + (index << (left - 1)),
            }
        };
        self.run(threads * ROUNDS, |piece, thread| {
            let end = if piece + 1 == threads * ROUNDS { whole } else { start(piece + 1) };
            let range = total * start(piece) / whole..total * end / whole;
            if !range.is_empty() {
                work(range, thread);
            }
        });
    }
}

impl Shared {
    /// Offers the pieces of a new run to the first `helpers` workers, and gives its number.
    fn start<F: Fn(usize, usize) + Sync>(&self, pieces: usize, helpers: usize, work: &F) -> u32 {
        /// # Safety
        /// `data` is a valid `&F`.
        unsafe fn call<F: Fn(usize, usize)>(data: *const (), piece: usize, thread: usize) {
            // SAFETY: the caller vouches for it.
            unsafe { (*data.cast::<F>())(piece, thread) }
        }
        let left = u32::try_from(pieces).expect("fewer than 2^32 pieces");
        // SAFETY: it is the caller's turn, and no piece is pending from the run before.
        unsafe { *self.work.get() = Work { pieces, data: std::ptr::from_ref(work).cast(), call: call::<F> } };
        self.pending.store(pieces, Ordering::Relaxed);
        self.helpers.store(helpers, Ordering::Relaxed);
        let (run, _) = split(self.ticket.load(Ordering::Relaxed));
        let run = run.wrapping_add(1);
        // Sequentially consistent, as is a worker's look after it says that it sleeps: one of the two sees the other.
        self.ticket.store(u64::from(run) << 32 | u64::from(left), Ordering::SeqCst);
        self.wake(helpers);
        run
    }

    fn wake(&self, helpers: usize) {
        for worker in &self.workers[..helpers] {
            if worker.asleep.swap(false, Ordering::SeqCst)
                && let Some(thread) = &*worker.thread.lock().unwrap_or_else(PoisonError::into_inner)
            {
                thread.unpark();
            }
        }
    }

    /// Does pieces of this run while there are any.
    fn take_part(&self, run: u32, thread: usize) {
        while let Some(left) = self.claim(run) {
            // SAFETY: who holds a piece may read: the work was stored before the ticket that the piece is from.
            let work = unsafe { *self.work.get() };
            // SAFETY: the caller of the run waits until no piece is pending, and the closure lives as long.
            if catch_unwind(AssertUnwindSafe(|| unsafe { (work.call)(work.data, work.pieces - left, thread) })).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.pending.fetch_sub(1, Ordering::Release);
        }
    }

    /// Takes a piece of this run, and says how many there were left with it.
    fn claim(&self, run: u32) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let (current, left) = split(ticket);
            if current != run || left == 0 {
                return None;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket - 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(left as usize),
                Err(now) => ticket = now,
            }
        }
    }

    /// Returns when nobody uses the closure any more; so it must be called before the closure goes.
    fn wait(&self) {
        let mut turns = 0;
        while self.pending.load(Ordering::Acquire) != 0 {
            turns += 1;
            if turns % TURNS != 0 { std::hint::spin_loop() } else { thread::yield_now() }
        }
    }

    fn serve(&self, index: usize) {
        let worker = &self.workers[index];
        *worker.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        while let Some(run) = self.next(index) {
            self.take_part(run, index + 1);
        }
    }

    /// Waits for a run with pieces to take, first awake, then asleep; `None` is the end.
    fn next(&self, index: usize) -> Option<u32> {
        let worker = &self.workers[index];
        let offered = |order| match split(self.ticket.load(order)) {
            (run, 1..) if index < self.helpers.load(Ordering::Relaxed) => Some(run),
            _ => None,
        };
        let started = Instant::now();
        while started.elapsed() < AWAKE {
            for _ in 0..TURNS {
                if let Some(run) = offered(Ordering::Acquire) {
                    return Some(run);
                }
                std::hint::spin_loop();
            }
        }
        loop {
            worker.asleep.store(true, Ordering::SeqCst);
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(run) = offered(Ordering::SeqCst) {
                worker.asleep.store(false, Ordering::Relaxed);
                return Some(run);
            }
            thread::park();
        }
    }
}

/// The number of the run and the pieces left.
fn split(ticket: u64) -> (u32, u32) {
    ((ticket >> 32) as u32, ticket as u32)
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake(self.workers.len());
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_in_every_run() {
        for (threads, pieces) in [(1, 3), (2, 1), (2, 2), (3, 40), (4, 7)] {
            let team = Team::new(threads);
            let counts: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            for run in 1..=200 {
                team.run(pieces, |piece, thread| {
                    assert!(thread < threads);
                    counts[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == run));
            }
        }
    }

    #[test]
    fn ranges_make_up_the_whole() {
        for (threads, total) in [(1, 5), (2, 0), (2, 1), (3, 7), (2, 1000)] {
            let counts: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
            Team::new(threads).divide(total, |range, _| {
                counts[range].iter().for_each(|count| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {total}");
        }
    }

    #[test]
    fn who_is_held_up_leaves_the_rest_to_the_others() {
        let team = Team::new(2);
        let done = AtomicUsize::new(0);
        team.run(10, |piece, _| {
            while piece == 0 && done.load(Ordering::Relaxed) < 9 {
                thread::yield_now();
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn threads_that_have_gone_to_sleep_wake_up() {
        let team = Team::new(3);
        for _ in 0..3 {
            let count = AtomicUsize::new(0);
            while team.shared.workers.iter().any(|worker| !worker.asleep.load(Ordering::SeqCst)) {
                thread::yield_now();
            }
            // Each waits for the others, so all three must come.
            let all = std::sync::Barrier::new(3);
            team.run(3, |_, _| {
                all.wait();
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    fn callers_take_turns() {
        let team = Team::new(2);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        team.run(2, |_, _| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 800);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        let team = Team::new(2);
        for bad in 0..2 {
            assert!(catch_unwind(AssertUnwindSafe(|| team.run(2, |piece, _| assert_ne!(piece, bad)))).is_err());
        }
        let count = AtomicUsize::new(0);
        team.run(2, |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
