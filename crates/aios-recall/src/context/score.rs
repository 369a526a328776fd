//! What a candidate is worth.

use std::time::Duration;

use super::{Candidate, Options};

/// Weighted relevance and recency, from 0 to 1.
pub(super) fn score<P>(candidate: &Candidate<P>, options: &Options) -> f64 {
    let weight = unit(options.relevance_weight);
    let recency = recency(options.now.saturating_sub(candidate.time), options.half_life.of(candidate.kind));
    weight * unit(candidate.relevance) + (1.0 - weight) * recency
}

/// 1 for what is new or has a time that is still to come, one half after `half_life`; `age` in milliseconds.
fn recency(age: i64, half_life: Duration) -> f64 {
    if age <= 0 {
        return 1.0;
    }
    // A half-life of zero makes everything old.
    let halves = age as f64 / (half_life.as_secs_f64() * 1000.0);
    (-halves).exp2()
}

/// `value` between 0 and 1, NaN as 0.
pub(super) fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recency_halves_with_each_half_life() {
        let hour = Duration::from_secs(3600);
        assert_eq!(recency(0, hour), 1.0);
        assert_eq!(recency(-5, hour), 1.0);
        assert_eq!(recency(3_600_000, hour), 0.5);
        assert_eq!(recency(7_200_000, hour), 0.25);
        assert_eq!(recency(i64::MAX, hour), 0.0);
        assert_eq!(recency(1, Duration::ZERO), 0.0);
        assert_eq!(recency(0, Duration::ZERO), 1.0);
    }
}
