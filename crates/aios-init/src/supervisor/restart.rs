//! How often and how fast a failing unit is started again.

use std::collections::VecDeque;
use std::time::Duration;

use super::Time;

/// Delay before the second restart in a row; each further one doubles it.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The delay grows no further than this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A unit that was Ready for this long starts again at once, and its delays begin anew.
pub const STEADY_AFTER: Duration = Duration::from_secs(10);
/// So many restarts are granted within [`RESTART_WINDOW`]; the next failure is final.
pub const RESTART_LIMIT: usize = 5;
/// See [`RESTART_LIMIT`].
pub const RESTART_WINDOW: Duration = Duration::from_secs(300);

/// Restarts of one unit that nobody asked for.
#[derive(Debug, Default)]
pub struct RestartHistory {
    recent: VecDeque<Time>,
    in_a_row: u32,
    total: u32,
}

impl RestartHistory {
    /// Grants a restart and gives its delay, or `None` when the unit has used up its restarts.
    pub fn restart(&mut self, steady: bool, now: Time) -> Option<Duration> {
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) >= RESTART_WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= RESTART_LIMIT {
            return None;
        }
        self.recent.push_back(now);
        self.total = self.total.saturating_add(1);
        if steady {
            self.in_a_row = 0;
            return Some(Duration::ZERO);
        }
        let doublings = self.in_a_row.min(16);
        self.in_a_row += 1;
        Some((BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX))
    }

    /// Forgets earlier restarts, because the operator took a hand.
    pub fn forgive(&mut self) {
        self.recent.clear();
        self.in_a_row = 0;
    }

    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_the_sixth_restart_in_a_row_is_refused() {
        let mut history = RestartHistory::default();
        let delays: Vec<_> = (0..6).map(|second| history.restart(false, Time::from_secs(second))).collect();
        let expected: Vec<_> = [100, 200, 400, 800, 1600].map(|ms| Some(Duration::from_millis(ms))).to_vec();
        assert_eq!(delays[..5], expected);
        assert_eq!(delays[5], None);
    }

    #[test]
    fn old_restarts_are_forgotten_and_the_delay_stays_bounded() {
        let mut history = RestartHistory::default();
        for round in 0..40u64 {
            let delay = history.restart(false, Time::from_secs(round * 61)).expect("five minutes hold five restarts");
            assert!(delay <= BACKOFF_MAX);
        }
        assert_eq!(history.restart(false, Time::from_secs(40 * 61)), Some(BACKOFF_MAX));
        assert_eq!(history.total(), 41);
    }

    #[test]
    fn a_steady_unit_starts_again_at_once() {
        let mut history = RestartHistory::default();
        assert_eq!(history.restart(true, Time::ZERO), Some(Duration::ZERO));
        assert_eq!(history.restart(false, Time::ZERO), Some(BACKOFF_FIRST));
    }
}
