//! Sessions whose names are no longer kept.
//!
//! A set that never misses what was put into it and takes up the same room however much that is (a Bloom filter). It may
//! hold a session that was never put in: then a human is asked once more than needed.

use sha2::{Digest as _, Sha256};

/// Bits, a power of two. With 100,000 sessions forgotten, one new session in 70 is taken for one of them.
const BITS: usize = 1 << 20;

/// Bits that a name sets.
const OF_NAME: usize = 4;

/// The names that were put in, and perhaps others.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Empty until the first name comes: most agents never have that many sessions.
    words: Vec<u64>,
}

impl Forgotten {
    /// Puts a name in, for good.
    pub fn add(&mut self, name: &str) {
        self.words.resize(BITS / 64, 0);
        for bit in bits(name) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether the name was put in; `true` may be wrong.
    pub fn may_hold(&self, name: &str) -> bool {
        !self.words.is_empty() && bits(name).iter().all(|bit| self.words[bit / 64] & (1 << (bit % 64)) != 0)
    }
}

fn bits(name: &str) -> [usize; OF_NAME] {
    let hash = Sha256::digest(name);
    std::array::from_fn(|n| {
        let bytes = hash[4 * n..][..4].try_into().expect("invariant: a SHA-256 has 32 bytes");
        u32::from_le_bytes(bytes) as usize % BITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_put_in_is_missed_and_few_others_are_taken_for_it() {
        let mut forgotten = Forgotten::default();
        assert!(!forgotten.may_hold("0"));
        (0..100_000).for_each(|n| forgotten.add(&format!("session {n}")));
        assert!((0..100_000).all(|n| forgotten.may_hold(&format!("session {n}"))));
        let wrong = (0..10_000).filter(|n| forgotten.may_hold(&format!("new {n}"))).count();
        assert!(wrong < 200, "{wrong} of 10,000");
    }
}
