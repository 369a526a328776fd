//! Quantities as people write them: sizes (`512MiB`) and durations (`90s`).

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A size in bytes. Written with a unit: `B`, `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`, `MB`, `GB` (powers of 1000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time. Written with units, largest first: `90s`, `1m30s`, `250ms`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// A quantity that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {kind}: write {example}")]
pub struct QuantityError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Units in milliseconds, largest first; `m` after `ms`, so that the longer name is tried first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.into(), kind: "size", example: "for example \"512MiB\" or \"2GiB\"" };
        let trimmed = text.trim();
        let (unit, factor) = SIZE_UNITS.iter().find(|(unit, _)| trimmed.ends_with(unit)).ok_or_else(error)?;
        let number: u64 = trimmed[..trimmed.len() - unit.len()].trim_end().parse().map_err(|_| error())?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(error)
    }
}

impl FromStr for HumanDuration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error =
            || QuantityError { text: text.into(), kind: "duration", example: "for example \"90s\" or \"1m30s\"" };
        let mut rest = text.trim();
        let mut total: u64 = 0;
        let mut last_factor = u64::MAX;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let (unit, factor) = TIME_UNITS.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(error)?;
            if *factor >= last_factor {
                return Err(error());
            }
            last_factor = *factor;
            rest = &rest[unit.len()..];
            total = number.checked_mul(*factor).and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
        }
        Ok(HumanDuration(Duration::from_millis(total)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Duration` can hold more milliseconds than u64; what was parsed never does.
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if ms >= factor {
                write!(f, "{}{unit}", ms / factor)?;
                ms %= factor;
            }
        }
        Ok(())
    }
}

macro_rules! serde_as_text {
    ($($quantity:ty),*) => {$(
        impl<'de> Deserialize<'de> for $quantity {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
        impl Serialize for $quantity {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serde_as_text!(ByteSize, HumanDuration);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("512MiB".parse(), Ok(ByteSize(512 << 20)));
        assert_eq!("10 kB".parse(), Ok(ByteSize(10_000)));
        for bad in ["", "512", "MiB", "-1MiB", "1.5GiB", "99999999999GiB", "1TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn durations_go_from_large_to_small_units() {
        assert_eq!("1m30s".parse(), Ok(HumanDuration(Duration::from_secs(90))));
        assert_eq!("250ms".parse(), Ok(HumanDuration(Duration::from_millis(250))));
        for bad in ["", "10", "s", "30s1m", "1s1s", "-1s", "1.5s", "1 week", "999999999999999999999d"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad} was accepted");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back_what_it_prints(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn a_duration_reads_back_what_it_prints(ms in 0u64..=u64::MAX / 2) {
            let duration = HumanDuration(Duration::from_millis(ms));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<HumanDuration>();
        }
    }
}
