//! Processors, deadlines, priority inheritance.

use std::{
    hint,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    thread::futex,
    time::{ClockId, clock_gettime},
};

use crate::{
    Options, Problem, failed,
    kernel::{self, Policy},
    milliseconds,
};

pub fn affinity(_: &Options) -> Result<String, Problem> {
    let cpus = kernel::online_cpus().map_err(Problem::io("the list of processors"))?;
    for cpu in &cpus {
        let ran_on =
            thread::scope(|scope| scope.spawn(|| kernel::run_on(*cpu).map(|()| rustix::thread::sched_getcpu())).join());
        let ran_on = ran_on
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
            .map_err(Problem::io(format_args!("a thread on processor {cpu}")))?;
        if ran_on != *cpu {
            return failed(format!("a thread that is bound to processor {cpu} runs on {ran_on}"));
        }
    }
    Ok(format!("{} processors online", cpus.len()))
}

const PERIOD: Duration = Duration::from_millis(20);
/// Longer than [`WORK`], because what the kernel counts includes interrupts.
const RUNTIME: Duration = Duration::from_millis(6);
const WORK: Duration = Duration::from_millis(2);
const PERIODS: u32 = 50;
/// Enough that a thread without a deadline would wait longer than a period for its turn.
const SPINNERS_PER_CPU: usize = 8;
/// Under a hypervisor a processor may be taken away at any time, so that no kernel can meet every deadline.
const MISSES_ALLOWED: u32 = PERIODS / 10;

/// A task that needs 2 ms in each 20 ms gets them while every processor has eight others to run.
pub fn deadline(_: &Options) -> Result<String, Problem> {
    let cpus = kernel::online_cpus().map_err(Problem::io("the list of processors"))?.len();
    let stop = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        for _ in 0..cpus * SPINNERS_PER_CPU {
            scope.spawn(|| spin_until(|| stop.load(Ordering::Relaxed)));
        }
        let task = scope.spawn(periodic_task).join();
        stop.store(true, Ordering::Relaxed);
        task.unwrap_or_else(|_| failed("the periodic task panicked"))
    })?;
    let told = format!("{missed} of {PERIODS} missed, {} ms in each {} ms", WORK.as_millis(), PERIOD.as_millis());
    if missed > MISSES_ALLOWED { failed(told) } else { Ok(told) }
}

/// Number of deadlines missed.
fn periodic_task() -> Result<u32, Problem> {
    kernel::set_policy(Policy::Deadline { runtime: RUNTIME, period: PERIOD }).map_err(Problem::io("SCHED_DEADLINE"))?;
    // A yield gives back the rest of the runtime; the task runs again when the next period begins.
    thread::yield_now();
    let mut deadline = Instant::now() + PERIOD;
    let mut missed = 0;
    for _ in 0..PERIODS {
        work(WORK);
        if Instant::now() > deadline {
            missed += 1;
            // The kernel gives the next runtime a period after it could give this one.
            deadline = Instant::now();
        }
        deadline += PERIOD;
        thread::yield_now();
    }
    Ok(missed)
}

/// Uses the processor for so long, whoever else uses it.
fn work(time: Duration) {
    let used = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let start = used();
    while used() - start < time {
        hint::spin_loop();
    }
}

fn spin_until(done: impl Fn() -> bool) {
    while !done() {
        hint::spin_loop();
    }
}

/// How long the thread of middle priority keeps the processor.
const HOG: Duration = Duration::from_millis(300);

/// The classic inversion: a thread of low priority holds a lock, one of high priority waits for it, and one of middle
/// priority keeps the processor. With inheritance the holder goes on at once; without, it waits for the middle one.
/// The same three threads with a plain lock are the measure.
pub fn inheritance(_: &Options) -> Result<String, Problem> {
    let inheriting = inversion(&Lock::Inheriting(AtomicU32::new(0)))?;
    let plain = inversion(&Lock::Plain(Mutex::new(())))?;
    let told = format!(
        "waited {} with inheritance, {} without, beside {} of another's work",
        milliseconds(inheriting),
        milliseconds(plain),
        milliseconds(HOG)
    );
    if plain < HOG / 2 {
        return failed(format!("{told}: the plain lock was not held up, so nothing was measured"));
    }
    if inheriting > HOG / 2 { failed(told) } else { Ok(told) }
}

enum Lock {
    Inheriting(AtomicU32),
    Plain(Mutex<()>),
}

impl Lock {
    fn with(&self, action: impl FnOnce()) -> Result<(), Problem> {
        match self {
            Lock::Inheriting(word) => {
                let flags = futex::Flags::PRIVATE;
                futex::lock_pi(word, flags, None).map_err(|e| Problem::Failed(format!("FUTEX_LOCK_PI: {e}")))?;
                action();
                futex::unlock_pi(word, flags).map_err(|e| Problem::Failed(format!("FUTEX_UNLOCK_PI: {e}")))
            }
            Lock::Plain(mutex) => {
                let guard = mutex.lock();
                action();
                drop(guard);
                Ok(())
            }
        }
    }
}

/// How long the thread of high priority waited for the lock.
fn inversion(lock: &Lock) -> Result<Duration, Problem> {
    let cpu = *kernel::online_cpus().map_err(Problem::io("the list of processors"))?.first().unwrap_or(&0);
    let [locked, waiting, hogging] = [const { AtomicBool::new(false) }; 3];
    let begin = |priority| {
        kernel::run_on(cpu)
            .and_then(|()| kernel::set_policy(Policy::Fifo(priority)))
            .map_err(Problem::io("real-time priority"))
    };
    thread::scope(|scope| {
        let low = scope.spawn(|| {
            begin(10)?;
            lock.with(|| {
                locked.store(true, Ordering::SeqCst);
                // From here on the middle one runs; only who has a higher priority gets the processor.
                sleep_until(&hogging);
                work(Duration::from_millis(5));
            })
        });
        let middle = scope.spawn(|| {
            begin(20)?;
            sleep_until(&waiting);
            hogging.store(true, Ordering::SeqCst);
            work(HOG);
            Ok(())
        });
        let high = scope.spawn(|| {
            begin(30)?;
            sleep_until(&locked);
            let start = Instant::now();
            waiting.store(true, Ordering::SeqCst);
            let mut waited = Duration::ZERO;
            lock.with(|| waited = start.elapsed())?;
            Ok(waited)
        });
        let joined = "the threads of the inversion do not panic";
        let waited = high.join().expect(joined);
        if waited.is_err() {
            // The other two must end as well.
            locked.store(true, Ordering::SeqCst);
            waiting.store(true, Ordering::SeqCst);
            hogging.store(true, Ordering::SeqCst);
        }
        low.join().expect(joined).and(middle.join().expect(joined)).and(waited)
    })
}

/// A thread that spun here would keep the processor from those it waits for.
fn sleep_until(flag: &AtomicBool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !flag.load(Ordering::SeqCst) && Instant::now() < give_up {
        thread::sleep(Duration::from_micros(200));
    }
}
