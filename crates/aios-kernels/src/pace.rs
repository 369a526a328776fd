//! How many threads are worth asking on a busy machine.

use std::time::{Duration, Instant};

/// Time that is looked at together: many runs, and more than one turn of the system's scheduler.
const WINDOW: Duration = Duration::from_millis(20);
/// The first rest of threads that were held up; each one in a row is twice as long as the one before, up to the last.
const FIRST_REST: Duration = Duration::from_millis(100);
const LAST_REST: Duration = Duration::from_secs(2);

/// Watches how much of its time the caller of runs spends waiting for the others.
///
/// Where it is more than half, as other processes have the CPUs, half of the threads do better: with two threads, one
/// would have been done sooner alone. They rest, and are tried again later.
#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    threads: usize,
    spent: Duration,
    waited: Duration,
    rest: Duration,
    /// When more threads are tried.
    try_again: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(threads: usize) -> Self {
        let zero = Duration::ZERO;
        Self { most: threads, threads, spent: zero, waited: zero, rest: FIRST_REST, try_again: None }
    }

    /// Threads for a run that begins now.
    pub(crate) fn threads(&mut self, now: Instant) -> usize {
        if self.try_again.is_some_and(|time| now >= time) {
            self.threads = (self.threads * 2).min(self.most);
            self.try_again = (self.threads < self.most).then(|| now + self.rest);
            (self.spent, self.waited) = (Duration::ZERO, Duration::ZERO);
        }
        self.threads
    }

    /// Takes note of a run of several threads that took `spent` and ended at `now`, `waited` of it after the caller had
    /// nothing left to do.
    pub(crate) fn note(&mut self, now: Instant, spent: Duration, waited: Duration) {
        self.spent += spent;
        self.waited += waited;
        if self.spent < WINDOW {
            return;
        }
        if self.waited * 2 > self.spent {
            self.threads = (self.threads / 2).max(1);
            self.try_again = Some(now + self.rest);
            self.rest = (self.rest * 2).min(LAST_REST);
        } else if self.waited * 4 < self.spent {
            self.rest = FIRST_REST;
        }
        (self.spent, self.waited) = (Duration::ZERO, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn threads_that_are_waited_for_rest_ever_longer_and_come_back() {
        let start = Instant::now();
        let mut pace = Pace::new(4);
        assert_eq!(pace.threads(start), 4);
        pace.note(start, milliseconds(30), milliseconds(20));
        assert_eq!(pace.threads(start), 2);
        assert_eq!(pace.threads(start + milliseconds(99)), 2);
        assert_eq!(pace.threads(start + milliseconds(101)), 4, "tried again after the rest");
        pace.note(start, milliseconds(30), milliseconds(20));
        assert_eq!(pace.threads(start + milliseconds(101)), 2);
        assert_eq!(pace.threads(start + milliseconds(201)), 4, "after twice the rest");
        for _ in 0..10 {
            pace.note(start, milliseconds(30), milliseconds(20));
        }
        assert_eq!(pace.threads(start), 1);
        assert!(pace.rest <= LAST_REST);
        assert_eq!(pace.threads(start + LAST_REST), 2);
        pace.note(start + LAST_REST, milliseconds(30), milliseconds(1));
        assert_eq!(pace.threads(start + LAST_REST * 2), 4);
        assert_eq!(pace.rest, FIRST_REST);
        assert_eq!(pace.try_again, None);
    }

    #[test]
    fn short_waits_and_short_times_change_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(2);
        for _ in 0..1000 {
            pace.note(start, milliseconds(10), milliseconds(3));
        }
        assert_eq!(pace.threads(start), 2);
        pace.note(start, milliseconds(10), milliseconds(10));
        assert_eq!(pace.threads(start), 2, "half a window");
    }
}
