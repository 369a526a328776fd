//! Rates (`30/min`), and who has used up what.

use std::{collections::HashMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// So many calls in so long. As many may come at once; after that they come back evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Period,
}

/// A unit of rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write 1 to 1000000 calls per s, min, h or day, for example \"30/min\"")]
pub struct RateError(String);

/// Token buckets: one of each agent for all its calls, and one for its calls of each tool.
///
/// A call that either bucket has no room for takes from neither.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// When the bucket will be full again. One that is full, or was never used, need not be here.
    full_at: HashMap<(String, Option<String>), Duration>,
}

/// Buckets after which those that are full are looked for and dropped.
const SWEEP_ABOVE: usize = 4096;

const MAX_COUNT: u32 = 1_000_000;

impl Rate {
    /// So many calls in a minute; at least one.
    pub const fn per_minute(count: u32) -> Rate {
        Rate { count: if count == 0 { 1 } else { count }, period: Period::Minute }
    }

    /// Time in which one call comes back, rounded up: never more calls than the rate says.
    fn interval(self) -> Duration {
        let period = match self.period {
            Period::Second => 1_000_000_000,
            Period::Minute => 60_000_000_000,
            Period::Hour => 3_600_000_000_000,
            Period::Day => 86_400_000_000_000_u64,
        };
        Duration::from_nanos(period.div_ceil(u64::from(self.count)))
    }
}

impl RateLimiter {
    /// Counts a call at `now` (of a clock that is never set back), or says how long to wait for one.
    ///
    /// `of_agent` is the rate of all the agent's calls, `of_tool` that of its calls of this tool.
    pub fn take(
        &mut self,
        agent: &str,
        of_agent: Rate,
        tool: &str,
        of_tool: Rate,
        now: Duration,
    ) -> Result<(), Duration> {
        let keys = [((agent.to_owned(), None), of_agent), ((agent.to_owned(), Some(tool.to_owned())), of_tool)];
        let mut wait = Duration::ZERO;
        let buckets = keys.map(|(key, rate)| {
            let after = self.full_at.get(&key).copied().unwrap_or_default().max(now) + rate.interval();
            // A full bucket holds `count` calls, so the last of them leaves it full in so long.
            wait = wait.max(after.saturating_sub(now + rate.interval() * rate.count));
            (key, after)
        });
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at.extend(buckets);
        if self.full_at.len() > SWEEP_ABOVE {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        Ok(())
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError(text.chars().take(40).collect());
        let (count, period) = text.split_once('/').ok_or_else(error)?;
        let plain = !count.is_empty() && !count.starts_with('0') && count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|count| plain && *count <= MAX_COUNT).ok_or_else(error)?;
        let period = match period {
            "s" => Period::Second,
            "min" => Period::Minute,
            "h" => Period::Hour,
            "day" => Period::Day,
            _ => return Err(error()),
        };
        Ok(Rate { count, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Second => "s",
            Period::Minute => "min",
            Period::Hour => "h",
            Period::Day => "day",
        };
        write!(f, "{}/{period}", self.count)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_reads_back_and_a_bad_one_is_refused() {
        for text in ["1/s", "30/min", "1000000/h", "5/day"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for bad in ["", "30", "0/s", "-1/s", "+1/s", "01/s", "1000001/s", "99999999999/s", "1/week", "1/s ", "1.5/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_burst_is_followed_by_an_even_flow() {
        let mut limiter = RateLimiter::default();
        let mut take = |now| limiter.take("web", rate("3/min"), "web.fetch", rate("100/s"), now);
        assert_eq!([take(S), take(S), take(S)], [Ok(()); 3]);
        assert_eq!(take(S), Err(20 * S));
        assert_eq!(take(11 * S), Err(10 * S));
        assert_eq!(take(21 * S), Ok(()));
        assert_eq!(take(21 * S), Err(20 * S));
        assert_eq!([take(100 * S), take(100 * S), take(100 * S)], [Ok(()); 3], "no more than a burst is saved up");
        assert_eq!(take(100 * S), Err(20 * S));
        assert_eq!(take(50 * S), Err(70 * S), "a clock that goes back gives nothing");
    }

    #[test]
    fn a_refused_call_takes_from_neither_bucket() {
        let mut limiter = RateLimiter::default();
        let (agent, tool) = (rate("2/min"), rate("1/min"));
        assert_eq!(limiter.take("a", agent, "x.x", tool, S), Ok(()));
        assert_eq!(limiter.take("a", agent, "x.x", tool, S), Err(60 * S));
        assert_eq!(limiter.take("a", agent, "x.y", tool, S), Ok(()), "the agent's bucket still has one");
        assert_eq!(limiter.take("a", agent, "x.z", tool, S), Err(30 * S));
        assert_eq!(limiter.take("b", agent, "x.x", tool, S), Ok(()), "another agent has its own");
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let mut limiter = RateLimiter::default();
        for tool in 0..3 * SWEEP_ABOVE as u64 {
            let at = Duration::from_millis(tool);
            limiter.take("a", rate("1000000/s"), &format!("t.t{tool}"), rate("1000/s"), at).unwrap();
        }
        assert!(limiter.full_at.len() <= SWEEP_ABOVE + 1, "{}", limiter.full_at.len());
    }

    proptest! {
        /// Against a bucket that counts in fractions of a call.
        #[test]
        fn it_does_what_a_counted_bucket_does(count in 1u32..9, gaps in prop::collection::vec(0u64..30, 1..60)) {
            let mut limiter = RateLimiter::default();
            let limit = Rate { count, period: Period::Minute };
            let (mut level, mut now) = (u64::from(count) * 60, 0);
            for gap in gaps {
                now += gap;
                // In sixtieths of a call: `count` of them come back each second.
                level = (level + gap * u64::from(count)).min(u64::from(count) * 60);
                let taken = limiter.take("a", limit, "t.t", rate("1000000/s"), Duration::from_secs(now));
                // A rounded interval may refuse in the very second in which the bucket has just enough.
                if taken.is_ok() {
                    prop_assert!(level >= 60);
                    level -= 60;
                } else {
                    prop_assert!(level < 60 + u64::from(count));
                }
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            if let Ok(read) = text.parse::<Rate>() {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
