//! How far a chain that worked before may be trusted to work again.

/// Standard errors below the observed share of successes: one, so that a single failure is not yet the end.
const Z: f64 = 1.0;

/// The least share of successes that so many tries let expect, from 0 to 1: the lower end of Wilson's score interval of
/// one standard error (E. B. Wilson: Probable inference, 1927). Without tries it is 0, after one success 0.5, after one
/// success and one failure 0.21, after one and two 0.14.
pub fn reliability(successes: u32, failures: u32) -> f64 {
    let tries = f64::from(successes) + f64::from(failures);
    if tries == 0.0 {
        return 0.0;
    }
    let share = f64::from(successes) / tries;
    let middle = share + Z * Z / (2.0 * tries);
    let spread = Z * (share * (1.0 - share) / tries + Z * Z / (4.0 * tries * tries)).sqrt();
    ((middle - spread) / (1.0 + Z * Z / tries)).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_values_hold() {
        let rounded = |successes, failures| (reliability(successes, failures) * 100.0).round();
        assert_eq!(
            [rounded(0, 0), rounded(1, 0), rounded(1, 1), rounded(1, 2), rounded(9, 1)],
            [0.0, 50.0, 21.0, 14.0, 77.0]
        );
    }

    proptest! {
        #[test]
        fn a_failure_lowers_and_a_success_raises_it(successes in 1_u32..100_000, failures in 0_u32..100_000) {
            let now = reliability(successes, failures);
            prop_assert!((0.0..=1.0).contains(&now));
            prop_assert!(reliability(successes, failures + 1) < now);
            prop_assert!(reliability(successes + 1, failures) > now);
        }
    }
}
